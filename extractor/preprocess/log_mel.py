"""A waveform (n_samples,) -> its log-mel spectrogram (n_frames, n_mels), float32."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from extractor.recipes import LogMelPreprocess

Array = NDArray[np.float64]

_TINY_DEVIATION = 1e-5  # NeMo's, for a band that stays the same
_LINEAR_HZ, _BREAK_HZ, _BREAK_MEL = 200 / 3, 1000.0, 15.0  # of Slaney's scale: linear below 1 kHz, logarithmic above
_LOG_STEP = np.log(6.4) / 27


def log_mel(waveform: NDArray[np.float32], facts: LogMelPreprocess) -> NDArray[np.float32]:
    """Compute the log-mel spectrogram of a waveform, in float64 until it is done.

    The mel scales are Slaney's (Auditory Toolbox, 1998) and HTK's (The HTK Book, 2006).

    Returns
    -------
    ndarray of shape (n_frames, n_mels), float32
    """
    power = np.abs(np.fft.rfft(_frames(waveform.astype(np.float64), facts) * _window(facts), axis=1)) ** facts.power
    mel = power if facts.mel_scale == "none" else power @ _filters(facts)
    found = _logarithm(mel + facts.floor if facts.floor_by == "add" else np.maximum(mel, facts.floor), facts.log)
    if facts.dynamic_range:
        found = np.maximum(found, found.max() - facts.dynamic_range)
    found = (found + facts.offset) * facts.scale
    if facts.normalise != "none":
        found = _normalised(found, axis=0 if facts.normalise == "band" else None)
    return found.astype(np.float32)


def n_frames(n_samples: int, facts: LogMelPreprocess) -> int:
    """Return how many frames a waveform gives."""
    padding = facts.n_fft // 2 * 2 if facts.center else 0
    return 1 + (n_samples + padding - facts.n_fft) // facts.hop_length - (1 if facts.drop_last else 0)


def _normalised(values: Array, *, axis: int | None) -> Array:
    """Bring values to mean 0 and the variance of a sample of 1."""
    n = values.size if axis is None else values.shape[axis]
    deviation = values.std(axis=axis, ddof=1 if n > 1 else 0)
    normal: Array = (values - values.mean(axis=axis)) / (deviation + _TINY_DEVIATION)
    return normal


def _frames(waveform: Array, facts: LogMelPreprocess) -> Array:
    if facts.preemphasis:
        waveform = np.concatenate([waveform[:1], waveform[1:] - facts.preemphasis * waveform[:-1]])
    n = n_frames(len(waveform), facts)
    if facts.center:
        waveform = np.pad(waveform, facts.n_fft // 2, mode="reflect")
    return np.lib.stride_tricks.sliding_window_view(waveform, facts.n_fft)[:: facts.hop_length][:n]


def _logarithm(values: Array, kind: str) -> Array:
    found: Array = np.log(values) if kind == "ln" else np.log10(values)
    return 10 * found if kind == "db" else found


@cache
def _window(facts: LogMelPreprocess) -> Array:
    n = facts.win_length
    angles = 2 * np.pi * np.arange(n) / (n - 1 if facts.window == "hann-symmetric" else n)
    share = 0.54 if facts.window == "hamming" else 0.5
    left = (facts.n_fft - n) // 2
    return np.pad(share - (1 - share) * np.cos(angles), (left, facts.n_fft - n - left))


@cache
def _filters(facts: LogMelPreprocess) -> Array:
    """Return the weights of the bands (n_fft // 2 + 1, n_mels): triangles in Hz between points even in mel."""
    ends = _to_mel(np.array([facts.f_min, facts.f_max]), facts.mel_scale)
    points = _to_hz(np.linspace(ends[0], ends[1], facts.n_mels + 2), facts.mel_scale)
    frequencies = np.fft.rfftfreq(facts.n_fft, 1 / facts.sample_rate)[:, None]
    below, middle, above = points[:-2], points[1:-1], points[2:]
    rising, falling = (frequencies - below) / (middle - below), (above - frequencies) / (above - middle)
    weights = np.maximum(0, np.minimum(rising, falling))
    return weights * 2 / (above - below) if facts.mel_norm == "slaney" else weights


def _to_mel(hz: Array, scale: str) -> Array:
    if scale == "htk":
        found: Array = 2595 * np.log10(1 + hz / 700)
        return found
    return np.where(hz < _BREAK_HZ, hz / _LINEAR_HZ, _BREAK_MEL + np.log(np.maximum(hz, 1) / _BREAK_HZ) / _LOG_STEP)


def _to_hz(mel: Array, scale: str) -> Array:
    if scale == "htk":
        found: Array = 700 * (10 ** (mel / 2595) - 1)
        return found
    return np.where(mel < _BREAK_MEL, mel * _LINEAR_HZ, _BREAK_HZ * np.exp((mel - _BREAK_MEL) * _LOG_STEP))
