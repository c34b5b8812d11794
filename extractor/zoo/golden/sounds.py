"""Made-up sounds of several lengths, by which audio backbones prove themselves: no recording is anybody's."""

import io
import wave
from itertools import count

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
SECONDS = (0.2, 0.35, 0.5, 0.8, 1.1, 1.5, 2.2)
_VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480))  # Hz; Peterson and Barney, 1952


def sounds(n: int = len(SECONDS)) -> list[bytes]:
    """Return n sounds as WAV of 16 bits, no two the same: vowels on a gliding pitch, with some noise."""
    lengths = (SECONDS[i % len(SECONDS)] for i in count())
    return [_wav(_voice(seed, seconds)) for seed, seconds in zip(range(n), lengths, strict=False)]


def _voice(seed: int, seconds: float) -> NDArray[np.float64]:
    """Return a waveform (n_samples,) in -1 to 1."""
    draw = np.random.default_rng(seed)
    n = round(seconds * SAMPLE_RATE)
    begin, end = draw.uniform(90, 260, 2)
    pitch = np.linspace(begin, end, n)
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    formants = np.array(_VOWELS[seed % len(_VOWELS)])
    voice = np.zeros(n)
    points = np.linspace(begin, end, 100)  # of the pitch, between which loudness is interpolated
    for harmonic in range(1, 25):
        nearness = np.exp(-(((harmonic * points[:, None] - formants) / 120) ** 2)).sum(axis=1)
        loudness = np.interp(np.arange(n) / n * 99, np.arange(100), 0.02 + nearness) / harmonic
        voice += loudness * np.sin(harmonic * phase)
    swell = np.sin(np.pi * np.arange(n) / n) ** 0.5
    voice = voice / np.abs(voice).max() * swell + 0.01 * draw.standard_normal(n)
    scaled: NDArray[np.float64] = 0.6 * voice / np.abs(voice).max()
    return scaled


def _wav(samples: NDArray[np.float64]) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.round(32767 * samples).astype("<i2").tobytes())
    return buffer.getvalue()
