import re
from types import ModuleType
from typing import NamedTuple

import grpc
import pytest

import classifiers.errors
import extractor.errors
import headwater.errors
from extractor.errors import ExtractorError, ItemError, ItemTooLarge, QueueFull, RequestTooLarge
from headwater import status
from headwater.errors import PermissionDenied, RateExceeded, ServiceError, TooManyCalls


@pytest.mark.parametrize("kind", list(status.all_errors()), ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_and_comes_back_as_itself(kind: type[status.CallError]) -> None:
    error = kind("what, the limit, what next")
    assert status.code_of(error) is not grpc.StatusCode.OK
    metadata = tuple(Metadatum(*pair) for pair in status.metadata_of(error))
    again = status.call_error(Call(status.code_of(error), str(error), metadata))
    assert type(again) is kind
    assert str(again) == str(error)


@pytest.mark.parametrize("kind", list(status.all_errors([ExtractorError])), ids=lambda kind: kind.__name__)
def test_every_error_of_an_item_comes_back_as_itself(kind: type[ExtractorError]) -> None:
    error = kind("what, the limit, what next")
    again = status.error_from(status.code_number(error), status.reason_of(error), str(error))
    assert type(again) is kind
    assert str(again) == str(error)


@pytest.mark.parametrize(
    "module", [classifiers.errors, extractor.errors, headwater.errors], ids=lambda one: one.__name__
)
def test_every_error_stands_in_the_tree_that_its_module_draws(module: ModuleType) -> None:
    drawn = set(re.findall(r"^[│├└─ ]*([A-Z]\w+)", module.__doc__ or "", re.MULTILINE))
    defined = {
        name for name, one in vars(module).items() if isinstance(one, type) and one.__module__ == module.__name__
    }
    assert defined <= drawn


def test_no_name_stands_for_two_errors() -> None:
    names = [kind.__name__ for kind in status.all_errors()]
    assert len(names) == len(set(names))


def test_an_error_of_a_newer_server_is_an_item_error_with_its_code() -> None:
    error = status.error_from(5, "SomethingNew", "words")
    assert type(error) is ItemError
    assert str(error) == "NOT_FOUND: words"


class Call(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str, metadata: tuple) -> None:
        self.code, self.details, self.trailing_metadata = (lambda: code), (lambda: details), (lambda: metadata)


class Metadatum(NamedTuple):  # as grpc has it; grpc.aio has bare pairs
    key: str
    value: str


def test_a_failed_call_is_the_servers_own_error_or_a_service_error() -> None:
    known = Call(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", (Metadatum("headwater-reason", "QueueFull"),))
    assert isinstance(status.call_error(known), QueueFull)
    assert status.pushback_ms_of(known) is None
    assert status.pushback_ms_of(Call(known.code(), "full", (("grpc-retry-pushback-ms", "30"),))) == 30
    other = status.call_error(Call(grpc.StatusCode.UNAVAILABLE, "no route", ()))
    assert isinstance(other, ServiceError)
    assert (other.code, str(other)) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE: no route")


@pytest.mark.parametrize(
    ("error", "pushback"),
    [
        (QueueFull("full", 70), "70"),
        (RateExceeded("slower", 1200), "1200"),
        (RateExceeded("never", -1), "-1"),
        (TooManyCalls("full"), None),
        (RequestTooLarge("large"), "-1"),
        (PermissionDenied("no"), None),
    ],
)
def test_an_error_tells_when_to_try_again(error: status.CallError, pushback: str | None) -> None:
    assert dict(status.metadata_of(error)).get("grpc-retry-pushback-ms") == pushback


def test_an_items_own_fault_is_an_invalid_argument() -> None:
    assert status.code_of(ItemTooLarge("")) is grpc.StatusCode.INVALID_ARGUMENT
