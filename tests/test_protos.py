"""The generated code is that of the protos as they stand."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_generated_code_is_not_stale(tmp_path: Path) -> None:
    protos = sorted((ROOT / "protos").rglob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'protos'}"]
    command += [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run([*command, *map(str, protos)], check=True)
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(made) == 3 * len(protos)
    stale = [str(path) for path, text in made.items() if (ROOT / path).read_text() != text]
    assert not stale, f"run `make protos`: {stale}"
    known = {ROOT / path for path in made} | {ROOT / "headwater/v1/__init__.py"}
    left_over = [str(path) for path in (ROOT / "headwater/v1").glob("*.py*") if path not in known]
    assert not left_over, f"no proto makes these: {left_over}"
