"""The demo's labelled items: handwritten digits as PNG files, and short messages to a shop's support."""

import io
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MESSAGES = {
    "delivery": (
        "Where is my parcel?",
        "My order has not arrived yet.",
        "The tracking page has shown nothing new for three days.",
        "Can you deliver to my office instead?",
        "When will the courier come?",
        "The package was left at the wrong door.",
        "I need it by Friday, is that possible?",
        "How long does shipping to Norway take?",
        "The driver never rang the bell.",
        "Please hold my shipment until I am back from holiday.",
    ),
    "refund": (
        "I want my money back.",
        "How do I return these shoes?",
        "The refund has not reached my account.",
        "Can I exchange it for a larger size?",
        "I sent the jacket back two weeks ago and was not repaid.",
        "Do I have to pay for the return label?",
        "Please cancel my purchase and reimburse me.",
        "You charged me twice, please give one payment back.",
        "Is it too late to send something back after 30 days?",
        "I was promised store credit for the returned lamp.",
    ),
    "account": (
        "I forgot my password.",
        "How can I change my e-mail address?",
        "Please delete my profile and all my data.",
        "I cannot log in on my phone.",
        "The code to confirm my sign-in never comes.",
        "Somebody else seems to be using my account.",
        "How do I turn on two-factor authentication?",
        "My user name is spelled wrong, can you correct it?",
        "Unsubscribe me from the newsletter, please.",
        "It says that my account is locked.",
    ),
    "defect": (
        "The screen was cracked when I opened the box.",
        "The kettle does not switch on.",
        "One of the chair's legs is broken.",
        "The battery lasts only ten minutes.",
        "It makes a strange noise and then stops.",
        "The zip came off the first time I used the bag.",
        "Half of the lights on the string stay dark.",
        "The headphones only work on the left side.",
        "There is a hole in the sweater.",
        "The app says that the device's sensor is faulty.",
    ),
}


class Labelled(NamedTuple):
    """Items, and the label of each (n,)."""

    items: list[bytes]
    labels: NDArray[np.str_]


def digits() -> Labelled:
    """Return scikit-learn's 1,797 handwritten digits (Alpaydin and Kaynak, UCI, 1998) as grey PNG files of 8 × 8."""
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = (data.images * (255 / 16)).round().astype(np.uint8)
    return Labelled([_png(image) for image in pixels], data.target.astype(str))


def messages() -> Labelled:
    """Return forty messages of four intents."""
    pairs = [(text, intent) for intent, texts in MESSAGES.items() for text in texts]
    return Labelled([text.encode() for text, _ in pairs], np.array([intent for _, intent in pairs]))


def _png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
