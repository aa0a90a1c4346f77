"""Test-time augmentation: a model that is asked about several random views errs a little less.

As fast.ai's `Learner.tta` (fastai 2.8, learner.py): the mean of the probabilities for four views
drawn as in training and, with a weight of a quarter, those for the picture itself.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pawprint.params import Params
from pawprint.pictures.batches import PRESIZE, load_pictures
from pawprint.training.augment import augment
from pawprint.training.inference import predict_probabilities
from pawprint.training.model import ModelConfig
from pawprint.training.recipe import TrainParams

VIEWS, BETA = 4, 0.25


class EvaluateParams(Params):
    """The section `evaluate` of params.yaml. interpret reads it too: both ask in the same way."""

    tta: bool


def predict_files(
    model: nn.Module,
    config: ModelConfig,
    paths: Sequence[str],
    device: torch.device,
    views: TrainParams | None = None,
) -> Tensor:
    """Return probabilities (N, classes) on the CPU for picture files.

    views: how training draws views, if several of each picture are to be asked about.
    Raises StageError that names a picture which cannot be read.
    """
    pictures = load_pictures(paths, config.size, config.resize, config.interpolation)
    plain = predict_probabilities(model, pictures, config, device)
    if views is None:
        return plain
    generator = torch.Generator().manual_seed(views.seed)

    def view(batch: Tensor) -> Tensor:
        return augment(batch, views.train_size, views.augment, generator)

    size = round(config.size * PRESIZE)
    large = load_pictures(paths, size, config.resize, config.interpolation)
    drawn = [predict_probabilities(model, large, config, device, view) for _ in range(VIEWS)]
    return torch.lerp(torch.stack(drawn).mean(dim=0), plain, BETA)
