"""A page to try the model on, for a Hugging Face Space or `python app.py`.

It needs gradio, see requirements.txt.
"""

import gradio
from pictures.opening import Unusable
from predict import SHOWN, Classifier, title_of

classifier = Classifier()


def classify(path: str | None) -> dict[str, float] | None:
    """Return probabilities by class; nothing if no picture was given."""
    if path is None:
        return None
    try:
        answer = classifier(path)
    except Unusable as error:
        raise gradio.Error(f"This file cannot be used: {error}.") from None
    return {"none of these": 1.0} if answer["none"] else answer["probabilities"]


page = gradio.Interface(
    classify,
    # the file as it came: opening it is the work of the classifier
    gradio.Image(type="filepath", image_mode=None, label="Picture"),
    gradio.Label(num_top_classes=SHOWN, label="Answer"),
    title=title_of(classifier.config["classes"]),
)

if __name__ == "__main__":
    page.launch()
