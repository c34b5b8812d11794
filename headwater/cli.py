"""The `headwater` command: one module a subcommand, put together here."""

import sys
from typing import NoReturn

import typer
from rich.markup import escape

from classifiers.errors import ClassifierError
from extractor.errors import ExtractorError
from headwater.commands.admin import admin
from headwater.commands.backbones import backbones
from headwater.commands.cache import cache
from headwater.commands.dashboard import dashboard
from headwater.commands.demo import demo
from headwater.commands.drift import drift
from headwater.commands.dump import DumpCommand, dump
from headwater.commands.dupes import dupes
from headwater.commands.evaluate import evaluate
from headwater.commands.export import export
from headwater.commands.export_head import export_head
from headwater.commands.extract import extract
from headwater.commands.fewshot import fewshot
from headwater.commands.fuse import fuse
from headwater.commands.heads import heads
from headwater.commands.index import index
from headwater.commands.keys import keys
from headwater.commands.layers import layers
from headwater.commands.map import map_
from headwater.commands.near import near
from headwater.commands.predict import predict
from headwater.commands.serve import serve
from headwater.commands.top import top
from headwater.commands.train import train
from headwater.commands.tune import tune
from headwater.commands.zoo import zoo
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
for command in (
    demo,
    zoo,
    export,
    layers,
    backbones,
    tune,
    serve,
    top,
    dashboard,
    extract,
    dump,
    train,
    predict,
    evaluate,
    fuse,
):
    app.command(cls=DumpCommand if command is dump else None)(command)
app.command("map")(map_)
app.command()(near)
app.command()(dupes)
app.command()(drift)
app.command()(index)
app.add_typer(admin, name="admin")
app.add_typer(keys, name="keys")
app.add_typer(cache, name="cache")
heads.command("export")(export_head)
app.add_typer(heads, name="heads")
app.add_typer(fewshot, name="fewshot")


# Which extra brings a module that a command found missing.
_RUNTIME = "'headwater[cpu]', or 'headwater[gpu]' beside an NVIDIA GPU"
_CLASSIFIERS = "'headwater[classifiers]'"
_BROUGHT_BY = {
    **dict.fromkeys(("blake3", "grpc_health", "grpc_reflection", "lmdb", "onnxruntime", "PIL"), _RUNTIME),
    **dict.fromkeys(("prometheus_client", "tokenizers"), _RUNTIME),
    **dict.fromkeys(("faiss", "jinja2", "matplotlib", "sklearn", "skops"), _CLASSIFIERS),
    "onnx": "'headwater[export]'",
    "torch": "'headwater[network]'",
    **dict.fromkeys(("fsspec", "pyarrow"), "'headwater[dump]'"),
    **dict.fromkeys(("soundfile", "soxr"), "'headwater[audio]'"),
    "redis": "'headwater[redis]'",
}


def main() -> None:
    """Run the command; an error that the user can mend is a message on stderr and exit code 1."""
    try:
        app()
    except (ClassifierError, ExtractorError, HeadwaterError) as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        extra = _BROUGHT_BY.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        _fail(f"{error.name} is not installed: pip install {extra}")


def _fail(message: str) -> NoReturn:
    err.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)
    sys.exit(1)
