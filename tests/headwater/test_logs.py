"""Lines of logs: by the formatters themselves, and by a server's process."""

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

from headwater import Client, logs
from headwater.v1 import extractor_pb2 as pb
from headwater.v1 import extractor_pb2_grpc
from tests.tiny import flat, png


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    return logging.getLogger("headwater.test").makeRecord(
        "headwater.test", logging.INFO, "file.py", 1, message, arguments, None, extra=extra
    )


@pytest.fixture
def in_a_request() -> Iterator[str]:
    token = logs.request_id.set("mine-1")
    yield "mine-1"
    logs.request_id.reset(token)


def test_a_record_is_one_line_of_json() -> None:
    line = logs.JsonLines().format(record("two\nlines of %s", "é", ms=1.5, secret="no"))
    assert "\n" not in line
    facts = json.loads(line)
    time = datetime.fromisoformat(facts.pop("time"))
    assert abs(datetime.now(UTC) - time).total_seconds() < 60
    assert facts == {"level": "INFO", "logger": "headwater.test", "message": "two\nlines of é", "ms": 1.5}


def test_a_traceback_is_in_the_line() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        one = record("it failed")
        one.exc_info = sys.exc_info()
    facts = json.loads(logs.JsonLines().format(one))
    assert facts["message"] == "it failed"
    assert "ValueError: why" in facts["traceback"]


def test_both_forms_carry_the_id_of_the_request(in_a_request: str) -> None:
    assert json.loads(logs.JsonLines().format(record("x")))["request_id"] == in_a_request
    assert logs.TextLines().format(record("x")).endswith("INFO headwater.test [mine-1]: x")


def test_text_outside_a_request_has_no_id() -> None:
    assert logs.TextLines().format(record("x")).endswith("INFO headwater.test: x")


def test_a_server_writes_json_and_nothing_else(tiny_image: Path) -> None:
    options = ["--port", "0", "--metrics-port", "0", "--log-format", "json", "--log-level", "debug"]
    command = [sys.executable, "-m", "headwater", "serve", str(tiny_image), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        with grpc.insecure_channel(address) as channel:
            stub = extractor_pb2_grpc.ExtractorServiceStub(channel)
            stub.Extract(pb.ExtractRequest(items=[pb.Item(data=b"")]), metadata=[("x-request-id", "mine-2")])
        with Client(address) as client:
            client.extract([png(flat(1))])
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    lines = [json.loads(line) for line in err.splitlines()]
    messages = [line["message"] for line in lines]
    assert any(message.startswith("metrics at http://127.0.0.1:") for message in messages)
    calls = [line for line in lines if "method" in line]
    assert [call["method"] for call in calls].count("Extract") == 2
    assert {call["code"] for call in calls} == {"OK"}
    assert calls[0]["request_id"] == "mine-2"
    assert len({call["request_id"] for call in calls}) == len(calls)
    assert not [line for line in lines if "method" not in line and "request_id" in line]
    assert messages[-1] == "stopped"
