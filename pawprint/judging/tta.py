"""Test-time augmentation: a model that is asked about several random views errs a little less.

As fast.ai's `Learner.tta` (fastai 2.8, learner.py): the mean of the probabilities for four views
drawn as in training and, with a weight of a quarter, those for the picture itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from pawprint.compute.engine import Engine
from pawprint.params import Params
from pawprint.pictures.batches import PRESIZE, Pictures, load_pictures
from pawprint.training.augment import augment, geometry, lighting
from pawprint.training.device import AT_A_TIME, ComputeParams, start
from pawprint.training.inference import predict_probabilities
from pawprint.training.recipe import TrainParams
from pawprint.training.stored import ModelConfig

VIEWS, BETA = 4, 0.25
FEW = 128  # pictures that travel to a worker together; a multiple of what a device takes at a time


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
    model: nn.Module,
    config: ModelConfig,
    questions: Questions,
    device: torch.device,
    states: Sequence[Tensor] = (),
) -> Tensor:
    """Return probabilities (N, classes) on the CPU.

    states: of the generator, with which to begin each of the VIEWS; else they follow each other.
    """
    plain = predict_probabilities(model, questions.plain, config, device)
    large, recipe = questions.large, questions.recipe
    if large is None or recipe is None:
        return plain
    generator = torch.Generator().manual_seed(recipe.seed)

    def view(batch: Tensor) -> Tensor:
        return augment(batch, recipe.train_size, recipe.augment, generator)

    drawn = []
    for i in range(VIEWS):
        if states:
            generator.set_state(states[i])
        drawn.append(predict_probabilities(model, large, config, device, view))
    return torch.lerp(torch.stack(drawn).mean(dim=0), plain, BETA)


def ask(
    engine: Engine,
    compute: ComputeParams,
    model: nn.Module,
    config: ModelConfig,
    paths: Sequence[str],
    views: TrainParams | None,
) -> Tensor:
    """Return what the workers of a cluster answer about pictures, as `answer` does.

    They draw the same views as one machine whose device takes as many pictures at a time.
    """
    on_gpu = compute.device != "cpu" and engine.has_gpus()
    parts = [list(paths[first : first + FEW]) for first in range(0, len(paths), FEW)]
    states: list[list[Tensor]] = [[] for _ in parts]
    if views:
        at_a_time = FEW if on_gpu else AT_A_TIME["cpu"]
        states = states_of_views([len(part) for part in parts], at_a_time, views)
    found = engine.map(
        partial(answer_part, model=model, config=config, views=views, compute=compute),
        zip(parts, states, strict=True),
        pool="here",
        reads=lambda part: part[0],
        together=1,
        on_gpu=on_gpu,
    )
    return torch.cat(list(found))


def answer_part(
    part: tuple[list[str], list[Tensor]],
    model: nn.Module,
    config: ModelConfig,
    views: TrainParams | None,
    compute: ComputeParams,
) -> Tensor:
    """Return the answers about some pictures. part: their paths, and the states of `answer`."""
    paths, states = part
    device = start(compute, seed=0)
    return answer(model, config, load_questions(paths, config, views), device, states)


def states_of_views(sizes: list[int], at_a_time: int, recipe: TrainParams) -> list[list[Tensor]]:
    """Return the generator's state before each of the VIEWS, for each part of the pictures.

    sizes: of the parts, multiples of at_a_time but for the last.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    states: list[list[Tensor]] = [[] for _ in sizes]
    for _ in range(VIEWS):
        for own, size in zip(states, sizes, strict=True):
            own.append(generator.get_state())
            for first in range(0, size, at_a_time):
                n = min(at_a_time, size - first)
                geometry(n, recipe.augment, generator)
                lighting(n, recipe.augment, generator)
    return states
