"""Is it a three or a seven? Pixel similarity, a linear model and a net, from scratch.

Reads data/raw/{train,valid}/{3,7}/*.png. Writes metrics/mnist.json; metrics/loss.csv and
metrics/accuracy.csv, one row per epoch; and plots/weights.png, what each model looks for.
Each model is made twice: by hand, as tensors that we move ourselves, and as a Module moved by an
optimizer. Both begin with the same weights and see the same batches, so their curves are the same.
Source: Howard and Gugger, "Deep Learning for Coders with fastai and PyTorch", chapter 4.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from pawprint.judging.errors import wilson
from pawprint.params import Params, StageError, load_params, run_stage
from pawprint.tables import png_of, write_bytes, write_json, write_table
from pawprint.training.device import ComputeParams, start

SIDE = 28  # pixels
Model = Callable[[Tensor], Tensor]  # from pictures, (N, 784), to logits, (N,): above 0 is a three
Step = Callable[[], None]  # moves the weights along their gradients


class FitParams(Params):
    """The section `fit` of params.yaml."""

    seed: int = Field(ge=0, lt=2**32)
    batch_size: int = Field(ge=1)
    epochs: int = Field(ge=1, le=10_000)
    linear_lr: float = Field(gt=0)
    net_lr: float = Field(gt=0)
    hidden: int = Field(ge=1, le=1000)


class Digits(NamedTuple):
    """The pictures of a split. x: (N, 784), 0 to 1; y: (N,), 1 for a three, 0 for a seven."""

    x: Tensor
    y: Tensor


def main() -> None:
    params = load_params("fit", FitParams)
    start(ComputeParams(device="cpu", threads=1), params.seed)
    train, valid = load("train"), load("valid")

    # a baseline: which mean digit is a picture closer to, by L1 and by L2?
    three, seven = train.x[train.y == 1].mean(dim=0), train.x[train.y == 0].mean(dim=0)
    models: dict[str, Model] = {
        "similarity_l1": lambda x: (x - seven).abs().mean(dim=1) - (x - three).abs().mean(dim=1),
        "similarity_l2": lambda x: rms(x - seven) - rms(x - three),
    }

    # by hand: weights, a model that uses them, and a step that moves them
    w, b = random_weights(SIDE**2, 1), torch.zeros(1, requires_grad=True)
    w1, b1 = random_weights(SIDE**2, params.hidden), torch.zeros(params.hidden, requires_grad=True)
    w2, b2 = random_weights(params.hidden, 1), torch.zeros(1, requires_grad=True)
    first = w1.detach().clone()

    def linear_by_hand(x: Tensor) -> Tensor:
        return (x @ w + b)[:, 0]

    def net_by_hand(x: Tensor) -> Tensor:
        hidden = (x @ w1 + b1).clamp(min=0)
        return (hidden @ w2 + b2)[:, 0]

    # … and the same as modules with an optimizer
    linear, net = (
        nn.Linear(SIDE**2, 1),
        nn.Sequential(nn.Linear(SIDE**2, params.hidden), nn.ReLU(), nn.Linear(params.hidden, 1)),
    )
    copy_weights([w, b], linear)
    copy_weights([w1, b1, w2, b2], net)
    sgd = torch.optim.SGD(linear.parameters(), params.linear_lr)
    net_sgd = torch.optim.SGD(net.parameters(), params.net_lr)
    contestants: dict[str, tuple[Model, Step]] = {
        "linear_by_hand": (linear_by_hand, lambda: move([w, b], params.linear_lr)),
        "linear_module": (lambda x: linear(x)[:, 0], lambda: take_step(sgd)),
        "net_by_hand": (net_by_hand, lambda: move([w1, b1, w2, b2], params.net_lr)),
        "net_module": (lambda x: net(x)[:, 0], lambda: take_step(net_sgd)),
    }

    # train each, and compare all
    losses, accuracies = {}, {}
    for name, (model, step) in contestants.items():
        models[name] = model
        losses[name], accuracies[name] = fit(model, step, train, valid, params)
        if not np.isfinite(losses[name]).all():
            raise StageError(f"{name}: the loss is not a number; lower fit.linear_lr or net_lr")
    epochs = pd.DataFrame({"epoch": range(1, params.epochs + 1)})
    write_table("metrics/loss.csv", epochs.assign(**losses))
    write_table("metrics/accuracy.csv", epochs.assign(**accuracies))
    figures = {name: judge(model, valid) for name, model in models.items()}
    write_json("metrics/mnist.json", {"pictures": len(valid.y), "valid": figures})
    pictures = {"mean 3": three, "mean 7": seven, "linear": w[:, 0]}
    learnt = (w1 - first).T  # without the noise that it began with
    pictures |= {f"unit {i}": unit for i, unit in enumerate(learnt, start=1)}
    write_bytes("plots/weights.png", draw(pictures))


def load(split: str) -> Digits:
    """Return the pictures of data/raw/SPLIT. Raises StageError for one that is not 28 x 28."""
    pixels, targets = [], []
    for digit in ("3", "7"):
        paths = sorted(Path("data/raw", split, digit).glob("*.png"))
        if not paths:
            raise StageError(f"data/raw/{split}/{digit} holds no .png; see gather.source")
        for path in paths:
            try:
                picture = np.asarray(Image.open(path).convert("L"))
            except OSError as error:
                raise StageError(f"{path} cannot be read as a picture: {error}") from None
            if picture.shape != (SIDE, SIDE):
                raise StageError(f"{path} has {picture.shape} pixels; it should have 28 x 28")
            pixels.append(picture.reshape(-1))
            targets.append(float(digit == "3"))
    return Digits(torch.from_numpy(np.stack(pixels)).float() / 255, torch.tensor(targets))


def rms(x: Tensor) -> Tensor:
    """Return the root of the mean square of each row."""
    return (x**2).mean(dim=1).sqrt()


def random_weights(inputs: int, outputs: int) -> Tensor:
    """Return weights, (inputs, outputs), so small that sums over the inputs are of size 1."""
    return (torch.randn(inputs, outputs) / inputs**0.5).requires_grad_()


def copy_weights(tensors: Sequence[Tensor], module: nn.Module) -> None:
    """Give a module the weights made by hand; a Linear keeps its matrix the other way round."""
    with torch.no_grad():
        for tensor, parameter in zip(tensors, module.parameters(), strict=True):
            parameter.copy_(tensor.T if tensor.ndim == 2 else tensor)


def fit(
    model: Model, step: Step, train: Digits, valid: Digits, params: FitParams
) -> tuple[list[float], list[float]]:
    """Train a model; return the mean training loss and the accuracy on valid after each epoch."""
    generator = torch.Generator().manual_seed(params.seed)  # the same batches for every model
    losses, accuracies = [], []
    for _ in range(params.epochs):
        total = 0.0
        for batch in torch.randperm(len(train.y), generator=generator).split(params.batch_size):
            loss = mnist_loss(model(train.x[batch]), train.y[batch])
            loss.backward()
            step()
            total += loss.item() * len(batch)
        losses.append(total / len(train.y))
        accuracies.append(judge(model, valid)["accuracy"])
    return losses, accuracies


def mnist_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Return how far the predictions, 0 to 1, are from their targets, on average."""
    predictions = logits.sigmoid()
    return torch.where(y == 1, 1 - predictions, predictions).mean()


