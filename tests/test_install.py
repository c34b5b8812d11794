"""Fresh environments, as users make them: a serving machine with neither torch nor the export extra, and a client."""

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from extractor.golden import read_golden
from headwater.process import serving

ROOT = Path(__file__).parents[1]
INSTALL_S = 240


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy, so that no build folder is left in the checkout
    ignore = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "tests", "demo-out")
    shutil.copytree(ROOT, source, ignore=ignore)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source]
    subprocess.run(command, check=True, timeout=INSTALL_S)
    (found,) = folder.glob("headwater-*.whl")
    return found


def environment(folder: Path, requirement: str) -> Path:
    """Make a virtual environment with one requirement and what it needs; return its interpreter."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", requirement]
    subprocess.run(command, check=True, timeout=INSTALL_S)
    return python


def installed(python: Path) -> set[str]:
    command = [python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
    return {one["name"].lower() for one in json.loads(subprocess.check_output(command))}


CLIENT = """
import sys
from pathlib import Path
import numpy as np
from headwater import Client
target, folder = sys.argv[1:]
golden = np.load(Path(folder) / "golden.npz")
data, offsets = golden["data"].tobytes(), golden["offsets"].tolist()
items = [data[a:b] for a, b in zip(offsets, offsets[1:])]
with Client(target) as client:
    difference = np.abs(client.extract(items) - golden["embeddings"]).max()
assert difference <= 1e-4, difference
assert not {"onnxruntime", "PIL", "sklearn"} & set(sys.modules)
"""


@pytest.mark.timeout(900)
def test_a_copied_folder_serves_without_torch_and_a_bare_client_asks(
    backbones: Path, wheel: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(backbones / "efficientnet-lite0", tmp_path / "copied")
    assert read_golden(copy / "golden.npz").items
    server_python = environment(tmp_path / "server", f"{wheel}[cpu]")
    client_python = environment(tmp_path / "client", str(wheel))
    assert not {"torch", "onnx", "transformers", "scikit-learn"} & installed(server_python)
    assert not {"onnxruntime", "pillow", "scikit-learn", "tokenizers"} & installed(client_python)

    with serving(str(copy), python=str(server_python), cwd=tmp_path) as server:
        command = [client_python, "-c", CLIENT, server.target, copy]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert server.stop() == 0

    headwater = tmp_path / "server" / "bin" / "headwater"
    home = {"HEADWATER_HOME": str(tmp_path / "empty"), "PATH": "/usr/bin:/bin"}
    bare = subprocess.run([headwater, "serve"], capture_output=True, text=True, env=home, timeout=60, check=False)
    assert bare.returncode == 1
    assert "pip install 'headwater[export]' && headwater export efficientnet-lite0" in bare.stderr.replace("\n", " ")
    no_runtime = [client_python, "-m", "headwater", "serve", copy]
    bare = subprocess.run(no_runtime, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert bare.returncode == 1
    assert "pip install 'headwater[cpu]'" in bare.stderr.replace("\n", " ")
