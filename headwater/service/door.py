"""The door: what a call brings, a key or a certificate, and what it asks for -> a `Pass`, or a refusal that says why.

Who asks is told by `authorization: Bearer hw_<id>_<secret>` or `x-api-key: hw_<id>_<secret>` among the call's metadata,
or else by the common name of its client certificate, which gRPC has verified. With a file of keys, a certificate stands
for the key of its name, with that key's roles and bounds. Without one, every caller has every role, but `admin` only
where the server is bound to this machine alone: whoever may reach a port is not by that its administrator.

Health and reflection do not come through here: balancers ask for them, and have no key.
"""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc.aio

from extractor.caller import Caller
from extractor.errors import Closed, NotServing, QueueFull, RequestTooLarge
from headwater.errors import PermissionDenied, RateExceeded, TooManyCalls, Unauthenticated
from headwater.keyring import KeyRing
from headwater.keys import Key, Role
from headwater.service.bucket import Bucket

Context = grpc.aio.ServicerContext[Any, Any]
Metadata = Iterable[tuple[str, str | bytes]] | None

EVERY_ROLE = frozenset(Role)

# Any of these roles opens the method. Whoever may do anything may see what there is to do it with.
ROLES_FOR: dict[str, frozenset[Role]] = {
    "Extract": frozenset({Role.EXTRACT}),
    "ExtractStream": frozenset({Role.EXTRACT}),
    "ListBackbones": EVERY_ROLE,
    "GetBackbone": EVERY_ROLE,
    "Predict": frozenset({Role.CLASSIFY}),
    **dict.fromkeys(("ListHeads", "GetHead"), frozenset({Role.CLASSIFY, Role.TEACH})),
    **dict.fromkeys(("TrainHead", "ActivateHead", "DeleteHead"), frozenset({Role.TEACH})),
    **dict.fromkeys(("Classify", "ClassifyStream", "ClassifyWithExamples"), frozenset({Role.CLASSIFY})),
    **dict.fromkeys(
        ("GetTask", "ListTasks", "ListExamples", "ListChanges", "Suggest", "Audit"),
        frozenset({Role.CLASSIFY, Role.TEACH}),
    ),
    **dict.fromkeys(
        ("CreateTask", "UpdateTask", "DeleteTask", "AddExamples", "RemoveExamples"), frozenset({Role.TEACH})
    ),
    **dict.fromkeys(("RelabelExamples", "RenameClass", "MergeClasses", "RemoveClass"), frozenset({Role.TEACH})),
    **dict.fromkeys(("UndoChanges", "ExportTask", "ImportTask"), frozenset({Role.TEACH})),
    # An administrator sees everyone's jobs.
    **dict.fromkeys(("WatchJob", "GetJob", "ListJobs", "CancelJob"), frozenset({Role.TEACH, Role.ADMIN})),
    **dict.fromkeys(
        ("LoadBackbone", "UnloadBackbone", "ReplaceBackbone", "Drain", "SetLogLevel", "GetServerStatus"),
        frozenset({Role.ADMIN}),
    ),
}

# Nothing was computed for the items, and so they cost their key nothing.
NOTHING_DONE = (Closed, NotServing, QueueFull, RequestTooLarge)

# A caller may hold four times the calls that are free: alone 4/5 of all, of n greedy ones each 4/(4n + 1), so that
# the next always finds some (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches",
# IEEE/ACM Transactions on Networking 6(2), 1998).
SHARE = 4
RETRY_MS = (20, 5000)  # least and most that a caller is told to wait for the end of someone's call
MEMORY = 0.1  # weight of the newest call in the mean time of a call


@dataclass(frozen=True)
class Visitor:
    """Who stands at the door.

    Parameters
    ----------
    id : str
        What its calls are counted under; "" for all whose names are not known.
    caller : Caller
    roles : frozenset of Role
    key : Key, optional
        Where there is a file of keys.
    name : str
        Of its certificate, where there is no such file; "" where nobody has a name.
    """

    id: str
    caller: Caller
    roles: frozenset[Role]
    key: Key | None = None
    name: str = ""


class Pass:
    """What a call that was let in may use.

    Parameters
    ----------
    visitor : Visitor
    bill : callable
        Takes items from the visitor's rate; those of a negative number are given back.
    """

    def __init__(self, visitor: Visitor, bill: Callable[[Visitor, int], None]) -> None:
        self._visitor = visitor
        self._bill = bill
        self._charged = 0

    @property
    def caller(self) -> Caller:
        """Who calls."""
        return self._visitor.caller

    @property
    def owner(self) -> str:
        """Whose a job is that the call begins; "" where callers have no names: then each is everyone's."""
        return self._visitor.key.id if self._visitor.key is not None else self._visitor.name

    def may_see(self, owner: str) -> bool:
        """Tell whether what is someone's may be seen: by the same, and by administrators."""
        return owner == self.owner or Role.ADMIN in self._visitor.roles

    @property
    def max_items(self) -> int | None:
        """Items that may ever come at once, or None where no rate bounds them."""
        key = self._visitor.key
        return key.bucket_size if key is not None and key.items_per_s is not None else None

    def charge(self, n_items: int) -> None:
        """Count the items of a request, or of one message of a stream, before they are worked on.

        Raises
        ------
        RateExceeded
            They are too many for now, or for ever.
        Unauthenticated
            The key has been revoked since the stream began.
        """
        self._bill(self._visitor, n_items)
        self._charged = n_items

    def give_back(self) -> None:
        """Count the items of the last message not at all: nothing was done for them."""
        self._bill(self._visitor, -self._charged)
        self._charged = 0


