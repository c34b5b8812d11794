"""Items to choose from, on their way, and what is suggested."""

from extractor.errors import EmptyItem, UndecodableItem
from extractor.outcome import Outcome
from headwater import status
from headwater.heads import item_status
from headwater.pool import Pool
from headwater.v1 import fewshot_pb2 as pb


def test_a_pool_tells_positions_among_all_that_were_taken() -> None:
    pool = Pool("birds", 2, fingerprint="f" * 32)
    for one in (b"0123", Outcome(error=EmptyItem("nothing")), b"4567", b"89ab"):
        assert pool.take(one) is None
    message = pool.rest()
    assert (message.task, message.n, message.embeddings) == ("birds", 2, b"0123456789ab")
    later = pool.rest()
    assert not later.task
    response = pb.SuggestResponse(suggestions=[pb.Suggestion(position=2), pb.Suggestion(position=0)], failed_items=1)
    response.failures.add(position=1, error=item_status(UndecodableItem("no")))
    told = pool.told(response)
    assert told.positions == [3, 0]
    assert {at: status.reason_of(error) for at, error in told.failures.items()} == {
        1: "EmptyItem",
        2: "UndecodableItem",
    }
    assert told.n_failed == 2
