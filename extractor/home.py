"""The one home on disk: `HEADWATER_HOME`, by default the platform's data folder."""

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """Return the folder that holds `backbones/`, `heads/` and `tasks/`; it need not exist yet."""
    return Path(os.environ.get("HEADWATER_HOME") or platformdirs.user_data_dir("headwater", appauthor=False))


def cache_folder() -> Path:
    """Return the folder where embeddings are kept unless one says otherwise: in the platform's cache folder."""
    return Path(platformdirs.user_cache_dir("headwater", appauthor=False)) / "embeddings"


def heads_folder() -> Path:
    """Return the folder whose subfolders are the heads that were trained."""
    return home() / "heads"


def tasks_folder() -> Path:
    """Return the folder whose files are the few-shot tasks."""
    return home() / "tasks"


def backbones_folder() -> Path:
    """Return the folder whose subfolders are the installed backbones."""
    return home() / "backbones"
