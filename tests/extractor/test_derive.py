"""A backbone of another precision: another fingerprint, and the first one stays as it was."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from extractor.derive import derive
from extractor.errors import BackboneInvalid, BackboneNotFound, ExportError
from extractor.golden import Golden, read_golden, write_golden
from extractor.shelf import find_backbone
from extractor.spec import Spec, read_spec, sha256, verify_files, write_spec
from tests.runtimes import needs_bf16
from tests.tiny import write_tiny_dense

pytestmark = needs_bf16


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    return write_tiny_dense(tmp_path / "dense")


def test_the_new_backbone_has_another_fingerprint_and_the_first_its_own(dense: Path, home: Path) -> None:
    before = read_spec(dense)
    made = derive(dense, "bf16")
    try:
        assert made == home / "backbones" / "dense@bf16" == find_backbone("dense@bf16")
        after = read_spec(made)
        assert (after.name, after.precision, after.files) == ("dense@bf16", "bf16", before.files)
        assert after.fingerprint != before.fingerprint
        assert read_spec(dense) == before
        verify_files(made, after)
    finally:
        shutil.rmtree(made)


def test_a_folder_too_far_from_its_golden_embeddings_is_not_made(dense: Path, tmp_path: Path) -> None:
    golden = read_golden(dense / "golden.npz")
    turned = Golden(golden.items, np.roll(golden.embeddings, 1, axis=1))
    (dense / "golden.npz").unlink()
    write_golden(dense / "golden.npz", turned)
    spec = read_spec(dense)
    files = {**spec.files, "golden.npz": sha256(dense / "golden.npz")}
    write_spec(dense, Spec(**{**spec.__dict__, "files": files}))
    with pytest.raises(BackboneInvalid, match="misses its golden embeddings"):
        derive(dense, "bf16", tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dense"]


def test_what_cannot_be_derived_is_said(dense: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="precision is 'int4'; a backbone can be derived in fp16, bf16, int8"):
        derive(dense, "int4", tmp_path / "new")
    with pytest.raises(ExportError, match="what was learnt on it would be lost"):
        derive(dense, "bf16", dense)
    made = derive(dense, "bf16", tmp_path / "new")
    with pytest.raises(ExportError, match="is in bf16; derive from the backbone in fp32"):
        derive(made, "bf16", tmp_path / "newer")
    with pytest.raises(BackboneNotFound, match="headwater export missing --precision bf16"):
        find_backbone("missing@bf16")
