"""Embeddings and labels -> predictions: heads, few-shot classifiers, and how well they do.

Everything here takes `X` (n, dim) and `y` (n,) and never learns where they came from.
Names are loaded on first use, so that `import classifiers` loads neither scikit-learn nor FAISS.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classifiers.adaptive import AdaptiveClassifier
    from classifiers.audit import Audit
    from classifiers.cached_keys import CachedKeys
    from classifiers.embedding_set import EmbeddingSet
    from classifiers.evaluate import Episode, EpisodeScores, episodes, evaluate_episodes
    from classifiers.fewshot import NearestClassMean
    from classifiers.heads import LogisticHead
    from classifiers.learner import Learner
    from classifiers.neighbours import NearestNeighbours
    from classifiers.shot_heads import KernelLogistic, RidgeHead
    from classifiers.suggest import Suggested
    from classifiers.tasks import Settings, TaskStore

__all__ = [
    "AdaptiveClassifier",
    "Audit",
    "CachedKeys",
    "EmbeddingSet",
    "Episode",
    "EpisodeScores",
    "KernelLogistic",
    "Learner",
    "LogisticHead",
    "NearestClassMean",
    "NearestNeighbours",
    "RidgeHead",
    "Settings",
    "Suggested",
    "TaskStore",
    "episodes",
    "evaluate_episodes",
]

_HOMES = {
    "AdaptiveClassifier": "adaptive",
    "Audit": "audit",
    "CachedKeys": "cached_keys",
    "EmbeddingSet": "embedding_set",
    "KernelLogistic": "shot_heads",
    "Learner": "learner",
    "LogisticHead": "heads",
    "NearestClassMean": "fewshot",
    "NearestNeighbours": "neighbours",
    "RidgeHead": "shot_heads",
    "Settings": "tasks",
    "Suggested": "suggest",
    "TaskStore": "tasks",
} | dict.fromkeys(("Episode", "EpisodeScores", "episodes", "evaluate_episodes"), "evaluate")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"classifiers.{_HOMES[name]}"), name)
