"""How an item of each modality becomes the graph's input: the recipes that a spec may name, and their bounds.

A recipe's name has its revision in it, since another algorithm makes other embeddings of the same bytes.
"""

from dataclasses import MISSING, dataclass, fields
from math import isfinite
from typing import Any, get_args

INTERPOLATIONS = ("bicubic", "bilinear", "lanczos", "nearest")
DTYPES = (
    *("float16", "float32", "float64", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)


@dataclass(frozen=True)
class ImagePreprocess:
    """How an image becomes the graph's uint8 input.

    Parameters
    ----------
    recipe : str
        The algorithm, with its revision: `center-crop/1` takes the central square of
        `crop_fraction` of the short side and resizes it to `size` in one step.
    size : int
        Height and width of the graph's input, in pixels.
    crop_fraction : float
        Share of the short side that the central square keeps, in (0, 1].
    interpolation : str
        `bicubic`, `bilinear`, `lanczos` or `nearest`, as Pillow computes them.
    mean, std : tuple of float
        What the graph subtracts and divides by, on the 0–255 scale, one number or three; stated here as facts, applied
        in the graph.
    """

    size: int
    crop_fraction: float
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    recipe: str = "center-crop/1"

    def check(self) -> None:
        """Raise ValueError for a value that is none."""
        _check_positive("size", self.size)
        _check_one_of("interpolation", self.interpolation, INTERPOLATIONS)
        _check_channels("mean", self.mean)
        _check_channels("std", self.std)
        _check_number("crop_fraction", self.crop_fraction)
        if min(self.std) <= 0:
            raise ValueError(f"preprocess.std is {self.std!r}; take numbers above 0")
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"preprocess.crop_fraction is {self.crop_fraction!r}, not above 0 and at most 1")


@dataclass(frozen=True)
class ResizeCropPreprocess(ImagePreprocess):
    """How an image becomes the graph's uint8 input as torchvision, timm and transformers make it, pixel by pixel.

    Parameters
    ----------
    rounding : str
        Of half a pixel, where the crop begins: `half-even`, as torchvision has it, or `down`, as transformers.
    recipe : str
        `resize-crop/1` resizes the short side to `size / crop_fraction` whole pixels and the long one in proportion,
        and cuts the central square of `size` whole pixels.
    """

    rounding: str = "half-even"
    recipe: str = "resize-crop/1"

    def check(self) -> None:
        """Raise ValueError for a value that is none."""
        super().check()
        _check_one_of("rounding", self.rounding, ("half-even", "down"))


@dataclass(frozen=True)
class SquashPreprocess(ImagePreprocess):
    """How an image becomes the graph's uint8 input where networks were trained on images out of proportion.

    Parameters
    ----------
    recipe : str
        `squash/1` takes `crop_fraction` of the width and of the height and resizes that to the square of `size`.
    """

    recipe: str = "squash/1"


@dataclass(frozen=True)
class TextPreprocess:
    """How a text becomes token ids.

    Parameters
    ----------
    recipe : str
        The algorithm, with its revision: `tokenizer/1` runs `tokenizer.json` on the UTF-8 text.
    max_tokens : int
        Longer texts are cut to this many tokens, special ones counted in, and the outcome says so.
    """

    max_tokens: int
    recipe: str = "tokenizer/1"

    def check(self) -> None:
        """Raise ValueError for a value that is none."""
        _check_positive("max_tokens", self.max_tokens)


@dataclass(frozen=True, kw_only=True)
class ArrayPreprocess:
    """What an `.npy` array has to be; it goes into the graph as it is.

    Parameters
    ----------
    dtype : str
        What the graph takes: one of `DTYPES`. Arrays of another dtype are taken where NumPy casts it without a loss,
        and any float for any other.
    shape : tuple of int or str
        Of one item. The first axis may be a name: it varies.
    min_length, max_length : int
        Bounds of an axis that varies; other arrays are refused.
    recipe : str
        `npy/1`.
    """

    dtype: str
    shape: tuple[int | str, ...]
    min_length: int = 1
    max_length: int = 65_536
    recipe: str = "npy/1"

    def check(self) -> None:
        """Raise ValueError for a value that is none."""
        _check_one_of("dtype", self.dtype, DTYPES)
        for axis in self.shape[1:] if isinstance(next(iter(self.shape), None), str) else self.shape:
            _check_positive("shape", axis)
        _check_range("length", self.min_length, self.max_length)


