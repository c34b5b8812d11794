"""The `headwater` command: one module a subcommand, put together here."""

import sys

import typer
from rich.markup import escape

from extractor.errors import ExtractorError
from headwater.commands.backbones import backbones
from headwater.commands.export import export
from headwater.commands.extract import extract
from headwater.commands.serve import serve
from headwater.console import err
from headwater.errors import HeadwaterError

app = typer.Typer(
    help="Frozen pretrained backbones, served over gRPC, and classifiers learnt on their embeddings.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (export, backbones, serve, extract):
    app.command()(command)


def main() -> None:
    """Run the command; an error that the user can mend is a message on stderr and exit code 1."""
    try:
        app()
    except (ExtractorError, HeadwaterError) as error:
        err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
