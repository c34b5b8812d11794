"""The options of every command that calls a server: what it proves itself with, and whom it trusts."""

from pathlib import Path
from typing import Annotated

import typer

KeyOption = Annotated[
    str | None,
    typer.Option(
        help="API key; others on this machine can see it unless it is in HEADWATER_KEY.", envvar="HEADWATER_KEY"
    ),
]
CaOption = Annotated[
    str | None,
    typer.Option(
        help="Authorities in PEM that may vouch for the server, or `system`: with it, TLS.", envvar="HEADWATER_CA"
    ),
]
CertOption = Annotated[Path | None, typer.Option(help="Certificate of this client, in PEM.", envvar="HEADWATER_CERT")]
CertKeyOption = Annotated[Path | None, typer.Option(help="Its private key, in PEM.", envvar="HEADWATER_CERT_KEY")]
