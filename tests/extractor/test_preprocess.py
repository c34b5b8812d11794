from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from extractor.errors import BackboneInvalid
from extractor.preprocess.image import fit_image
from extractor.preprocess.text import Tokenize
from extractor.recipes import (
    INTERPOLATIONS,
    ImagePreprocess,
    ResizeCropPreprocess,
    SquashPreprocess,
    TextPreprocess,
)
from extractor.spec import TOKENIZER_FILE
from tests.tiny import MAX_TOKENS

FACTS = ImagePreprocess(size=224, crop_fraction=0.875, interpolation="bicubic", mean=(127.0,), std=(128.0,))


def noise(height: int, width: int) -> Image.Image:
    blocks = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(("height", "width"), [(512, 512), (256, 512), (1024, 512)])
def test_one_step_is_within_one_of_resize_then_crop(height: int, width: int) -> None:
    image = noise(height, width)
    scale = 256 / min(height, width)
    resized = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    left, top = (resized.width - 224) // 2, (resized.height - 224) // 2
    two_steps = np.asarray(resized.crop((left, top, left + 224, top + 224))).astype(int)
    assert np.abs(fit_image(image, FACTS) - two_steps).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (8, 8), (3, 2)])
def test_any_size_gives_the_graphs_shape(size: tuple[int, int]) -> None:
    array = fit_image(Image.new("RGB", size, (9, 8, 7)), FACTS)
    assert array.shape == (224, 224, 3)
    assert array.dtype == np.uint8
    assert (array == [9, 8, 7]).all()


@pytest.mark.parametrize("size", [(640, 361), (360, 641), (224, 224), (517, 389), (101, 333)])
def test_whole_pixels_are_cut_where_torchvision_and_transformers_cut_them(size: tuple[int, int]) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(64, 192, (*size, 3), np.uint8))  # none overshoots
    short, (height, width) = min(size), size
    resized = image.resize((int(256 * width / short), int(256 * height / short)), Image.Resampling.BILINEAR)
    for rounding, place in (("half-even", lambda left_over: round(left_over / 2)), ("down", lambda over: over // 2)):
        facts = ResizeCropPreprocess(224, 224 / 256, "bilinear", (0.0,), (1.0,), rounding=rounding)
        facts.check()
        left, top = place(resized.width - 224), place(resized.height - 224)
        expected = np.asarray(resized.crop((left, top, left + 224, top + 224))).astype(int)
        assert np.abs(fit_image(image, facts) - expected).max() <= 2


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_squashed_image_is_pillows_own(interpolation: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8))
    facts = SquashPreprocess(32, 1.0, interpolation, (0.0,), (1.0,))
    expected = image.resize((32, 32), getattr(Image.Resampling, interpolation.upper()))
    np.testing.assert_array_equal(fit_image(image, facts), expected)


def test_tokens_are_cut_at_the_limit_and_it_is_said(tiny_text: Path) -> None:
    tokenize = Tokenize(tiny_text / TOKENIZER_FILE, TextPreprocess(max_tokens=MAX_TOKENS))
    assert tokenize("red dog").ids.tolist() == [1, 5]
    exactly = tokenize("red " * MAX_TOKENS)
    assert (len(exactly.ids), exactly.truncated) == (MAX_TOKENS, False)
    longer = tokenize("red " * (MAX_TOKENS + 1))
    assert (len(longer.ids), longer.truncated) == (MAX_TOKENS, True)


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / TOKENIZER_FILE).write_text("{}")
    with pytest.raises(BackboneInvalid, match=TOKENIZER_FILE):
        Tokenize(tmp_path / TOKENIZER_FILE, TextPreprocess(max_tokens=MAX_TOKENS))
