"""`headwater export`: the name of a network, or one that is brought -> a backbone folder."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from headwater.console import err, out
from headwater.errors import DataInvalid

if TYPE_CHECKING:
    from extractor.spec import Spec
    from extractor.zoo.choice import Choice

MAX_PROOF_ITEMS = 64  # each is run again whenever the backbone is loaded
_OWN = "A network of one's own"
_PRECISION = "With --precision"
_SIGNALLED = 128  # and the signal's number: what a shell gives for a program that a signal ended


def export(
    name: Annotated[
        str,
        typer.Argument(
            help="A built-in backbone, such as `efficientnet-lite0` or `minilm-l6`; or `torchvision:NAME[@WEIGHTS]`, "
            "`timm:NAME`, `hf:REPOSITORY_OR_FOLDER`, `words:FILE`, `torch:MODULE:FACTORY`, `onnx:FILE`; with "
            "`--precision`, an installed one. `headwater zoo` lists them."
        ),
    ],
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder to make; by default `HEADWATER_HOME/backbones/NAME`.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="`fp16`, for GPUs, `bf16`, where the processor has it, or `int8`: make `NAME@PRECISION` from the "
            "installed NAME, which stays as it is."
        ),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            help="A folder, table or archive of items like yours, from which `int8` takes its ranges; by default "
            "built-in ones. One in four is held, unless there is `--held`.",
            rich_help_panel=_PRECISION,
        ),
    ] = None,
    held: Annotated[
        str | None,
        typer.Option(
            help="A folder, table or archive of items on which the precision is compared with fp32, and with labels "
            "a head; by default built-in ones.",
            rich_help_panel=_PRECISION,
        ),
    ] = None,
    label_column: Annotated[
        str,
        typer.Option(help="Of a table that is held, where there is one.", rich_help_panel=_PRECISION),
    ] = "label",
    item_column: Annotated[
        str | None,
        typer.Option(
            help="Of a table: of texts or bytes; by default `text`, or the one of bytes.", rich_help_panel=_PRECISION
        ),
    ] = None,
    path_column: Annotated[
        str | None,
        typer.Option(
            help="Of a table: of paths; by default `path`, where there is no `text`.", rich_help_panel=_PRECISION
        ),
    ] = None,
    floor: Annotated[
        float | None,
        typer.Option(
            help="The least mean cosine to fp32, by default 0.995: as few of the worst layers as are enough stay in "
            "fp32, and where half are not enough nothing is made.",
            rich_help_panel=_PRECISION,
        ),
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--output",
            "--layer",
            help="The node, or value, whose output is the embedding; several, `a,b` or the option twice, are "
            "concatenated. `headwater layers` lists them; by default `penultimate`, what an encoder "
            "gives, or a classifier's last linear layer takes.",
            rich_help_panel=_OWN,
        ),
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(
            help="`gap` or `max` over maps of features; `mean`, `max`, `cls`, `last` or `pooler` of tokens; `flatten`.",
            rich_help_panel=_OWN,
        ),
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option(
            help="`array`, `audio`, `image` or `text`; by default what the network tells, else `array`.",
            rich_help_panel=_OWN,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="A file of weights, safetensors or a state dict that torch saved; or `random`, to try an "
            "architecture. By default those that were published.",
            rich_help_panel=_OWN,
        ),
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="Of that file; another is refused.", rich_help_panel=_OWN)] = None,
    arguments: Annotated[
        str | None,
        typer.Option(
            help='What the network is made with, as JSON or a file of it: `{"num_classes": 14}`.',
            rich_help_panel=_OWN,
        ),
    ] = None,
    preprocess: Annotated[
        str | None,
        typer.Option(
            help='How items become its input, as JSON or a file of it: `{"sample_rate": 16000}`, `{"recipe": '
            '"log-mel/1", "sample_rate": 16000, "n_mels": 64}`, `{"mean": [123.7, 116.3, 103.5], "std": [58.4, 57.1, '
            '57.4]}`, `{"shape": [4, 84, 84]}`.',
            rich_help_panel=_OWN,
        ),
    ] = None,
    scale: Annotated[
        float,
        typer.Option(
            help="What a waveform or an array is multiplied by: 32768 for a network that takes sounds of 16 bits.",
            rich_help_panel=_OWN,
        ),
    ] = 1.0,
    lengths: Annotated[
        str | None, typer.Option(help="Its input that takes the length of each item.", rich_help_panel=_OWN)
    ] = None,
    mask: Annotated[
        str | None, typer.Option(help="Its input that takes a mask, 1 for what is no padding.", rich_help_panel=_OWN)
    ] = None,
    pads: Annotated[
        bool,
        typer.Option(
            "--pads",
            help="With `--lengths` or `--mask`: padding changes nothing, so items of different lengths share a batch. "
            "The proof tells if it is not so.",
            rich_help_panel=_OWN,
        ),
    ] = False,
    called: Annotated[
        str | None, typer.Option("--name", help="Of the backbone; by default the file's.", rich_help_panel=_OWN)
    ] = None,
    source: Annotated[str, typer.Option(help="Where the weights come from.", rich_help_panel=_OWN)] = "",
    licence: Annotated[str, typer.Option(help="On what terms.", rich_help_panel=_OWN)] = "",
    items: Annotated[
        Path | None,
        typer.Option(help="Folder of real items for the proof; by default they are made up.", rich_help_panel=_OWN),
    ] = None,
) -> None:
    """Make a backbone folder from pretrained weights, proved equal to the reference framework.

    Example: `headwater export efficientnet-lite0`

    Example: `headwater export torchvision:resnet50 --layer layer3 --layer penultimate`

    Example: `headwater export onnx:policy.onnx --output /net/relu_2 --pooling flatten`

    Example: `headwater export minilm-l6 --precision int8 --calibrate texts.csv`
    """
    choice = _choice(
        layers=_several(layers or []),
        pooling=pooling,
        modality=modality,
        preprocess=read_facts("--preprocess", preprocess),
        weights=weights,
        sha256=sha256,
        arguments=read_facts("--arguments", arguments),
        scale=scale,
        lengths=lengths,
        mask=mask,
        pads=pads,
        name=called,
        source=source,
        licence=licence or "not stated",
        items=_read_items(items),
    )
    if precision is not None:
        if choice is not None:
            raise DataInvalid(
                f"--precision makes {name}@{precision} from the installed {name} as it is; export that first, with "
                "what is said of a network of one's own, then its precision without"
            )
        columns = {"item": item_column, "path": path_column, "label": label_column}
        made = _derive_with_progress(
            name, precision, folder, calibrate=calibrate, held=held, columns=columns, floor=floor
        )
    elif (calibrate, held, item_column, path_column, label_column, floor) != (None, None, None, None, "label", None):
        raise DataInvalid(
            "--calibrate, --held, their columns and --floor are of another precision; name it with --precision"
        )
    else:
        made = export_with_progress(name, folder, choice)
    shown = made.resolve() if folder else made.name
    out.print(f"{made.name} is in {made}\nserve it: [bold]headwater serve {shown}[/]", soft_wrap=True)


def export_with_progress(name: str, folder: Path | None = None, choice: "Choice | None" = None) -> Path:
    """Export a backbone and show the step in hand."""
    from extractor.export import export as make

    with _ended_by_sigterm(), err.status(f"{name}: starting") as status:

        def progress(step: str) -> None:
            err.print(f"{name}: {step}")
            status.update(f"{name}: {step} …")

        return make(name, folder, choice=choice, progress=progress)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Have SIGTERM end an export as Ctrl-C does, so that nothing of it is left; a second one ends all."""
    if current_thread() is not main_thread():  # no other may take a signal
        yield
        return
    former = signal.getsignal(signal.SIGTERM)

    def end(number: int, _: object) -> None:
        signal.signal(number, former)
        err.print(f"stopped by {signal.Signals(number).name}: nothing was made")
        raise SystemExit(_SIGNALLED + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _derive_with_progress(
    name: str,
    precision: str,
    folder: Path | None,
    *,
    calibrate: str | None,
    held: str | None,
    columns: dict[str, Any],
    floor: float | None,
) -> Path:
    """Make a backbone in another precision, and show how near it stands."""
    from extractor.derive import FLOOR, check, derive
    from extractor.shelf import find_backbone
    from extractor.sources import Options
    from extractor.spec import read_spec
    from headwater.fidelity import terms_of

    source = find_backbone(name)
    spec = read_spec(source)
    check(spec, precision)
    with _ended_by_sigterm(), err.status(f"{name}: starting") as status:

        def progress(step: str) -> None:
            if not step.startswith("layer "):  # of which there are many
                err.print(f"{name}: {step}")
            status.update(f"{name}: {step} …")

        terms = terms_of(
            spec.modality,
            precision,
            calibrate=calibrate,
            held=held,
            columns=Options(**columns),
            floor=FLOOR if floor is None else floor,
        )
        made = derive(source, precision, folder, terms=terms, progress=progress)
    out.print(_fidelity(read_spec(made)))
    return made


def _fidelity(spec: "Spec") -> Table:
    """Lay out how near a backbone stands to fp32."""
    table = Table("", "", box=SIMPLE_HEAD, show_header=False)
    if (report := spec.report) is None:
        return table
    near, head, kept = report.fidelity, report.head, report.kept_fp32
    shown = {
        "held items": f"{near.n_items}" + (f", calibrated on {report.n_calibrated}" if report.n_calibrated else ""),
        "mean cosine to fp32": f"{near.mean_cosine:.5f}, at least {report.floor:g}",
        "least cosine": f"{near.min_cosine:.5f}",
        "same nearest neighbour": f"{100 * near.neighbours:.1f} %",
        "same among the ten nearest": f"{100 * near.neighbours_10:.1f} %",
        "accuracy of a head": f"{100 * head.own:.1f} %, in fp32 {100 * head.fp32:.1f} %, of {head.n_items} items"
        if head
        else "not known: it takes two labels, each of two held items",
        "layers in fp32": escape(", ".join(kept)) or "none",
    }
    for row in shown.items():
        table.add_row(*row)
    return table


def _several(given: list[str]) -> tuple[str, ...]:
    return tuple(name.strip() for one in given for name in one.split(",") if name.strip())


def _choice(**given: Any) -> "Choice | None":
    """Return what was chosen; None where nothing was."""
    from extractor.zoo.choice import Choice

    choice = Choice(**given)
    return None if choice == Choice() else choice


def read_facts(option: str, given: str | None) -> dict[str, Any] | None:
    """Read what an option says: JSON, or the path of a file of it.

    Raises
    ------
    DataInvalid
        It is neither, or no object.
    """
    if given is None:
        return None
    try:
        facts = json.loads(given if given.lstrip().startswith("{") else Path(given).read_bytes())
    except OSError as error:
        raise DataInvalid(f"{option} {given} cannot be read: {error.strerror}; give JSON, or a file of it") from None
    except ValueError as error:
        raise DataInvalid(f"{option} {given} is not JSON ({error})") from None
    if not isinstance(facts, dict):
        raise DataInvalid(f"{option} {given} is a {type(facts).__name__}; give an object of facts")
    return facts


def _read_items(folder: Path | None) -> tuple[bytes, ...]:
    """Return the content of the first files of a folder."""
    if folder is None:
        return ()
    from extractor.items import as_bytes
    from extractor.limits import Limits

    if not folder.is_dir():
        raise DataInvalid(f"--items {folder} is no folder; name one that holds items")
    files = sorted(file for file in folder.iterdir() if file.is_file())[:MAX_PROOF_ITEMS]
    if not files:
        raise DataInvalid(f"--items {folder} has no file in it; name a folder that holds items")
    return tuple(as_bytes(file, max_bytes=Limits().max_item_bytes) for file in files)
