"""Test-time augmentation: a model that is asked about several random views of a picture errs a little less.

As fast.ai's `Learner.tta` (fastai 2.8, learner.py): the mean of the probabilities for four views drawn as in training
and, at a weight of a quarter, those for the picture itself.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stages.params import Params, load_params
from stages.vision.augment import augment
from stages.vision.batches import PRESIZE, load_pictures
from stages.vision.model import ModelConfig
from stages.vision.predict import predict
from stages.vision.recipe import TrainParams

VIEWS, BETA = 4, 0.25


class EvaluateParams(Params):
    """The section `evaluate` of params.yaml, which interpret reads too: both ask the models in the same way."""

    tta: bool


def answer(model: nn.Module, config: ModelConfig, paths: Sequence[str], device: torch.device) -> Tensor:
    """Probabilities (N, classes) on the CPU for picture files; of several views of each where `evaluate.tta` is true.

    Raises StageError that names a picture which cannot be read.
    """
    pictures = load_pictures(paths, config.size, config.resize, config.interpolation)
    plain = predict(model, pictures, config, device)
    if not load_params("evaluate", EvaluateParams).tta:
        return plain
    recipe = load_params("train", TrainParams)
    generator = torch.Generator().manual_seed(recipe.seed)

    def view(batch: Tensor) -> Tensor:
        return augment(batch, recipe.train_size, recipe.augment, generator)

    large = load_pictures(paths, round(config.size * PRESIZE), config.resize, config.interpolation)
    views = [predict(model, large, config, device, view) for _ in range(VIEWS)]
    return torch.lerp(torch.stack(views).mean(dim=0), plain, BETA)
