"""An item -> what a page shows of it: a small JPEG as a data URI, or the beginning of a text; within a budget."""

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from extractor.decode.image import decode_image
from extractor.errors import ItemError
from headwater.report.facts import Item, Shown

SIDE_PIXELS = 96
MAX_CHARACTERS = 200
MAX_NAME_CHARACTERS = 120
MAX_ITEM_BYTES = 32 << 20  # of a file that is read for its picture
MAX_ITEM_PIXELS = 50_000_000
MAX_TOTAL_BYTES = 8 << 20  # of all pictures of one page


class Thumbnails:
    """Shows items by position, until the budget of bytes is spent; after that by name alone.

    Parameters
    ----------
    items : sequence of bytes, str or Path, or callable, or None
        As `Examples` has them.
    names : sequence of str or None
    budget : Budget
        May be shared with another set of items.
    """

    def __init__(
        self,
        items: Sequence[Item] | Callable[[int], Item] | None,
        names: Sequence[str] | None,
        budget: "Budget",
    ) -> None:
        self._items = items
        self._names = names
        self._budget = budget
        self._shown: dict[tuple[int, int], Shown] = {}

    def __call__(self, row: int, *, side: int = SIDE_PIXELS) -> Shown:
        """Return what is shown of the item of a row; one that cannot be read has its name alone."""
        if (row, side) not in self._shown:
            self._shown[row, side] = self._show(row, side)
        return self._shown[row, side]

    def name(self, row: int) -> str:
        """Return what people call the item of a row; the end of a very long name."""
        item = None if self._names is not None or callable(self._items) else self._item(row)
        return _shortened(self._full_name(row, item), MAX_NAME_CHARACTERS, keep_end=True)

    def _show(self, row: int, side: int) -> Shown:
        item, name = self._item(row), self.name(row)
        if isinstance(item, str):
            return Shown(name, text=_shortened(item, MAX_CHARACTERS))
        content = b"" if item is None or self._budget.spent else _content(item)
        image = thumbnail(content, side=side) if content else ""
        if image:
            self._budget.spend(len(image))
            return Shown(name, image=image)
        return Shown(name, text=_as_text(content))

    def _item(self, row: int) -> Item | None:
        if self._items is None:
            return None
        return self._items(row) if callable(self._items) else self._items[row]

    def _full_name(self, row: int, item: Item | None) -> str:
        if self._names is not None:
            return str(self._names[row])
        return str(item) if isinstance(item, Path) else f"#{row}"


class Budget:
    """Bytes of pictures that a page may hold."""

    def __init__(self, n_bytes: int = MAX_TOTAL_BYTES) -> None:
        self._left = n_bytes

    @property
    def spent(self) -> bool:
        """Whether nothing is left."""
        return self._left <= 0

    def spend(self, n_bytes: int) -> None:
        """Take bytes away; the last picture may go beyond."""
        self._left -= n_bytes


def thumbnail(content: bytes, *, side: int = SIDE_PIXELS) -> str:
    """Return an image's bytes as a small JPEG's data URI, or "" where they cannot be decoded.

    Parameters
    ----------
    content : bytes
    side : int
        Of the longer edge, in pixels.
    """
    try:
        image = decode_image(content, max_pixels=MAX_ITEM_PIXELS)
    except ItemError:
        return ""
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=72)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _content(item: bytes | Path) -> bytes:
    if isinstance(item, bytes):
        return item
    try:
        return item.read_bytes() if item.is_file() and item.stat().st_size <= MAX_ITEM_BYTES else b""
    except OSError:
        return b""


def _as_text(content: bytes) -> str:
    """Return the beginning of UTF-8 text, or "" for other bytes."""
    try:
        text = content[: 4 * MAX_CHARACTERS].decode(
            "utf-8", "strict" if len(content) <= 4 * MAX_CHARACTERS else "ignore"
        )
    except UnicodeDecodeError:
        return ""
    return _shortened(text, MAX_CHARACTERS) if text.replace("\n", " ").replace("\t", " ").isprintable() else ""


def _shortened(text: str, most: int, *, keep_end: bool = False) -> str:
    if len(text) <= most:
        return text
    return "…" + text[1 - most :] if keep_end else text[: most - 1] + "…"
