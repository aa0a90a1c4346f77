"""Test-time augmentation: a model that is asked about several random views errs a little less.

As fast.ai's `Learner.tta` (fastai 2.8, learner.py): the mean of the probabilities for four views
drawn as in training and, with a weight of a quarter, those for the picture itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pawprint.params import Params
from pawprint.pictures.batches import PRESIZE, Pictures, load_pictures
from pawprint.training.augment import augment
from pawprint.training.inference import predict_probabilities
from pawprint.training.recipe import TrainParams
from pawprint.training.stored import ModelConfig

VIEWS, BETA = 4, 0.25


class EvaluateParams(Params):
    """The section `evaluate` of params.yaml. interpret reads it too: both ask in the same way."""

    tta: bool


@dataclass(frozen=True)
class Questions:
    """Pictures to ask models about.

    plain: uint8 (N, S, S, 3). large: the same, uint8 (N, P, P, 3), to draw views from, and recipe:
    how; both None if only the pictures themselves are asked about.
    """

    plain: Pictures
    large: Pictures | None = None
    recipe: TrainParams | None = None


def load_questions(
    paths: Sequence[str], config: ModelConfig, views: TrainParams | None = None
) -> Questions:
    """Decode picture files.

    views: how training draws views, if several of each picture are to be asked about.
    Raises StageError that names a picture which cannot be read.
    """
    plain = load_pictures(paths, config.size, config.resize, config.interpolation)
    if views is None:
        return Questions(plain)
    size = round(config.size * PRESIZE)
    large = load_pictures(paths, size, config.resize, config.interpolation)
    return Questions(plain, large, views)


def answer(
    model: nn.Module, config: ModelConfig, questions: Questions, device: torch.device
) -> Tensor:
    """Return probabilities (N, classes) on the CPU."""
    plain = predict_probabilities(model, questions.plain, config, device)
    large, recipe = questions.large, questions.recipe
    if large is None or recipe is None:
        return plain
    generator = torch.Generator().manual_seed(recipe.seed)

    def view(batch: Tensor) -> Tensor:
        return augment(batch, recipe.train_size, recipe.augment, generator)

    drawn = [predict_probabilities(model, large, config, device, view) for _ in range(VIEWS)]
    return torch.lerp(torch.stack(drawn).mean(dim=0), plain, BETA)
