"""A template, its script and values -> a page that loads nothing: only its own script may run, by its hash."""

import base64
import hashlib
import os
import secrets
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2


def rendered(template: str, script: str, filters: Mapping[str, Callable[..., Any]], **values: Any) -> str:
    """Return a page; every value in it is escaped.

    Parameters
    ----------
    template, script : str
        Names of files of this package; the template is given `style`, `script` and `script_hash` beside the values.
    filters : mapping of str to callable
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= dict(filters)
    code = _file(script)
    return environment.from_string(_file(template)).render(
        **values,
        style=environment.from_string(_file("style.css.j2")).render(),
        script=code,
        script_hash=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
    )


def write_page(path: Path, text: str) -> None:
    """Write a file under a temporary name, and rename it; a name that is no character becomes a question mark."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(text.encode("utf-8", "replace"))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _file(name: str) -> str:
    return resources.files("headwater.report").joinpath(name).read_text("utf-8")
