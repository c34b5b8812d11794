"""Bytes -> text, as UTF-8."""

from extractor.errors import EmptyItem, ItemTooLarge, UndecodableItem


def decode_text(data: bytes, *, max_bytes: int) -> str:
    """Decode one text.

    Raises
    ------
    EmptyItem
        Nothing but white space.
    ItemTooLarge
        More than `max_bytes` bytes.
    UndecodableItem
        Not UTF-8.
    """
    if len(data) > max_bytes:
        raise ItemTooLarge(f"text has {len(data):,} bytes, the limit is {max_bytes:,}; send a shorter one")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UndecodableItem(
            f"text is not UTF-8: byte 0x{data[error.start]:02x} at position {error.start:,}; encode it as UTF-8"
        ) from None
    if not text or text.isspace():
        raise EmptyItem("text is empty or all white space; send at least one character")
    return text
