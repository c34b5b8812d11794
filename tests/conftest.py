"""What the tests share: a home of their own, tiny backbones made of a few ONNX nodes, and the real ones."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny import write_tiny_array, write_tiny_audio, write_tiny_image, write_tiny_series, write_tiny_text

# No test reaches for a model hub.
os.environ["HF_HUB_OFFLINE"] = "1"
# No test writes to the user's cache, nor finds there what another run has left.
os.environ["HEADWATER_CACHE"] = "off"
# A terminal's width is what a test says; pytest-xdist's processes inherit one that readline has set.
os.environ.pop("COLUMNS", None)


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """HEADWATER_HOME of the test session."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADWATER_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def ray_home() -> Iterator[Path]:
    """Where Ray has the sessions that it leaves behind: a short path, for sockets; at the end, none of it lives on."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_TMPDIR", folder)
            yield Path(folder)
        for process in Path("/proc").glob("[0-9]*"):
            try:
                told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
                if f"{folder}/".encode() in told or f"RAY_TMPDIR={folder}\0".encode() in told:
                    os.kill(int(process.name), signal.SIGKILL)
            except OSError:  # it has ended, or is another user's
                continue


@pytest.fixture(scope="session")
def backbones(home: Path) -> Path:
    """The folder that holds the two built-in backbones with their real weights, exported once."""
    from extractor.export import export
    from extractor.home import backbones_folder

    for name in ("efficientnet-lite0", "minilm-l6"):
        export(name)
    return backbones_folder()


@pytest.fixture(scope="session")
def tiny_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone folder whose embedding of an image is the mean of each channel (3,)."""
    return write_tiny_image(tmp_path_factory.mktemp("tiny") / "tiny-image")


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone folder whose embedding of a text is the mean of its tokens' rows in a table (4,)."""
    return write_tiny_text(tmp_path_factory.mktemp("tiny") / "tiny-text")


@pytest.fixture(scope="session")
def tiny_array(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone folder whose embedding of an array (2, 3) is the mean of its rows (3,)."""
    return write_tiny_array(tmp_path_factory.mktemp("tiny") / "tiny-array")


@pytest.fixture(scope="session")
def tiny_series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone folder whose embedding of an array (1 to 9, 2) is its largest row and its length (4,)."""
    return write_tiny_series(tmp_path_factory.mktemp("tiny") / "tiny-series")


@pytest.fixture(scope="session")
def tiny_audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone folder whose embedding of a sound is the mean of its samples and that of their magnitudes (2,)."""
    return write_tiny_audio(tmp_path_factory.mktemp("tiny") / "tiny-audio")
