"""A tiny training, held in memory: pictures of three colours, a tiny model, a few epochs."""

import torch

from pawprint.training.checkpoint import Checkpoint
from pawprint.training.inference import compute_features
from pawprint.training.learner import Learner, Row, TrainingData, fine_tune
from pawprint.training.model import create_model
from tests.support.recipe import recipe

CPU = torch.device("cpu")
QUICK = {"size": 32, "train_size": 32, "batch_size": 8, "freeze_epochs": 2, "epochs": 3}
Weights = dict[str, torch.Tensor]


def make_pictures(count: int, side: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw noisy pictures of three colours, (n, side, side, 3), and their classes (n,)."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % 3
    colours = torch.tensor([[180, 60, 60], [60, 160, 60], [60, 60, 180]])[targets]
    noise = torch.randint(-50, 50, (count, side, side, 3), generator=generator)
    return (colours[:, None, None] + noise).clamp(0, 255).to(torch.uint8), targets


def make_learner(
    checkpoint: Checkpoint | None = None,
    lrs: tuple[float, float] = (2e-5, 2e-3),
    **changes: object,
) -> Learner:
    """Return a learner for 20 pictures, 9 of valid; changes: of the recipe."""
    params = recipe(**{**QUICK, **changes})
    torch.manual_seed(params.seed)
    model, config = create_model(params, ["a", "b", "c"])
    train, targets = make_pictures(20, 36, 1)
    valid, valid_targets = make_pictures(9, 32, 2)
    flat = train[:, 2:-2, 2:-2].contiguous()
    seen, seen_valid = (compute_features(model, each, config, CPU) for each in (flat, valid))
    data = TrainingData(train, seen, targets, valid, seen_valid, valid_targets)
    return Learner(model, config, data, params, lrs, CPU, checkpoint)


def trained(**changes: object) -> tuple[list[Row], Weights]:
    """Train a learner to the end; return its rows and the model's weights."""
    learner = make_learner(**changes)
    return fine_tune(learner), learner.model.state_dict()


def same(one: Weights, other: Weights) -> bool:
    """Return whether two models are equal to the last bit."""
    return all(torch.equal(one[name], other[name]) for name in one)