@dataclass(frozen=True, kw_only=True)
class AudioPreprocess:
    """How a sound becomes a waveform: float32 (n_samples,), one channel, the file's full scale at 1.

    Parameters
    ----------
    sample_rate : int
        Samples a second that the graph takes.
    max_samples : int
        Longer sounds are cut to this many samples at `sample_rate`, and the outcome says so.
    min_samples : int
        A shorter sound is what `too_short` says.
    too_short : str
        `pad`: silence follows it, up to `min_samples`; `refuse`: it is an error.
    unit_variance : bool
        The waveform is brought to mean 0 and variance 1, as Wav2Vec 2.0 takes it, before silence is added.
    resampling : str
        `soxr-hq` or `soxr-vhq`: the SoX resampler's 20 and 28 bits of precision.
    recipe : str
        `waveform/1`: the mean of the channels, resampled.
    """

    sample_rate: int
    max_samples: int
    min_samples: int = 1
    too_short: str = "pad"
    unit_variance: bool = False
    resampling: str = "soxr-hq"
    recipe: str = "waveform/1"

    def check(self) -> None:
        """Raise ValueError for a value that is none."""
        _check_positive("sample_rate", self.sample_rate)
        _check_range("samples", self.min_samples, self.max_samples)
        _check_one_of("too_short", self.too_short, ("pad", "refuse"))
        _check_one_of("resampling", self.resampling, ("soxr-hq", "soxr-vhq"))
        _check_bool("unit_variance", self.unit_variance)


@dataclass(frozen=True, kw_only=True)
class LogMelPreprocess(AudioPreprocess):
    """How a sound becomes a log-mel spectrogram: float32 (n_frames, n_mels), of the waveform that its base describes.

    The defaults are those of OpenAI's Whisper but for its lengths and `dynamic_range`; NeMo's Jasper and QuartzNet take
    `window="hann-symmetric"`, `preemphasis=0.97`, `log="ln"`, `floor=2**-24`, `floor_by="add"`, `normalise="band"`;
    Deep Speech 2 takes `mel_scale="none"`, `power=1`, `log="ln"`, `floor=1`, `floor_by="add"`, `normalise="item"`.

    Parameters
    ----------
    n_fft, win_length, hop_length : int
        Of the short-time Fourier transform, in samples; the window stands in the middle of `n_fft`.
    window : str
        `hann` or `hamming`, periodic; `hann-symmetric`.
    center : bool
        Frames are centred, with the waveform mirrored at its ends, else they begin at sample 0.
    drop_last : bool
        The last frame is left out.
    preemphasis : float
        What is subtracted of the sample before, in [0, 1).
    power : float
        1 for magnitudes, 2 for power.
    n_mels : int
        Bands.
    f_min, f_max : float
        Where the first band begins and the last one ends, in Hz.
    mel_scale, mel_norm : str
        `slaney`, `htk`, or `none` for the n_fft // 2 + 1 bins themselves; `slaney` (bands of equal area) or `none`.
    log : str
        `ln`, `log10` or `db` (10 log10).
    floor, floor_by : float, str
        Before the logarithm values are raised to `floor` (`max`), or it is added to them (`add`).
    dynamic_range : float
        How far below the item's largest value others are raised to, after the logarithm; 0 for no such bound.
    offset, scale : float
        What is added then, and what is multiplied with after that.
    normalise : str
        To mean 0 and variance 1: `band`, each over the item's frames; `item`, all of its values; or `none`.
    recipe : str
        `log-mel/1`.
    """

    n_fft: int = 400
    win_length: int = 400
    hop_length: int = 160
    window: str = "hann"
    center: bool = True
    drop_last: bool = False
    preemphasis: float = 0.0
    power: float = 2.0
    n_mels: int = 80
    f_min: float = 0.0
    f_max: float = 8000.0
    mel_scale: str = "slaney"
    mel_norm: str = "slaney"
    log: str = "log10"
    floor: float = 1e-10
    floor_by: str = "max"
    dynamic_range: float = 0.0
    offset: float = 0.0
    scale: float = 1.0
    normalise: str = "none"
    recipe: str = "log-mel/1"

    def check(self) -> None:
        """Raise ValueError for a value that is none."""
        super().check()
        for name in ("n_fft", "win_length", "hop_length", "n_mels"):
            _check_positive(name, getattr(self, name))
        for name in ("preemphasis", "power", "f_min", "f_max", "floor", "dynamic_range", "offset", "scale"):
            _check_number(name, getattr(self, name))
        for name in ("center", "drop_last"):
            _check_bool(name, getattr(self, name))
        _check_one_of("window", self.window, ("hann", "hann-symmetric", "hamming"))
        _check_one_of("mel_scale", self.mel_scale, ("slaney", "htk", "none"))
        _check_one_of("normalise", self.normalise, ("band", "item", "none"))
        _check_one_of("mel_norm", self.mel_norm, ("slaney", "none"))
        _check_one_of("log", self.log, ("ln", "log10", "db"))
        _check_one_of("floor_by", self.floor_by, ("max", "add"))
        self._check_ranges()

    def _check_ranges(self) -> None:
        if self.win_length > self.n_fft:
            raise ValueError(f"preprocess.win_length is {self.win_length}, more than n_fft, {self.n_fft}")
        if self.mel_scale == "none" and self.n_mels != self.n_fft // 2 + 1:
            raise ValueError(
                f"preprocess.n_mels is {self.n_mels}, n_fft of {self.n_fft} has {self.n_fft // 2 + 1} bins"
            )
        if not 0 <= self.preemphasis < 1:
            raise ValueError(f"preprocess.preemphasis is {self.preemphasis!r}, not in [0, 1)")
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError(
                f"preprocess.f_min is {self.f_min!r} and f_max {self.f_max!r}; take 0 <= f_min < f_max <= "
                f"{self.sample_rate / 2:g}, half of sample_rate"
            )
        if self.min_samples < self.n_fft:
            raise ValueError(f"preprocess.min_samples is {self.min_samples}, less than one frame, {self.n_fft}")
        if self.drop_last and not self.center and self.min_samples < self.n_fft + self.hop_length:
            raise ValueError(
                f"preprocess.min_samples is {self.min_samples}, and drop_last leaves no frame of that; take "
                f"{self.n_fft + self.hop_length} or more"
            )
        if self.floor <= 0 or self.power <= 0 or self.dynamic_range < 0:
            raise ValueError(
                f"preprocess.floor is {self.floor!r}, power {self.power!r} and dynamic_range {self.dynamic_range!r}; "
                "take numbers above 0, or 0 for no dynamic_range"
            )


