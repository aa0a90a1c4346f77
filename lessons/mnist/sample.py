"""Threes and sevens that come with scikit-learn: 8 pixels a side, enlarged to MNIST's 28.

Source: E. Alpaydin and C. Kaynak, "Optical recognition of handwritten digits", UCI, 1998.
"""

import io
from collections.abc import Iterator
from random import Random

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def draw(size: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield train/3/0000.png and so on, at most `size` pictures; one in four is for valid."""
    digits = load_digits()
    for digit in (3, 7):
        chosen = np.flatnonzero(digits.target == digit).tolist()
        Random(f"digits:{seed}").shuffle(chosen)
        for number, index in enumerate(chosen[: size // 2]):
            split = "valid" if number % 4 == 3 else "train"
            buffer = io.BytesIO()
            small = Image.fromarray((digits.images[index] * 255 / 16).astype(np.uint8))
            # the enlarged digit is 20 pixels high, in the middle of 28, as in MNIST
            picture = Image.new("L", (28, 28))
            picture.paste(small.resize((20, 20), Image.Resampling.BICUBIC), (4, 4))
            picture.save(buffer, "PNG")
            yield f"{split}/{digit}/{number:04}.png", buffer.getvalue()
