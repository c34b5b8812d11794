"""Labels, probabilities and embeddings -> a report that a person reads: `report.html`, self-contained, and JSON.

Names are loaded on first use, so that `import headwater` loads neither scikit-learn nor Jinja.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headwater.report.facts import Examples, Report, Tried
    from headwater.report.make import make_report
    from headwater.report.page import write_report

__all__ = ["Examples", "Report", "Tried", "make_report", "write_report"]

_HOMES = {"make_report": "make", "write_report": "page"} | dict.fromkeys(("Examples", "Report", "Tried"), "facts")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"headwater.report.{_HOMES[name]}"), name)
