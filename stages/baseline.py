"""What a model must beat: the most frequent class, pixel similarity, and a linear head on frozen features.

Reads data/split.csv and data/images. Writes metrics/baseline.json (error rates on the valid split) and
models/linear.safetensors, for evaluate to ask all of them about the test split beside the models.

Pixel similarity is the baseline of fast.ai's book (Howard and Gugger, "Deep Learning for Coders", chapter 4): the mean
of a class's training pictures, and for each new picture the class whose mean is nearest in the mean absolute (L1) or
root mean squared (L2) difference of pixels.

The linear head (logistic regression on what the pretrained body makes of a picture, nothing of which is trained) shows
what fine-tuning the body buys.
"""

import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from stages.params import load_params, run_stage
from stages.pixels import BaselineParams, pixel_answers
from stages.tables import read_table, write_json
from stages.vision.batches import load_pictures
from stages.vision.device import ComputeParams, start
from stages.vision.model import Head, ModelConfig, create_model, save_model
from stages.vision.predict import features, predict
from stages.vision.recipe import TrainParams


def main() -> None:
    params = load_params("baseline", BaselineParams)
    recipe = load_params("train", TrainParams)
    device = start(load_params("compute", ComputeParams), recipe.seed)
    table = read_table("data/split.csv")
    train, valid = (table[table["split"] == split] for split in ("train", "valid"))
    paths = valid["path"].tolist()
    model, config = create_model(recipe, sorted(table["label"].unique()))
    fit_linear_head(model, config, train, device)
    save_model("models/linear.safetensors", model, config)
    pictures = load_pictures(paths, config.size, config.resize, config.interpolation)
    answers = {
        "majority": [train["label"].mode()[0]] * len(valid),
        **pixel_answers(train, paths, params.size),
        "linear": [config.classes[i] for i in predict(model, pictures, config, device).argmax(dim=1).tolist()],
    }
    errors = {f"{name}_error": (given != valid["label"].to_numpy()).mean() for name, given in answers.items()}
    write_json("metrics/baseline.json", {"valid": errors})


def fit_linear_head(model: nn.Module, config: ModelConfig, train: pd.DataFrame, device: torch.device) -> None:
    """Set the head by logistic regression on the features of `train` (columns path, label), scaled to one spread."""
    pictures = load_pictures(train["path"].tolist(), config.size, config.resize, config.interpolation)
    seen = features(model, pictures, config, device).double().numpy()
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    scaler, regression = (step for _, step in linear.fit(seen, train["label"].map(config.classes.index)).steps)
    weight, bias = torch.from_numpy(regression.coef_), torch.from_numpy(regression.intercept_)
    if len(weight) == 1:  # of two classes, scikit-learn gives the second's weights alone
        weight, bias = torch.cat([torch.zeros_like(weight), weight]), torch.cat([torch.zeros_like(bias), bias])
    weight = weight / torch.from_numpy(scaler.scale_)
    Head(model).put(weight, bias - weight @ torch.from_numpy(scaler.mean_))


if __name__ == "__main__":
    run_stage(main)
