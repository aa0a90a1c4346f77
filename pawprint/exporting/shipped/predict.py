"""Ask the exported model about pictures: `python predict.py PICTURE…`.

It needs numpy, pillow and onnxruntime only, and pi-heif for HEIC files. The folder pictures/ beside
it opens pictures in the way in which they were opened for training.
"""

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

if __package__:  # imported by the commands of pawprint
    from pawprint.pictures.opening import Preparation, Unusable, open_picture
    from pawprint.pictures.square import to_square
else:  # beside the model, in an exported folder
    from pictures.opening import (  # type: ignore[no-redef]
        Preparation,
        Unusable,
        open_picture,
    )
    from pictures.square import to_square  # type: ignore[no-redef]

Picture = str | Path | io.BytesIO | Image.Image
SHOWN = 5  # of the classes, the likeliest first
# colours of a map from cold to hot, red, green and blue, evenly spaced
HEAT = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))


class Classifier:
    """The model in a folder. Calling it with a picture, a file or a PIL image, gives an answer.

    threads: that work on one picture, 0 for all cores; several pictures at a time are faster with
    1, in a pool.
    """

    def __init__(self, folder: Path = Path(__file__).parent, threads: int = 0) -> None:
        import onnxruntime

        self.config = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        self.how = Preparation(**self.config.get("prepare", {}))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(
            folder / "model.onnx", options, providers=["CPUExecutionProvider"]
        )
        # what the model can say about an answer: maps, nearest, both or nothing
        self.explains = set(self.config.get("explains", []))
        near = folder / "nearest.json"
        self.known = json.loads(near.read_text(encoding="utf-8")) if self.explains else {}

    def prepare(self, picture: Picture, max_pixels: int = 0) -> np.ndarray:
        """Return a picture as the model takes it, uint8 (size, size, 3).

        max_pixels: a limit other than the model's own. Raises Unusable for what is not a picture,
        is too large or is broken.
        """
        config, how = self.config, self.how
        how = replace(how, max_pixels=max_pixels) if max_pixels else how
        image = open_picture(picture, how)
        square = to_square(image, config["size"], config["resize"], config["interpolation"])
        return np.asarray(square)

    def classify(
        self, prepared: Sequence[np.ndarray], explain: bool = False
    ) -> list[dict[str, Any]]:
        """Return an answer for each prepared picture.

        It holds label, probability, none (whether it is none of the classes), none_score (how much
        so), and the probabilities of all classes. explain: whether it also says why, as far as the
        model can; see `reasons`.
        """
        wanted = {"pictures": np.stack(prepared)}
        why = self.explains if explain else set()
        names = ["maps"] * ("maps" in why) + ["nearest", "similarity"] * ("nearest" in why)
        found = self.session.run(["probabilities", "none_score", *names], wanted)
        probabilities, scores, *_ = found
        reasons = dict(zip(names, found[2:], strict=True))
        answers = []
        rows = zip(probabilities.tolist(), scores.tolist(), strict=True)
        for i, (row, score) in enumerate(rows):
            chances = dict(zip(self.config["classes"], row, strict=True))
            label = max(chances, key=lambda name: chances[name])
            said = {
                "label": label,
                "probability": chances[label],
                "none": score > self.config["none_threshold"],
            }
            said = {**said, "none_score": score, "probabilities": chances}
            if reasons:
                said |= self.reasons({name: rows[i] for name, rows in reasons.items()}, label)
            answers.append(said)
        return answers

    def reasons(self, outputs: dict[str, np.ndarray], label: str) -> dict[str, Any]:
        """Return why the model gave a label.

        heat: h lists of w numbers, how much each part of the square picture speaks for the label, 1
        for the part that does most, 0 where nothing does. nearest: the training pictures most like
        this one, the likest first: picture (the name of its file in data/images), label, similarity
        (the cosine of their features). outputs: of the graph, for one picture.
        """
        said: dict[str, Any] = {}
        if "maps" in outputs:
            heat = np.maximum(outputs["maps"][self.config["classes"].index(label)], 0)
            said["heat"] = (heat / max(float(heat.max()), 1e-12)).round(4).tolist()
        said["nearest"] = [
            {
                "picture": self.known["pictures"][row],
                "label": self.known["labels"][row],
                "similarity": cosine,
            }
            for row, cosine in zip(
                outputs["nearest"].tolist(), outputs["similarity"].tolist(), strict=True
            )
        ]
        return said

    def __call__(self, picture: Picture, explain: bool = False) -> dict[str, Any]:
        """Return the answer about one picture. Raises Unusable; see `prepare` and `classify`."""
        return self.classify([self.prepare(picture)], explain)[0]


def overlay(square: np.ndarray, heat: Sequence[Sequence[float]]) -> Image.Image:
    """Lay heat over a prepared picture, uint8 (size, size, 3): cold is dark, hot is coloured.

    heat: as `Classifier.reasons` gives it.
    """
    size = square.shape[1], square.shape[0]
    small = Image.fromarray((np.asarray(heat) * 255).round().astype(np.uint8))
    level = np.asarray(small.resize(size, Image.Resampling.BICUBIC)) / 255
    stops = np.linspace(0, 1, len(HEAT))
    channels = np.transpose(HEAT)
    colour = np.stack([np.interp(level, stops, channel) for channel in channels], axis=-1)
    share = 0.25 + 0.4 * level[..., None]
    return Image.fromarray((square * (1 - share) + colour * share).astype(np.uint8))


def main(names: Sequence[str]) -> int:
    """Print one line per picture; return the exit code, 1 if any could not be read."""
    if not names:
        print("usage: python predict.py PICTURE…", file=sys.stderr)
        return 2
    try:
        classifier = Classifier()
    except Exception as error:  # onnxruntime raises its own kinds
        print(f"predict.py: the model cannot be read: {one_line(error)}", file=sys.stderr)
        return 1
    failed = 0
    for name in names:
        try:
            answer = classifier(name)
        except Unusable as error:
            failed += 1
            print(f"{name}  error: {one_line(error)}")
            continue
        ranked = sorted(answer["probabilities"].items(), key=lambda pair: -pair[1])
        said = ["none of these:"] * answer["none"] + [
            f"{label}={p:.3f}" for label, p in ranked[:SHOWN]
        ]
        print(name, *said)
    return 1 if failed else 0


def title_of(classes: Sequence[str]) -> str:
    """Return the question that the model answers, in one short line for any number of classes."""
    named = " or ".join(classes) + "?"
    return named if len(named) < 60 else f"Which of {len(classes)} classes?"


def one_line(error: Exception) -> str:
    """Return what an error says, in one line."""
    if isinstance(error, Unusable):
        return str(error)
    return getattr(error, "strerror", None) or " ".join(f"{type(error).__name__}: {error}".split())


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:  # `python predict.py … | head` has read enough
        sys.stderr.close()
        sys.exit(141)
