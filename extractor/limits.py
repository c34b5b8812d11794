"""The bounds of every input and every queue; each is a setting."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one extractor accepts.

    Parameters
    ----------
    max_item_bytes : int
        Bytes of one item of any modality.
    max_text_bytes : int
        Bytes of one text.
    max_pixels : int
        Pixels of one image, checked before it is decoded; 64 Mi pixels are 192 MiB as RGB.
    max_queue_size : int
        Items that wait for one backbone.
    max_queue_bytes : int
        Bytes of the items that wait for one backbone.
    max_forward_s : float
        Seconds that one forward may take: beyond, its callers are told, and health looks whether the session lives.
    """

    max_item_bytes: int = 16 * MIB
    max_text_bytes: int = 1 * MIB
    max_pixels: int = 64 * MIB
    max_queue_size: int = 4096
    max_queue_bytes: int = 512 * MIB
    max_forward_s: float = 60.0