class Door:
    """Lets calls in: one key's roles, rate and calls at once, and the calls at once of all. For one event loop.

    Parameters
    ----------
    ring : KeyRing, optional
    max_calls : int
        Calls at once, of all callers.
    open_roles : frozenset of Role
        What a caller may do where there are no keys.
    certificates : bool
        Whether clients show certificates.
    clock : callable
        Monotonic, in seconds.
    """

    def __init__(
        self,
        ring: KeyRing | None = None,
        *,
        max_calls: int = 1024,
        open_roles: frozenset[Role] = EVERY_ROLE,
        certificates: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ring = ring
        self._max_calls = max_calls
        self._open_roles = open_roles
        self._certificates = certificates
        self._clock = clock
        self._running: Counter[str] = Counter()
        self._buckets: defaultdict[str, Bucket] = defaultdict(Bucket)
        self._call_s = 0.0  # mean time of the calls that ended lately

    @contextmanager
    def admit(self, context: Context, method: str) -> Iterator[Pass]:
        """Let a call in while the block runs.

        Raises
        ------
        Unauthenticated, PermissionDenied, TooManyCalls
        """
        visitor = self._visitor(context)
        _check_role(visitor, method)
        self._check_room(visitor)
        self._running[visitor.id] += 1
        begun = self._clock()
        admitted = Pass(visitor, self._bill)
        try:
            yield admitted
        except NOTHING_DONE:
            admitted.give_back()
            raise
        finally:
            self._call_s += MEMORY * (self._clock() - begun - self._call_s)
            self._leave(visitor)

    def _leave(self, visitor: Visitor) -> None:
        self._running[visitor.id] -= 1
        if not self._running[visitor.id]:
            del self._running[visitor.id]

    def _visitor(self, context: Context) -> Visitor:
        name = _certified_name(context) if self._certificates else None
        if self._ring is None:
            caller = Caller(name or context.peer())  # a connection, where nobody has a name
            return Visitor(caller.name, caller, self._open_roles, name=name or "")
        sent = sent_key(context.invocation_metadata())
        if sent is None and name is None:
            raise Unauthenticated("this server asks for a key; send it as `authorization: Bearer hw_...`")
        key = self._ring.find(sent) if sent is not None else self._ring.named(name or "")
        return Visitor(key.id, Caller(key.name, key.weight), key.roles, key)

    def _check_room(self, visitor: Visitor) -> None:
        held, running = self._running[visitor.id], self._running.total()
        max_held = visitor.key.max_calls if visitor.key else None
        if max_held is not None and held >= max_held:
            raise TooManyCalls(
                f"the key {visitor.caller.name!r} has {held} calls running, and may have {max_held}; wait for one",
                self._retry_ms(),
            )
        if running >= self._max_calls:
            raise TooManyCalls(
                f"{running} calls are running, the limit of the server is {self._max_calls}; try again later",
                self._retry_ms(),
            )
        if visitor.id and held >= SHARE * (self._max_calls - running):
            raise TooManyCalls(
                f"{visitor.caller.name!r} has {held} of the server's {self._max_calls} calls, and what is left "
                "is for others; wait for one",
                self._retry_ms(),
            )

    def _bill(self, visitor: Visitor, n_items: int) -> None:
        if self._ring is None or visitor.key is None:
            return
        key = self._ring.again(visitor.key) if n_items > 0 else visitor.key
        if key.items_per_s is None:
            return
        terms = f"the key {key.name!r} may send {key.items_per_s:g} items a second and {key.bucket_size:,} at once"
        if n_items > key.bucket_size:
            raise RateExceeded(f"{terms}: {n_items:,} items at once can never pass; send fewer a request", -1)
        now = self._clock()
        wait_s = self._buckets[key.id].take(n_items, rate=key.items_per_s, size=key.bucket_size, now=now)
        if wait_s > 0:
            raise RateExceeded(f"{terms}: {n_items:,} items may come in {wait_s:.3f} s", math.ceil(1000 * wait_s))

    def _retry_ms(self) -> int:
        least, most = RETRY_MS
        return round(min(most, max(least, 1000 * self._call_s)))


def _check_role(visitor: Visitor, method: str) -> None:
    if method not in ROLES_FOR:
        raise LookupError(f"no roles are written down for the method {method}: give it a row in {__name__}")
    needed = ROLES_FOR[method]
    if visitor.roles & needed:
        return
    if visitor.key is None:
        raise PermissionDenied(
            f"{method} is for administrators, and this server, which others can reach, has no keys to know them by; "
            "serve with --keys, or on this machine alone"
        )
    raise PermissionDenied(
        f"{method} needs a key with the role {' or '.join(sorted(needed))}; {visitor.caller.name!r} has "
        f"{', '.join(sorted(visitor.roles))}"
    )


def sent_key(metadata: Metadata) -> str | None:
    """Return the key that a call brings, or None."""
    values = dict(metadata or ())
    scheme, _, key = str(values.get("authorization", "")).partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    other = values.get("x-api-key")
    return None if other is None else str(other).strip()


def _certified_name(context: Context) -> str | None:
    """Return the common name of the client certificate that gRPC has verified, or None."""
    names = list(context.auth_context().get("x509_common_name", ()))
    return names[0].decode(errors="replace") if names else None
