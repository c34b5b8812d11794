"""`headwater dashboard`: the Grafana dashboard of a server's metrics -> stdout."""

from importlib.resources import files

import typer


def dashboard() -> None:
    """Print a Grafana dashboard of what a server shows on its metrics port, to be imported there.

    Example: `headwater dashboard > headwater.json`
    """
    typer.echo((files("headwater") / "dashboards" / "headwater.json").read_text("utf-8"), nl=False)
