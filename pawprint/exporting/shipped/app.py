"""A page to try the model on, for a Hugging Face Space or `python app.py`.

It needs gradio, see requirements.txt.
"""

import gradio
from predict import Classifier

classifier = Classifier()


def classify(image):
    """Return probabilities by class; nothing if no picture was given."""
    if image is None:
        return None
    answer = classifier(image)
    return {"none of these": 1.0} if answer["none"] else answer["probabilities"]


page = gradio.Interface(
    classify,
    gradio.Image(type="pil", label="Picture"),
    gradio.Label(num_top_classes=5, label="Answer"),
    title=" or ".join(classifier.config["classes"]) + "?",
)

if __name__ == "__main__":
    page.launch()
