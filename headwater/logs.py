"""What a server writes on stderr: log records -> lines of text or of JSON, each with the id of the request at hand.

A JSON line has `time` (ISO 8601, UTC), `level`, `logger`, `message`, and `request_id` inside a call; the line that ends
a call also has `method`, `code`, `ms`, `items` and `caller`. Neither form holds items, keys or a call's metadata.
"""

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class Form(StrEnum):
    """How a line is written."""

    text = "text"
    json = "json"


class Level(StrEnum):
    """What is too little to be written; one a call is `debug`."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Of the call at hand; asyncio tasks and `asyncio.to_thread` hand it on, workers' threads, which serve many, do not."""

_OURS = ("extractor", "classifiers", "headwater")
_CALL_FIELDS = ("method", "code", "ms", "items", "caller")


def configure(form: Form, level: Level) -> None:
    """Write all logs to stderr.

    Parameters
    ----------
    form : Form
    level : Level
        Of our own loggers; those of libraries say nothing below `info`.
    """
    logging.basicConfig(level=logging.INFO, force=True)
    logging.getLogger().handlers[0].setFormatter(JsonLines() if form is Form.json else TextLines())
    set_level(level)


def set_level(level: Level) -> None:
    """Set the level of Headwater's loggers."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger().setLevel(max(number, logging.INFO))
    for name in _OURS:
        logging.getLogger(name).setLevel(number)


class TextLines(logging.Formatter):
    """`2026-01-31 12:00:00,000 INFO headwater.server [4bf92f3577b34da6]: message`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s%(request)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or several where there is a traceback."""
        current = request_id.get()
        record.request = f" [{current}]" if current else ""
        return super().format(record)


class JsonLines(logging.Formatter):
    """One JSON object a record, on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        facts: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if current := request_id.get():
            facts["request_id"] = current
        facts |= {name: getattr(record, name) for name in _CALL_FIELDS if hasattr(record, name)}
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        return json.dumps(facts)
