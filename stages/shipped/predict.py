"""Ask the exported model about pictures: `python predict.py PICTURE…`. Needs numpy, pillow and onnxruntime only."""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


def to_square(image: Image.Image, size: int, resize: str, interpolation: str) -> Image.Image:
    """Make a picture (size, size): `squish` both sides, `crop` the middle, or `pad` with black."""
    how = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[interpolation]
    width, height = image.size
    if resize == "squish":
        return image.resize((size, size), how)
    if resize == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return image.resize((size, size), how, box=(left, top, left + side, top + side))
    scale = size / max(width, height)
    small = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), how)
    square = Image.new("RGB", (size, size))
    square.paste(small, ((size - small.width) // 2, (size - small.height) // 2))
    return square


class Classifier:
    """The model in this folder. Calling it with a PIL picture gives a dict from class to probability."""

    def __init__(self, folder: Path = Path(__file__).parent) -> None:
        import onnxruntime

        self.config = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])

    def __call__(self, image: Image.Image) -> dict[str, float]:
        upright = ImageOps.exif_transpose(image).convert("RGB")
        square = to_square(upright, self.config["size"], self.config["resize"], self.config["interpolation"])
        (probabilities,) = self.session.run(None, {"pictures": np.asarray(square)[None]})
        return dict(zip(self.config["classes"], probabilities[0].tolist(), strict=True))


if __name__ == "__main__":
    classify = Classifier()
    for name in sys.argv[1:]:
        answer = classify(Image.open(name))
        print(name, *(f"{label}={p:.3f}" for label, p in sorted(answer.items(), key=lambda pair: -pair[1])))
