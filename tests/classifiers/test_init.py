import subprocess
import sys

import pytest

import classifiers


@pytest.mark.parametrize("name", classifiers.__all__)
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(classifiers, name).__name__ == name


def test_another_name_is_not() -> None:
    with pytest.raises(AttributeError, match="Nonesuch"):
        _ = classifiers.Nonesuch


def test_the_import_is_light() -> None:
    code = (
        "import classifiers, classifiers.errors, sys; print(*sorted({'sklearn', 'faiss', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
