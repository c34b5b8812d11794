from pathlib import Path

import numpy as np
import pytest

from extractor.errors import BackboneChanged, EmptyItem
from extractor.limits import Limits
from extractor.outcome import Outcome
from extractor.spec import Spec, read_spec
from extractor.stages import StageTimes
from headwater import convert
from headwater.convert import RequestLimits
from headwater.v1 import extractor_pb2 as pb


@pytest.fixture
def spec(tiny_image: Path) -> Spec:
    return read_spec(tiny_image)


def test_outcomes_survive_the_wire_bit_for_bit(spec: Spec) -> None:
    rows = np.array([[1, -0.0, 3e-45], [np.float32(0.1), 2, 65504]], np.float32)
    outcomes = [
        Outcome(rows[0], cached=True),
        Outcome(error=EmptyItem("item has 0 bytes")),
        Outcome(rows[1], truncated=True),
    ]
    response = pb.ExtractResponse.FromString(
        convert.from_outcomes(spec, outcomes, StageTimes(1, 2, 3, 4)).SerializeToString()
    )
    assert (response.times.queue_ms, response.times.cache_ms) == (1, 4)
    assert (response.fingerprint, response.dim, response.backbone) == (spec.fingerprint, 3, spec.name)
    assert response.embeddings == rows.astype("<f4").tobytes()
    first, failed, last = convert.to_outcomes(response, response.dim)
    assert first.embedding.tobytes() == rows[0].tobytes()
    assert (first.cached, first.truncated) == (True, False)
    assert type(failed.error) is EmptyItem
    assert str(failed.error) == "item has 0 bytes"
    assert failed.embedding is None
    assert last.embedding.tobytes() == rows[1].tobytes()
    assert (last.cached, last.truncated) == (False, True)


def test_items_survive_the_wire() -> None:
    items = [b"", b"\0\xff", b"x" * 1000]
    request = pb.ExtractRequest.FromString(convert.from_items("b", items).SerializeToString())
    assert request.backbone == "b"
    assert convert.to_items(request) == items
    assert convert.to_items(pb.ExtractRequest(items=[pb.Item()])) == [b""]


def test_facts_survive_the_wire(spec: Spec) -> None:
    limits = Limits(max_item_bytes=1, max_text_bytes=2, max_pixels=3)
    message = convert.from_backbone(
        spec, "cpu", limits, RequestLimits(max_items=4, max_message_bytes=5, max_stream_items=6)
    )
    info = convert.to_backbone(pb.Backbone.FromString(message.SerializeToString()))
    assert (info.name, info.fingerprint, info.dim, info.modality) == (spec.name, spec.fingerprint, 3, "image")
    assert (info.provider, info.limits, info.request_limits) == (
        "cpu",
        limits,
        RequestLimits(max_items=4, max_message_bytes=5, max_stream_items=6),
    )


def test_another_fingerprint_is_refused_with_both_named(spec: Spec) -> None:
    info = convert.to_backbone(convert.from_backbone(spec, "cpu", Limits(), RequestLimits()))
    convert.check_fingerprint(pb.ExtractResponse(fingerprint=spec.fingerprint), info)
    with pytest.raises(BackboneChanged, match=f"0000.*{spec.fingerprint}"):
        convert.check_fingerprint(pb.ExtractResponse(fingerprint="0000"), info)
