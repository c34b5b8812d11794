"""Sounds as items: formats, bounds, headers that lie, resampling, and batch-mates that change nothing."""

import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from extractor import Extractor
from extractor.decode.audio import MAX_CHANNELS, decode_audio
from extractor.errors import EmptyItem, ItemTooLarge, RuntimeMissing, UndecodableItem
from extractor.prepare import load_prepare
from extractor.preprocess.audio import to_waveform
from extractor.recipes import AudioPreprocess
from extractor.spec import read_spec
from tests.tiny import RATE, noise, npy, sound_embedding, wav

LONG_S = 60.0


def tone(seconds: float, sample_rate: int = RATE, hz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * sample_rate)) / sample_rate)


def encoded(samples: np.ndarray, kind: str, sample_rate: int = RATE, subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate, format=kind, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "subtype", "tolerance"),
    [
        *[("WAV", subtype, 4e-5) for subtype in ("PCM_16", "PCM_24", "FLOAT", "DOUBLE")],
        ("WAVEX", "PCM_16", 4e-5),
        ("WAV", "IMA_ADPCM", 0.05),
        ("FLAC", "PCM_16", 4e-5),
        ("OGG", "VORBIS", 0.05),
        ("OGG", "OPUS", 0.1),
        ("MP3", None, 0.05),
    ],
)
def test_formats_are_read(kind: str, subtype: str | None, tolerance: float) -> None:
    sound = decode_audio(encoded(tone(0.5), kind, subtype=subtype), max_seconds=LONG_S)
    assert (sound.sample_rate, sound.truncated, sound.samples.dtype) == (RATE, False, np.float32)
    middle = slice(RATE // 8, 3 * RATE // 8)  # lossy formats are worst at the ends
    assert np.abs(sound.samples[middle] - tone(0.5)[middle]).max() < tolerance
    assert abs(len(sound.samples) - RATE // 2) <= 1200  # MP3 and ADPCM have whole frames


def test_channels_are_mixed_by_their_mean() -> None:
    stereo = np.stack([tone(0.1), tone(0.1, hz=300)], axis=1)
    sound = decode_audio(wav(stereo), max_seconds=LONG_S)
    np.testing.assert_allclose(sound.samples, stereo.mean(axis=1), atol=4e-5)


def test_no_more_is_decoded_than_is_read() -> None:
    data = encoded(tone(30.0), "FLAC")
    sound = decode_audio(data, max_seconds=0.25)
    assert (len(sound.samples), sound.truncated) == (RATE // 4, True)
    exactly = decode_audio(wav(tone(0.25)), max_seconds=0.25)
    assert (len(exactly.samples), exactly.truncated) == (RATE // 4, False)


def patched(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


WAV = wav(noise(1000))
SIZE_AT = WAV.index(b"data") + 4
FLAC = encoded(tone(1.0), "FLAC")
OGG = encoded(tone(1.0), "OGG")
MP3 = encoded(tone(2.0), "MP3")
XING = MP3.index(b"Xing") if b"Xing" in MP3 else MP3.index(b"Info")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (patched(WAV, SIZE_AT, struct.pack("<I", 1 << 30)), "its sound has 1,073,741,824 bytes, and 2,000 are there"),
        (patched(WAV, SIZE_AT, b"\xff\xff\xff\xff"), "its sound has 4,294,967,295 bytes"),
        (patched(WAV, SIZE_AT, struct.pack("<I", 100)), "header says"),
        (WAV[:-1], "its sound has 2,000 bytes, and 1,999 are there: it was cut short"),
        (patched(FLAC, 22, struct.pack(">I", 1 << 31)), "FLAC .*damaged or cut short|end after"),
        (patched(FLAC, 22, struct.pack(">I", 100)), "there are 100 samples, and there are more: it lies"),
        (patched(FLAC, 22, bytes(4)), "does not tell its length, as of one written to a pipe"),
        (patched(MP3, XING + 8, struct.pack(">I", 10_000_000)), r"says that there are 10,000,000 frames, and \d+ are"),
        *[(data[: len(data) // 2], "cut short") for data in (WAV, FLAC, OGG, MP3)],
        *[(data[:-50], "cut short") for data in (WAV, FLAC, OGG)],
        (WAV[:30], "header|damaged"),
        (b"fLaC" + bytes(range(100)), "FLAC sound is damaged"),
        (b"OggS" + bytes(range(100)), "OGG sound is damaged"),
        (b"\xff\xfb" + bytes(range(100)), "MP3 sound is damaged"),
        (encoded(tone(0.1), "AIFF"), "no WAV, FLAC, OGG or MP3"),
        (b"sound.wav", "a file's name goes as a pathlib.Path"),
        (npy(noise(100)), "does not say how many samples a second"),
        (encoded(np.full(100, np.nan), "WAV", subtype="FLOAT"), "NaN or infinite"),
    ],
)
def test_what_is_no_whole_sound_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(UndecodableItem, match=message):
        decode_audio(data, max_seconds=LONG_S)


@pytest.mark.parametrize("data", [WAV, FLAC, OGG, MP3])
@pytest.mark.parametrize("tail", [b"what a server adds to a file", b"TAG" + bytes(125), bytes(100), b"\xff\xfb\x90"])
def test_what_stands_behind_a_whole_sound_is_no_part_of_it(data: bytes, tail: bytes) -> None:
    whole, longer = (decode_audio(one, max_seconds=LONG_S).samples for one in (data, data + tail))
    np.testing.assert_array_equal(longer, whole)


def without_its_length(mp3: bytes) -> bytes:
    """An MP3 as recorders write it: sound from the first frame on."""
    return mp3[mp3.index(mp3[:2], XING) :]


@pytest.mark.parametrize("mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
@pytest.mark.parametrize("sample_rate", [8000, 16_000, 44_100])
def test_an_mp3_that_does_not_tell_its_length_is_read_whole(mode: str, sample_rate: int) -> None:
    buffer = io.BytesIO()
    sound = np.concatenate([tone(1, sample_rate), 0.3 * np.random.default_rng(0).normal(size=sample_rate)])
    soundfile.write(buffer, sound.clip(-1, 1), sample_rate, format="MP3", bitrate_mode=mode)
    whole = decode_audio(buffer.getvalue(), max_seconds=LONG_S).samples
    bare = without_its_length(buffer.getvalue())
    tags = (b"", b"TAG" + bytes(125), b"APETAGEX" + b"y" * 300, bytes(40))
    for data in [bare + tag for tag in tags] + [b"ID3\x03\0\0\0\0\x07\x76" + bytes(1014) + bare]:
        found = decode_audio(data, max_seconds=LONG_S).samples
        assert 0 <= len(found) - len(whole) <= 2 * 1152  # the encoder's delay is told in what was left out
    with pytest.raises(UndecodableItem, match="damaged or cut short at byte"):
        decode_audio(bare[:-9], max_seconds=LONG_S)
    with pytest.raises(UndecodableItem, match="damaged or cut short at byte"):
        decode_audio(bare + b"something else", max_seconds=LONG_S)


def test_no_byte_of_a_header_that_lies_ends_the_process() -> None:
    draw = np.random.default_rng(0)
    for data in (WAV, FLAC, OGG, MP3):
        for _ in range(60):
            broken = bytearray(data)
            for at in draw.integers(0, min(len(data), 120), 3):
                broken[at] = draw.integers(256)
            try:
                assert len(decode_audio(bytes(broken), max_seconds=1.0).samples) <= 384_000
            except (UndecodableItem, ItemTooLarge, EmptyItem):
                continue


def test_empty_and_excessive_sounds_have_errors_of_their_own() -> None:
    with pytest.raises(EmptyItem, match="no sample"):
        decode_audio(wav(np.empty(0)), max_seconds=LONG_S)
    with pytest.raises(ItemTooLarge, match=f"33 channels of 8,000 samples a second, the limits are {MAX_CHANNELS}"):
        decode_audio(wav(np.zeros((10, MAX_CHANNELS + 1))), max_seconds=LONG_S)
    with pytest.raises(ItemTooLarge, match="1 channel of 999 samples"):
        decode_audio(wav(np.zeros(10), 999), max_seconds=LONG_S)


@pytest.mark.parametrize("sample_rate", [4000, 11_025, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("resampling", ["soxr-hq", "soxr-vhq"])
def test_resampling_keeps_a_tone(sample_rate: int, resampling: str) -> None:
    facts = AudioPreprocess(sample_rate=RATE, max_samples=RATE, resampling=resampling)
    found = to_waveform(tone(0.5, sample_rate).astype(np.float32), sample_rate, facts)
    assert abs(len(found) - RATE // 2) <= 1
    middle = slice(RATE // 8, 3 * RATE // 8)
    assert np.abs(found[middle] - tone(0.5)[middle]).max() < 1e-3


@pytest.mark.parametrize(("resampling", "quality"), [("soxr-hq", "HQ"), ("soxr-vhq", "VHQ")])
def test_the_resampler_has_the_quality_that_is_said(resampling: str, quality: str) -> None:
    sound = noise(4410).astype(np.float32)
    facts = AudioPreprocess(sample_rate=16_000, max_samples=16_000, resampling=resampling)
    found = to_waveform(sound, 44_100, facts)
    np.testing.assert_array_equal(found, soxr.resample(sound, 44_100, 16_000, quality=quality))
    assert np.abs(found - soxr.resample(sound, 44_100, 16_000, quality="LQ")).max() > 1e-4


def test_frequencies_beyond_the_new_rate_do_not_fold_back() -> None:
    facts = AudioPreprocess(sample_rate=RATE, max_samples=RATE)
    found = to_waveform(tone(0.5, 16_000, hz=5000).astype(np.float32), 16_000, facts)
    assert np.abs(found[RATE // 8 : 3 * RATE // 8]).max() < 1e-4


def test_short_sounds_are_padded_or_refused_and_long_ones_cut() -> None:
    samples = noise(50).astype(np.float32)
    facts = AudioPreprocess(sample_rate=RATE, min_samples=80, max_samples=100)
    np.testing.assert_array_equal(to_waveform(samples, RATE, facts), [*samples, *[0] * 30])
    assert len(to_waveform(noise(500).astype(np.float32), RATE, facts)) == 100
    refusing = AudioPreprocess(sample_rate=RATE, min_samples=80, max_samples=100, too_short="refuse")
    with pytest.raises(UndecodableItem, match=r"lasts 0\.006 s, the backbone takes 0\.010 s or more"):
        to_waveform(samples, RATE, refusing)


def test_a_sound_of_which_nothing_is_left_is_refused() -> None:
    facts = AudioPreprocess(sample_rate=1000, max_samples=4000, min_samples=400, unit_variance=True)
    with pytest.raises(EmptyItem, match="less than one sample at 1,000 Hz; send a longer one"):
        to_waveform(np.ones(1, np.float32), 384_000, facts)


def test_unit_variance_is_that_of_wav2vec2() -> None:
    module = pytest.importorskip("transformers.models.wav2vec2.feature_extraction_wav2vec2")
    samples = (0.3 + noise(500)).astype(np.float32)
    facts = AudioPreprocess(sample_rate=RATE, max_samples=RATE, unit_variance=True)
    (expected,) = module.Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm([samples], None)
    np.testing.assert_allclose(to_waveform(samples, RATE, facts), expected, atol=1e-5)


def test_sounds_go_through_the_whole_pipeline(tiny_audio: Path, tmp_path: Path) -> None:
    sounds = [noise(n, seed=n) for n in np.random.default_rng(0).integers(RATE // 10, RATE, 50)]
    path = tmp_path / "one.wav"
    path.write_bytes(wav(sounds[0]))
    with Extractor.load(tiny_audio, cache="memory") as extractor:
        X = extractor.extract([wav(one) for one in sounds])
        np.testing.assert_allclose(X, [sound_embedding(one) for one in sounds], atol=1e-6)
        again, bad, long = extractor.extract_each([path, b"no sound", wav(noise(2 * RATE))])
        assert (again.cached, again.truncated, long.truncated) == (True, False, True)
        np.testing.assert_allclose(long.embedding, sound_embedding(noise(2 * RATE)[:RATE]), atol=1e-6)
        assert isinstance(bad.error, UndecodableItem)


def test_without_their_library_sounds_are_refused_with_what_brings_it(
    tiny_audio: Path, tiny_array: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    monkeypatch.delitem(sys.modules, "extractor.decode.audio")
    with pytest.raises(RuntimeMissing, match=r"soundfile.*pip install 'headwater\[audio\]'"):
        Extractor.load(tiny_audio)
    Extractor.load(tiny_array).close()


def test_batch_mates_change_nothing(tiny_audio: Path) -> None:
    draw = np.random.default_rng(1)
    items = [wav(noise(n, seed=n)) for n in draw.integers(RATE // 10, RATE, 40)]
    with Extractor.load(tiny_audio, max_padding=0.9, workers=1, max_batch_size=16) as extractor:
        sizes: list[int] = []
        extractor.on_batch(lambda facts: sizes.append(facts.n_items))
        alone = np.concatenate([extractor.extract([item]) for item in items])
        shuffled = draw.permutation(len(items))
        together = extractor.extract([items[i] for i in shuffled])
        prepare = load_prepare(read_spec(tiny_audio), tiny_audio)
        one_batch = extractor.backbone.forward([prepare(items[i]).array for i in shuffled])
    assert max(sizes) > 1
    for found in (together, one_batch):
        assert np.abs(found - alone[shuffled]).max() <= 1e-6
