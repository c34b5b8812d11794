"""Few-shot tasks that last: examples are on disk before they are answered, and in memory as arrays for readers.

`store` has the tasks of a folder, `task` one of them. Its file (`schema`, `file`) is the truth; `support` and
`neighbours` are derived from it, and follow each change.
"""

from classifiers.tasks.facts import Added, Change, Example, Limits, TaskFacts
from classifiers.tasks.live import Nearest
from classifiers.tasks.settings import Settings
from classifiers.tasks.store import TaskStore
from classifiers.tasks.support import Support
from classifiers.tasks.task import Task

__all__ = ["Added", "Change", "Example", "Limits", "Nearest", "Settings", "Support", "Task", "TaskFacts", "TaskStore"]
