"""Items to choose from -> the messages of `Suggest`, and what a server suggests, by their places among all."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from numpy.typing import ArrayLike

from extractor.errors import ExtractorError
from extractor.outcome import Outcome
from headwater import content
from headwater.content import Content
from headwater.convert import BackboneInfo
from headwater.exchange import MAX_ITEMS
from headwater.fewshot import Suggestion, Suggestions, to_suggestions
from headwater.fewshot_calls import at_least_one, items_of, matrix, needed
from headwater.head_calls import MAX_ROWS, MAX_ROWS_BYTES
from headwater.v1 import fewshot_pb2 as pb


@dataclass(eq=False)
class Pool:
    """Items to choose from on their way into the messages of `Suggest`.

    Parameters
    ----------
    task : str
    n : int
        How many to suggest.
    info : BackboneInfo, optional
        What reads the items; None for embeddings.
    fingerprint : str
        Of the embeddings.
    """

    task: str
    n: int
    info: BackboneInfo | None = None
    fingerprint: str = ""
    _failures: dict[int, ExtractorError] = field(default_factory=dict)
    _sent: list[int] = field(default_factory=list)  # the places of what the server has
    _items: list[bytes] = field(default_factory=list)
    _n_bytes: int = 0
    _n_taken: int = 0
    _begun: bool = False

    def __post_init__(self) -> None:
        at_least_one("n", self.n)

    def take(self, one: Content) -> pb.SuggestRequest | None:
        """Take one more item; return the message of those before it, where that is full."""
        position, self._n_taken = self._n_taken, self._n_taken + 1
        if isinstance(one, Outcome):
            if one.error is not None:
                self._failures[position] = one.error
            return None
        message = self.rest() if self._items and self._is_full(len(one)) else None
        self._sent.append(position)
        self._items.append(one)
        self._n_bytes += len(one)
        return message

    def rest(self) -> pb.SuggestRequest:
        """Return the message of the items that are in no other."""
        message = pb.SuggestRequest() if self._begun else pb.SuggestRequest(task=self.task, n=self.n)
        if self.fingerprint:
            message.embeddings, message.fingerprint = b"".join(self._items), self.fingerprint
        else:
            message.items.extend(items_of(self._items))
        self._begun, self._items, self._n_bytes = True, [], 0
        return message

    def told(self, response: pb.SuggestResponse) -> Suggestions:
        """Return what a server suggests, by positions among all that were taken."""
        there = to_suggestions(response)
        return Suggestions(
            there.version,
            tuple(Suggestion(self._sent[one.position], one.label, one.uncertainty) for one in there.items),
            there.reason,
            there.n_failed + len(self._failures),
            {**{self._sent[at]: error for at, error in there.failures.items()}, **self._failures},
        )

    def _is_full(self, size: int) -> bool:
        if self.info is None:
            return len(self._items) == MAX_ROWS or self._n_bytes + size > MAX_ROWS_BYTES
        max_items = min(MAX_ITEMS, self.info.request_limits.max_items)
        return len(self._items) == max_items or self._n_bytes + size > content.max_bytes(self.info)


def pool_of_embeddings(task: str, X: ArrayLike, fingerprint: str, n: int) -> tuple[Pool, Iterator[pb.SuggestRequest]]:
    """Return a pool of embeddings (n, dim), and its messages."""
    pool = Pool(task, n, fingerprint=needed(fingerprint))
    return pool, pool_messages(pool, (row.tobytes() for row in matrix(X)))


def pool_messages(pool: Pool, contents: Iterable[Content]) -> Iterator[pb.SuggestRequest]:
    """Yield the messages that carry items of a pool."""
    for one in contents:
        if (message := pool.take(one)) is not None:
            yield message
    yield pool.rest()
