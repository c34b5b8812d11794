"""A sound -> float32 (n_samples,) at the graph's rate, within the backbone's bounds."""

import numpy as np
import soxr
from numpy.typing import NDArray

from extractor.errors import EmptyItem, UndecodableItem
from extractor.recipes import AudioPreprocess

_QUALITIES = {"soxr-hq": "HQ", "soxr-vhq": "VHQ"}
_TINY_VARIANCE = 1e-7  # as Wav2Vec 2.0's own preparation has it


def to_waveform(samples: NDArray[np.float32], sample_rate: int, facts: AudioPreprocess) -> NDArray[np.float32]:
    """Resample, cut at `max_samples`, normalise where the graph wants it, and pad with silence or refuse.

    Parameters
    ----------
    samples : ndarray of shape (n,), float32
    sample_rate : int
        Of these samples.
    facts : AudioPreprocess

    Returns
    -------
    ndarray of shape (n_samples,), float32
        At `facts.sample_rate`, with `min_samples` to `max_samples` samples.

    Raises
    ------
    EmptyItem
        Nothing is left of it at that rate.
    UndecodableItem
        The sound is too short, and the backbone does not pad.
    """
    if sample_rate != facts.sample_rate:
        samples = soxr.resample(samples, sample_rate, facts.sample_rate, quality=_QUALITIES[facts.resampling])
    if not len(samples):
        raise EmptyItem(f"sound lasts less than one sample at {facts.sample_rate:,} Hz; send a longer one")
    samples = samples[: facts.max_samples]
    if len(samples) < facts.min_samples and facts.too_short == "refuse":
        raise UndecodableItem(
            f"sound lasts {len(samples) / facts.sample_rate:.3f} s, the backbone takes "
            f"{facts.min_samples / facts.sample_rate:.3f} s or more; send a longer one"
        )
    if facts.unit_variance:
        samples = (samples - samples.mean()) / np.sqrt(samples.var() + _TINY_VARIANCE)
    return np.pad(samples, (0, max(0, facts.min_samples - len(samples))))
