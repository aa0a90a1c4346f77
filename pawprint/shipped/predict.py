"""Ask the exported model about pictures: `python predict.py PICTURE…`. Needs numpy, pillow and onnxruntime only."""

import json
import sys
from collections.abc import Sequence
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
    """The model in a folder. Calling it with a PIL picture gives an answer as `classify` does.

    threads: that work on one picture, 0 for all cores; several pictures at a time are faster with 1, in a pool.
    """

    def __init__(self, folder: Path = Path(__file__).parent, threads: int = 0) -> None:
        import onnxruntime

        self.config = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])

    def prepare(self, image: Image.Image) -> np.ndarray:
        """The picture as the model takes it: upright, RGB, square, uint8 (size, size, 3)."""
        config = self.config
        image.draft("RGB", (2 * config["size"], 2 * config["size"]))  # a large JPEG need not be decoded at full size
        upright = ImageOps.exif_transpose(image).convert("RGB")
        return np.asarray(to_square(upright, config["size"], config["resize"], config["interpolation"]))

    def classify(self, prepared: Sequence[np.ndarray]) -> list[dict]:
        """For each picture: label, probability, whether it is none of these and by which score, all probabilities."""
        wanted = {"pictures": np.stack(prepared)}
        probabilities, scores = self.session.run(["probabilities", "none_score"], wanted)
        answers = []
        for row, score in zip(probabilities.tolist(), scores.tolist(), strict=True):
            chances = dict(zip(self.config["classes"], row, strict=True))
            label = max(chances, key=chances.get)
            found = {"label": label, "probability": chances[label], "none": score > self.config["none_threshold"]}
            answers.append({**found, "none_score": score, "probabilities": chances})
        return answers

    def __call__(self, image: Image.Image) -> dict:
        return self.classify([self.prepare(image)])[0]


if __name__ == "__main__":
    classifier = Classifier()
    for name in sys.argv[1:]:
        answer = classifier(Image.open(name))
        ranked = sorted(answer["probabilities"].items(), key=lambda pair: -pair[1])
        print(name, *["none of these:"] * answer["none"], *(f"{label}={p:.3f}" for label, p in ranked))