def move(weights: Sequence[Tensor], lr: float) -> None:
    """Move tensors a step against their gradients, and forget the gradients: SGD by hand."""
    with torch.no_grad():
        for tensor in weights:
            if tensor.grad is not None:
                tensor -= lr * tensor.grad
            tensor.grad = None


def take_step(optimizer: torch.optim.Optimizer) -> None:
    """Do the same with an optimizer."""
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def judge(model: Model, valid: Digits) -> dict[str, float]:
    """Return the accuracy and its 95 % interval."""
    right = int(((model(valid.x) > 0) == (valid.y == 1)).sum())
    low, high = wilson(right, len(valid.y))
    return {"accuracy": right / len(valid.y), "low": low, "high": high}


def draw(pictures: dict[str, Tensor], columns: int = 11) -> bytes:
    """Return a PNG of weights as pictures, (784,) each, stretched from black to white."""
    lines = -(-len(pictures) // columns)
    figure = Figure(figsize=(columns, 1.25 * lines), layout="constrained")
    places = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes in places:
        axes.set_axis_off()
    for axes, (name, weights) in zip(places, pictures.items(), strict=False):
        pixels = weights.detach().reshape(SIDE, SIDE).numpy()
        axes.imshow(pixels, cmap="gray", interpolation="nearest")
        axes.set_title(name, fontsize=9)
    return png_of(figure)


if __name__ == "__main__":
    run_stage(main)
