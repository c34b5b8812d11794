"""Log-mel spectrograms against those of transformers, Whisper's and with every option."""

import itertools

import numpy as np
import pytest

from extractor.preprocess.log_mel import log_mel, n_frames
from extractor.recipes import LogMelPreprocess
from tests.tiny import noise

audio_utils = pytest.importorskip("transformers.audio_utils")

RATE = 16_000
WHISPER = LogMelPreprocess(
    sample_rate=RATE, min_samples=400, max_samples=30 * RATE, dynamic_range=8.0, offset=4.0, scale=0.25, drop_last=True
)


def sound(seconds: float) -> np.ndarray:
    return noise(round(seconds * RATE)).astype(np.float32)


def test_whispers_features_are_whispers() -> None:
    from transformers import WhisperFeatureExtractor

    waveform = sound(30)
    expected = WhisperFeatureExtractor()(waveform, sampling_rate=RATE, return_tensors="np").input_features[0].T
    found = log_mel(waveform, WHISPER)
    assert found.shape == expected.shape == (3000, 80) == (n_frames(len(waveform), WHISPER), 80)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("scale", "norm", "log", "center"),
    list(itertools.product(("slaney", "htk"), ("slaney", "none"), ("ln", "log10", "db"), (True, False))),
)
def test_every_option_is_that_of_transformers(scale: str, norm: str, log: str, center: bool) -> None:
    waveform = sound(0.5)
    facts = LogMelPreprocess(
        sample_rate=RATE,
        min_samples=512,
        max_samples=RATE,
        n_fft=512,
        win_length=320,
        window="hamming",
        f_min=60.0,
        f_max=7600.0,
        n_mels=24,
        mel_scale=scale,
        mel_norm=norm,
        log=log,
        center=center,
        power=1.0,
        floor=1e-5,
    )
    bank = audio_utils.mel_filter_bank(257, 24, 60.0, 7600.0, RATE, None if norm == "none" else norm, scale)
    window = np.pad(audio_utils.window_function(320, "hamming", periodic=True), 96)
    expected = audio_utils.spectrogram(
        waveform,
        window,
        512,
        160,
        512,
        power=1.0,
        center=center,
        mel_filters=bank,
        mel_floor=1e-5,
        log_mel={"ln": "log", "log10": "log10", "db": "log10"}[log],
    ).T
    np.testing.assert_allclose(log_mel(waveform, facts), expected * (10 if log == "db" else 1), atol=1e-4)


def test_nemos_features_have_mean_0_and_variance_1_in_each_band() -> None:
    facts = LogMelPreprocess(
        sample_rate=RATE,
        min_samples=512,
        max_samples=RATE,
        n_fft=512,
        win_length=320,
        window="hann-symmetric",
        preemphasis=0.97,
        n_mels=64,
        log="ln",
        floor=2.0**-24,
        floor_by="add",
        normalise="band",
    )
    found = log_mel(sound(0.5), facts)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(axis=0, ddof=1), 1, atol=1e-4)
    assert np.isfinite(log_mel(np.zeros(512, np.float32), facts)).all()


def test_deep_speech_2_takes_the_bins_themselves() -> None:
    facts = LogMelPreprocess(
        sample_rate=RATE,
        min_samples=320,
        max_samples=RATE,
        n_fft=320,
        win_length=320,
        window="hamming",
        n_mels=161,
        mel_scale="none",
        power=1.0,
        log="ln",
        floor=1.0,
        floor_by="add",
        normalise="item",
    )
    waveform = sound(0.5)
    window = audio_utils.window_function(320, "hamming", periodic=True)
    magnitudes = audio_utils.spectrogram(waveform, window, 320, 160, 320, power=1.0)
    expected = np.log1p(magnitudes).T
    expected = (expected - expected.mean()) / expected.std(ddof=1)
    np.testing.assert_allclose(log_mel(waveform, facts), expected, atol=1e-3)


@pytest.mark.parametrize("n_fft", [399, 400])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("drop_last", [True, False])
def test_as_many_frames_are_told_as_are_made(n_fft: int, center: bool, drop_last: bool) -> None:
    sizes = {"n_fft": n_fft, "win_length": n_fft, "min_samples": 560, "max_samples": 16_000}
    facts = LogMelPreprocess(sample_rate=16_000, center=center, drop_last=drop_last, **sizes)
    facts.check()
    for n in (560, 1599, 1600, 1601, 16_000):
        assert n_frames(n, facts) == len(log_mel(np.ones(n, np.float32), facts)) > 0
        windows = len(np.ones(n)) + (2 * (n_fft // 2) if center else 0) - n_fft + 1
        assert n_frames(n, facts) == len(range(0, windows, 160)) - drop_last


def test_a_recipe_that_may_leave_no_frame_is_refused() -> None:
    facts = LogMelPreprocess(sample_rate=16_000, center=False, drop_last=True, min_samples=559, max_samples=16_000)
    with pytest.raises(ValueError, match="min_samples is 559, and drop_last leaves no frame of that; take 560 or more"):
        facts.check()
