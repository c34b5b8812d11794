"""The arrows of the design: who may import whom, and what an import may load."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("extractor", "classifiers", "headwater")

# Within a package, a module may import those of the rows above its own, and, where the row says so, of its own row.
EXTRACTOR_ROWS: list[set[str]] = [
    {"errors"},
    {"outcome", "recipes", "spec", "home", "limits", "items", "caller", "plan", "machine", "stages", "fidelity"},
    {"golden", "shelf", "runtime", "job", "batches", "speed"},
    {"fair"},
    {"decode", "preprocess", "backbone", "batcher", "cache"},  # the stages: none knows another
    {"prepare", "flights", "stored"},
    {"proof", "request", "comparison"},
    {"pipeline", "sources"},
    {"zoo", "dump"},
    {"precision"},
    {"export", "derive"},
    {"tune"},
]
CLASSIFIERS_ROWS: list[set[str]] = [
    {"errors"},
    {"embeddings"},
    {"preparation", "measures", "estimator_file", "shards", "similarity_join"},
    {"scorer"},
    {"head"},
    {"heads", "evaluate", "persist", "target", "columns", "network", "calibrate", "reject"}
    | {"suspects", "curve", "projection", "score_classifier", "names", "tasks", "suggest", "duplicates"}
    | {"vector_index"},
    {"kernel", "fewshot", "neighbours", "cached_keys", "shot_heads", "drift"},
    {"folds", "estimators", "audit"},
    {"search", "adaptive", "embedding_set"},
    {"chosen", "lean"},
    {"train", "learnt"},
    {"learning"},
    {"background"},
    {"learner"},
]
HEADWATER_ROWS: list[set[str]] = [
    {"errors", "v1", "console"},
    {"report"},
    {"labelled", "shelf", "dumps", "prediction"},
    {"onnx_head", "examples"},
    {"evaluation", "fuse"},
    {"training"},
    {"status", "keys", "exposure", "tls", "logs", "top", "order"},
    {"convert", "keyring", "channel", "retry", "job"},
    {"content", "heads", "fewshot"},
    {"exchange", "fewshot_evaluation"},
    {"flow"},
    {"core", "threads", "tasks", "head_calls", "fewshot_files"},  # of clients; `threads`, `tasks` drive a flow
    {"fewshot_calls"},
    {"adding", "pool"},
    {"heads_client", "heads_aio", "fewshot_client", "fewshot_aio"},
    {"service", "client", "aio", "admin_client"},
    {"server", "process", "spread"},
    {"demo"},
    {"fidelity"},
    {"commands"},
    {"cli"},
]
OPEN_ROWS = (EXTRACTOR_ROWS[1],)  # plain facts, which may know each other

# What no module of a package may import, whatever the layer.
FOREIGN = {
    "extractor": {"grpc", "sklearn", "faiss", "classifiers", "headwater"},
    "classifiers": {"grpc", "onnxruntime", "extractor", "headwater"},
    "headwater": set(),
}
# torch and its kind are for exports alone; onnx also for what makes one file of a head, or other graphs of a network.
EXPORT_ONLY = {"torch", "torchvision", "transformers", "timm", "onnx", "onnxscript"}
ONNX_FILES = {
    ROOT / "headwater" / "fuse.py",
    *(ROOT / "headwater" / "onnx_head").rglob("*.py"),
    *(ROOT / "extractor" / "precision").rglob("*.py"),
}


def modules(package: str) -> Iterator[Path]:
    generated = ROOT / "headwater" / "v1"
    return (path for path in sorted((ROOT / package).rglob("*.py")) if generated not in path.parents)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, also inside its functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(module: str) -> str:
    """`extractor.cache.memory` -> `cache`."""
    return module.split(".")[1] if "." in module else ""


def own_part(path: Path, package: str) -> str:
    first = path.relative_to(ROOT / package).parts[0]
    return first.removesuffix(".py")


def row_of(name: str, rows: list[set[str]]) -> int:
    return next((i for i, row in enumerate(rows) if name in row), -1)


@pytest.mark.parametrize(
    ("package", "rows"),
    [("extractor", EXTRACTOR_ROWS), ("classifiers", CLASSIFIERS_ROWS), ("headwater", HEADWATER_ROWS)],
)
def test_arrows_inside_a_package_run_one_way(package: str, rows: list[set[str]]) -> None:
    wrong = []
    for path in modules(package):
        own = own_part(path, package)
        if own in ("__init__", "__main__"):
            continue
        assert row_of(own, rows) >= 0, f"{path.relative_to(ROOT)} has no row in {Path(__file__).name}: give it one"
        for module in imports(path):
            other = part(module)
            if module.split(".")[0] != package or other == own or row_of(other, rows) < 0:
                continue
            level = row_of(other, rows) < row_of(own, rows)
            if not level and not (row_of(other, rows) == row_of(own, rows) and rows[row_of(own, rows)] in OPEN_ROWS):
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", PACKAGES)
def test_arrows_between_packages_run_one_way(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in modules(package)
        for module in imports(path)
        if module.split(".")[0] in FOREIGN[package]
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_export_imports_torch() -> None:
    allowed = {
        ROOT / "extractor" / "export.py",
        ROOT / "classifiers" / "network.py",
        *(ROOT / "extractor" / "zoo").rglob("*.py"),
    }
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for package in PACKAGES
        for path in modules(package)
        if path not in allowed
        for module in imports(path)
        if module.split(".")[0] in EXPORT_ONLY - ({"onnx"} if path in ONNX_FILES else set())
    ]
    assert not wrong, "\n".join(wrong)


def test_the_architecture_draws_the_same_rows() -> None:
    drawing = next(one for one in (ROOT / "ARCHITECTURE.md").read_text().split("```") if "extractor/ " in one)
    rooms = dict(re.findall(r"^(\w+)/ .*\n((?:  .*\n)+)", drawing, re.MULTILINE))
    drawn = {
        package: [{name.rstrip("/") for name in row.split()} for row in rows.split("|")]
        for package, rows in rooms.items()
    }
    assert drawn == {"extractor": EXTRACTOR_ROWS, "classifiers": CLASSIFIERS_ROWS, "headwater": HEADWATER_ROWS}


def test_the_walk_sees_imports() -> None:
    found = set(imports(ROOT / "extractor" / "pipeline.py"))
    assert {"extractor.backbone", "extractor.batcher", "extractor.prepare"} <= found


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        (
            "import headwater.client",
            {"onnxruntime", "PIL", "sklearn", "torch", "tokenizers", "blake3", "matplotlib", "lmdb", "redis"}
            | {"soundfile", "soxr"},
        ),
        ("import headwater.admin_client", {"onnxruntime", "PIL", "sklearn", "torch", "tokenizers", "blake3"}),
        ("import headwater; headwater.Client", {"onnxruntime", "PIL", "sklearn", "torch", "faiss"}),
        ("import headwater; headwater.AsyncClient", {"onnxruntime", "PIL", "sklearn", "torch", "faiss"}),
        (
            "import headwater.cli",
            {"onnxruntime", "openvino", "PIL", "sklearn", "torch", "faiss", "matplotlib", "pyarrow", "lmdb", "redis"}
            | {"onnx"},
        ),
        ("import headwater.report", {"onnxruntime", "PIL", "sklearn", "faiss", "jinja2"}),
        ("import headwater.server", {"opentelemetry", "sklearn", "scipy", "skops", "pyarrow", "torch", "faiss"}),
        ("import extractor", {"onnxruntime", "openvino", "PIL", "torch", "tokenizers"}),
        ("import extractor; extractor.Extractor", {"torch", "sklearn", "faiss", "grpc", "PIL", "soundfile", "soxr"}),
        ("import extractor.dump.on_ray", {"ray", "torch", "sklearn", "grpc"}),
        ("import extractor.zoo", {"torch", "transformers", "onnx"}),
    ],
)
def test_an_import_loads_no_more_than_it_needs(statement: str, heavy: set[str]) -> None:
    code = f"{statement}; import sys; print(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
