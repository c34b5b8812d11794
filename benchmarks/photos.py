"""Nothing -> different JPEGs of 500 × 375 pixels, about 48 KB each."""

import io

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

N_PHOTOS = 512


def photos(n: int = N_PHOTOS) -> list[bytes]:
    """Return n different JPEGs, cut from scikit-learn's two photographs."""
    rng = np.random.default_rng(0)
    sources = [Image.fromarray(image) for image in load_sample_images().images]
    made = []
    for i in range(n):
        source = sources[i % 2]
        left, top = rng.integers(0, source.width - 400), rng.integers(0, source.height - 300)
        buffer = io.BytesIO()
        source.crop((left, top, left + 400, top + 300)).resize((500, 375)).save(buffer, "JPEG", quality=88)
        made.append(buffer.getvalue())
    assert len(set(made)) == n
    return made
