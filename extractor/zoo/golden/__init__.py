"""The fixed items by which sessions prove themselves: six small photos, and texts of many kinds."""

import io
from pathlib import Path

from PIL import Image

TEXTS = (
    "cat",
    "How do I locate my card?",
    "The quick brown fox jumps over the lazy dog.",
    "I still have not received my new card, I ordered over a week ago.",
    "what's the weather like in Zürich on Saturday, and will the Föhn come?",
    "Ünïcödé: naïve café, Ærøskøbing, İstanbul, straße",
    "今天的天气怎么样 東京タワー 서울",
    "🙂 emoji, punctuation!? (and) [brackets] {too} <tags/> & entities; 3.14159, 1e-9",
    "UPPER lower MiXeD 12345 67890 https://example.org/path?query=1#fragment",
    "def extract(items):\n    return [embed(item) for item in items]\n",
    "Transfer learning keeps a pretrained network as it is and learns a small classifier on what it gives. " * 3,
    "A text that is longer than the backbone reads is cut at its limit, and the outcome says so. " * 40,
)


def photos() -> list[bytes]:
    """Return the photos as PNG, so that golden items do not depend on the JPEG decoder of the machine that serves."""
    return [_png(path) for path in photo_files()]


def photo_files() -> list[Path]:
    """Return the photos' own files, JPEG."""
    return sorted(Path(__file__).parent.glob("*.jpg"))


def _png(path: Path) -> bytes:
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