Preprocess = (
    ImagePreprocess
    | ResizeCropPreprocess
    | SquashPreprocess
    | TextPreprocess
    | ArrayPreprocess
    | AudioPreprocess
    | LogMelPreprocess
)

_MODALITIES: dict[type[Preprocess], str] = {
    ImagePreprocess: "image",
    ResizeCropPreprocess: "image",
    SquashPreprocess: "image",
    TextPreprocess: "text",
    ArrayPreprocess: "array",
    AudioPreprocess: "audio",
    LogMelPreprocess: "audio",
}
MODALITIES = tuple(dict.fromkeys(_MODALITIES.values()))


def modality_of(preprocess: Preprocess) -> str:
    """Return `image`, `text`, `array` or `audio`."""
    return _MODALITIES[type(preprocess)]


def parse_preprocess(modality: str, facts: dict[str, Any]) -> Preprocess:
    """Return the recipe that facts name, checked.

    Raises
    ------
    AttributeError, KeyError, TypeError, ValueError
        There is no such recipe for the modality, or a value is out of range.
    """
    recipes = {kind.recipe: kind for kind in get_args(Preprocess) if _MODALITIES[kind] == modality}
    if not recipes:
        raise ValueError(f"modality is {modality!r}, not one of {sorted(MODALITIES)}")
    kind = recipes.get(facts["recipe"])
    if kind is None:
        raise ValueError(f"preprocess.recipe is {facts['recipe']!r}, not one of {sorted(recipes)} for {modality}")
    _check_fields(kind, facts)
    preprocess: Preprocess = kind(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in facts.items()}
    )
    preprocess.check()
    return preprocess


def _check_fields(kind: Any, facts: dict[str, Any]) -> None:
    known = {one.name: one.default is MISSING and one.default_factory is MISSING for one in fields(kind)}
    if strange := [name for name in facts if name not in known]:
        raise ValueError(f"preprocess has no {strange[0]!r} in {kind.recipe}, only {', '.join(known)}")
    if lacking := [name for name, needed in known.items() if needed and name not in facts]:
        raise ValueError(f"preprocess lacks {', '.join(map(repr, lacking))} of {kind.recipe}")


def _check_positive(name: str, value: Any) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"preprocess.{name} is {value!r}, not a positive integer")


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"preprocess.{name} is {value!r}, not a finite number")


def _check_channels(name: str, values: Any) -> None:
    if not isinstance(values, tuple) or len(values) not in (1, 3):
        raise ValueError(f"preprocess.{name} is {values!r}, not one number or three, as a list: [127.5]")
    for value in values:
        _check_number(name, value)


def _check_range(name: str, least: Any, most: Any) -> None:
    _check_positive(f"min_{name}", least)
    _check_positive(f"max_{name}", most)
    if least > most:
        raise ValueError(f"preprocess.min_{name} is {least}, more than max_{name}, {most}")


def _check_one_of(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"preprocess.{name} is {value!r}, not one of {known}")


def _check_bool(name: str, value: Any) -> None:
    if type(value) is not bool:
        raise ValueError(f"preprocess.{name} is {value!r}, neither true nor false")
