"""Ask the exported model about pictures: `python predict.py PICTURE…`. Needs numpy, pillow and onnxruntime only."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

if __package__:  # imported by the commands of pawprint
    from pawprint.pictures.square import to_square
else:  # beside the model, in an exported folder
    from pictures import to_square

ORIENTATION = 0x0112  # the tag of a camera that was held on its side


class Classifier:
    """The model in a folder. Calling it with a PIL picture gives an answer as `classify` does.

    threads: that work on one picture, 0 for all cores; several pictures at a time are faster with 1, in a pool.
    """

    def __init__(self, folder: Path = Path(__file__).parent, threads: int = 0) -> None:
        import onnxruntime

        self.config = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            folder / "model.onnx", options, providers=["CPUExecutionProvider"]
        )

    def prepare(self, image: Image.Image) -> np.ndarray:
        """The picture as the model takes it: upright, RGB, square, uint8 (size, size, 3)."""
        config = self.config
        image.draft(
            "RGB", (config["size"], config["size"])
        )  # a large JPEG need not be decoded at full size
        if (
            image.getexif().get(ORIENTATION, 1) != 1
        ):  # exif_transpose and convert copy even where nothing changes
            image = ImageOps.exif_transpose(image)
        upright = image if image.mode == "RGB" else image.convert("RGB")
        return np.asarray(
            to_square(upright, config["size"], config["resize"], config["interpolation"])
        )

    def classify(self, prepared: Sequence[np.ndarray]) -> list[dict]:
        """For each picture: label, probability, whether it is none of these and by which score, all probabilities."""
        wanted = {"pictures": np.stack(prepared)}
        probabilities, scores = self.session.run(["probabilities", "none_score"], wanted)
        answers = []
        for row, score in zip(probabilities.tolist(), scores.tolist(), strict=True):
            chances = dict(zip(self.config["classes"], row, strict=True))
            label = max(chances, key=chances.get)
            found = {
                "label": label,
                "probability": chances[label],
                "none": score > self.config["none_threshold"],
            }
            answers.append({**found, "none_score": score, "probabilities": chances})
        return answers

    def __call__(self, image: Image.Image) -> dict:
        return self.classify([self.prepare(image)])[0]


if __name__ == "__main__":
    classifier = Classifier()
    for name in sys.argv[1:]:
        answer = classifier(Image.open(name))
        ranked = sorted(answer["probabilities"].items(), key=lambda pair: -pair[1])
        print(
            name, *["none of these:"] * answer["none"], *(f"{label}={p:.3f}" for label, p in ranked)
        )
