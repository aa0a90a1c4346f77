"""Fit a quadratic to the speed of a roller coaster, by gradient descent in seven steps.

Measures a speed each second as the coaster goes over a hump (drawn, with noise), and fits
speed = a t^2 + b t + c. Writes metrics/steps.csv (one row per step: the loss and a, b, c),
metrics/curve.csv (the measured and the fitted speeds), metrics/fit.json and plots/fit.png.
Source: Howard and Gugger, "Deep Learning for Coders with fastai and PyTorch", chapter 4.
"""

import pandas as pd
import torch
from matplotlib.figure import Figure
from pydantic import Field
from torch import Tensor

from pawprint.params import Params, StageError, load_params, run_stage
from pawprint.tables import png_of, write_bytes, write_json, write_table


class FitParams(Params):
    """The section `fit` of params.yaml."""

    seed: int = Field(ge=0, lt=2**63)
    points: int = Field(ge=3, le=100_000)
    noise: float = Field(ge=0)
    lr: float = Field(gt=0)
    steps: int = Field(ge=1, le=100_000)
    stop_below: float = Field(ge=0, lt=1)
    normalise: bool


def main() -> None:
    params = load_params("fit", FitParams)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(params.seed)

    # the measurements: it slows down to the top of the hump, and speeds up behind it
    time = torch.arange(params.points, dtype=torch.float64)
    noise = params.noise * torch.randn(params.points, generator=generator, dtype=torch.float64)
    speed = noise + 0.75 * (time - (params.points - 1) / 2) ** 2 + 1
    t = (time - time.mean()) / time.std() if params.normalise else time

    # 1 initialise: a, b, c at random
    weights = torch.randn(3, generator=generator, dtype=torch.float64)
    rows, curves = [], []
    for step in range(params.steps + 1):
        # 2 predict
        weights.requires_grad_()
        fitted = quadratic(t, weights)
        # 3 loss
        loss = mean_squared_error(fitted, speed)
        if not torch.isfinite(loss):
            raise StageError(f"the loss is {loss.item()} after {step} steps: lower fit.lr")
        rows.append([step, loss.item(), *weights.tolist()])
        curves.append(fitted.detach())
        # 4 gradient
        (gradient,) = torch.autograd.grad(loss, weights)
        # 5 step
        weights = weights.detach() - params.lr * gradient
        # 6 repeat, or 7 stop: the last step has changed too little
        if step and abs(rows[-1][1] - rows[-2][1]) < params.stop_below * rows[-2][1]:
            break
    if rows[-1][1] > rows[0][1]:
        raise StageError(f"the loss rose from {rows[0][1]:.3g} to {rows[-1][1]:.3g}: lower fit.lr")

    # how far it has come: from the first guess towards the best fit that there is
    powers = torch.stack([t**2, t, torch.ones_like(t)], dim=1)
    best = powers @ torch.linalg.lstsq(powers, speed[:, None]).solution
    figures = {
        "steps": len(rows) - 1,
        "first_loss": rows[0][1],
        "loss": rows[-1][1],
        "loss_of_the_mean": mean_squared_error(speed.mean(), speed).item(),
        "loss_of_least_squares": mean_squared_error(best[:, 0], speed).item(),
    }
    write_json("metrics/fit.json", figures)
    write_table("metrics/steps.csv", pd.DataFrame(rows, columns=["step", "loss", "a", "b", "c"]))
    curve = pd.DataFrame({"time": time, "speed": speed, "fitted": curves[-1]})
    write_table("metrics/curve.csv", curve)
    write_bytes("plots/fit.png", draw(time, speed, curves))


def quadratic(t: Tensor, weights: Tensor) -> Tensor:
    """Return a t^2 + b t + c for all times, (points,). weights: a, b, c."""
    a, b, c = weights
    return a * t**2 + b * t + c


def mean_squared_error(fitted: Tensor, speed: Tensor) -> Tensor:
    """Return the mean of the squared differences."""
    return ((fitted - speed) ** 2).mean()


def draw(time: Tensor, speed: Tensor, curves: list[Tensor]) -> bytes:
    """Return a PNG of the measurements and of the curve after 0, 1, 5 and all steps."""
    last = len(curves) - 1
    shown = sorted({min(step, last) for step in (0, 1, 5, last)})
    figure = Figure(figsize=(12, 3), layout="constrained")
    places = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, step in zip(places, shown, strict=True):
        axes.scatter(time, speed, s=12)
        axes.plot(time, curves[step], color="tab:red")
        axes.set(title=f"after {step} step{'s' * (step != 1)}", xlabel="time, s")
    places[0].set_ylabel("speed")
    return png_of(figure)


if __name__ == "__main__":
    run_stage(main)
