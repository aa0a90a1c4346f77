"""A page to try the model on, for a Hugging Face Space or `python app.py`.

It needs gradio, see requirements.txt. If the model explains itself, the page shows where it looked
and which training pictures are most like the picture.
"""

from typing import Any

import gradio
from pictures.opening import Unusable
from predict import SHOWN, Classifier, overlay, title_of

classifier = Classifier()


def classify(path: str | None) -> Any:
    """Return probabilities by class, and why if the model says so; nothing without a picture."""
    if path is None:
        return None if len(shown) == 1 else [None] * len(shown)
    try:
        square = classifier.prepare(path)
    except Unusable as error:
        raise gradio.Error(f"This file cannot be used: {error}.") from None
    (answer,) = classifier.classify([square], explain=True)
    said: list[Any] = [{"none of these": 1.0} if answer["none"] else answer["probabilities"]]
    if "heat" in answer:
        said.append(overlay(square, answer["heat"]))
    if "nearest" in answer:
        said.append([[each[name] for name in NEAREST] for each in answer["nearest"]])
    return said[0] if len(said) == 1 else said


NEAREST = ("label", "similarity", "picture")
shown: list[Any] = [gradio.Label(num_top_classes=SHOWN, label="Answer")]
if "maps" in classifier.explains:
    shown.append(gradio.Image(label="Where it looked: bright parts speak for the likeliest class"))
if "nearest" in classifier.explains:
    shown.append(gradio.Dataframe(headers=list(NEAREST), label="Most like these training pictures"))

page = gradio.Interface(
    classify,
    # the file as it came: opening it is the work of the classifier
    gradio.Image(type="filepath", image_mode=None, label="Picture"),
    shown,
    title=title_of(classifier.config["classes"]),
)

if __name__ == "__main__":
    page.launch()
