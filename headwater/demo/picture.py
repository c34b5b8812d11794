"""Embeddings, labels and predictions -> one PNG: a 2-D map of the embeddings, and the confusion matrix."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extractor.outcome import Embedding

PALETTE = "tab10"
PRINCIPAL = 50  # components that t-SNE starts from, as its authors advise


def save_picture(
    path: Path, embeddings: Embedding, labels: NDArray[np.str_], predictions: NDArray[np.str_], *, title: str
) -> None:
    """Draw and save the picture.

    Parameters
    ----------
    path : Path
        Where the PNG goes.
    embeddings : ndarray of shape (n, dim), float32
    labels, predictions : ndarray of shape (n,)
        What the items are, and what a head that did not see them says.
    title : str
    """
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(15, 7), layout="constrained")
    figure.suptitle(title, fontsize=15)
    _draw_map(left, _map(embeddings), labels)
    _draw_confusion(right, labels, predictions)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _map(embeddings: Embedding) -> NDArray[np.float32]:
    """Return positions (n, 2) by t-SNE (van der Maaten and Hinton, JMLR 2008) on the unit-length embeddings."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import normalize

    unit = normalize(embeddings)
    reduced = PCA(min(PRINCIPAL, *unit.shape), random_state=0).fit_transform(unit)
    positions: NDArray[np.float32] = TSNE(init="pca", random_state=0).fit_transform(reduced)
    return positions


def _draw_map(axes: Any, positions: NDArray[np.float32], labels: NDArray[np.str_]) -> None:
    from matplotlib import colormaps

    for i, label in enumerate(np.unique(labels)):
        mine = positions[labels == label]
        axes.scatter(*mine.T, s=9, color=colormaps[PALETTE](i % 10), alpha=0.7, linewidths=0)
        axes.annotate(
            label,
            np.median(mine, axis=0),
            fontsize=16,
            weight="bold",
            ha="center",
            va="center",
            bbox={"boxstyle": "circle", "fc": "white", "ec": colormaps[PALETTE](i % 10), "alpha": 0.85},
        )
    axes.set(xticks=[], yticks=[], title="what the frozen backbone sees (t-SNE of its embeddings)")


def _draw_confusion(axes: Any, labels: NDArray[np.str_], predictions: NDArray[np.str_]) -> None:
    from sklearn.metrics import ConfusionMatrixDisplay

    ConfusionMatrixDisplay.from_predictions(labels, predictions, ax=axes, cmap="Blues", colorbar=False)
    axes.set(title="what the head learnt (each item predicted by a head that did not see it)")
