"""What a model says about pictures: probabilities and features, computed in batches."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from pawprint.params import StageError
from pawprint.pictures.batches import Pictures
from pawprint.training.device import AT_A_TIME
from pawprint.training.fold import settle
from pawprint.training.model import Head, body, normalise
from pawprint.training.stored import ModelConfig


def unchanged(batch: Tensor) -> Tensor:
    """Return the pictures of a batch as they are: the view of them if no other is wanted."""
    return batch


@torch.no_grad()
def predict_probabilities(
    model: nn.Module,
    pictures: Pictures,
    config: ModelConfig,
    device: torch.device,
    view: Callable[[Tensor], Tensor] = unchanged,
) -> Tensor:
    """Return probabilities (N, classes) on the CPU for uint8 pictures (N, S, S, 3).

    view: what to ask about instead of each batch, such as random views of its pictures.
    Raises StageError if the probabilities are NaN.
    """

    def probabilities(asked: nn.Module, inputs: Tensor) -> Tensor:
        return asked(inputs).softmax(dim=1)

    found = run_in_batches(probabilities, model, pictures, config, device, view)
    return refuse_nan(found, "probabilities")


@torch.no_grad()
def compute_features(
    model: nn.Module, pictures: Pictures, config: ModelConfig, device: torch.device
) -> Tensor:
    """Return what the head would see, (N, F) on the CPU, for uint8 pictures (N, S, S, 3).

    Raises StageError if the features are NaN or infinite.
    """

    return refuse_nan(run_in_batches(body, model, pictures, config, device), "features")


@torch.no_grad()
def describe_pictures(
    model: nn.Module, pictures: Pictures, config: ModelConfig, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what pawprint/training/features.py stores: features, mirrored (N, F), maps (N, 2 C).

    A model that does not give its last block's maps has its features in their place, twice.
    Raises StageError if a number is NaN or infinite.
    """

    def look(asked: Any, inputs: Tensor) -> tuple[Tensor, Tensor]:
        if not hasattr(asked, "forward_intermediates"):
            seen = body(asked, inputs)
            return seen, torch.cat([seen, seen], dim=1)
        last, (maps,) = asked.forward_intermediates(inputs, indices=1)
        spread, mean = torch.std_mean(maps, dim=(2, 3), correction=0)
        return asked.forward_head(last, pre_logits=True), torch.cat([mean, spread], dim=1)

    def look_twice(asked: nn.Module, inputs: Tensor) -> Tensor:
        (plain, maps), (mirrored, same) = look(asked, inputs), look(asked, inputs.flip(3))
        return torch.cat([plain, mirrored, (maps + same) / 2], dim=1)

    found = refuse_nan(run_in_batches(look_twice, model, pictures, config, device), "features")
    width = Head(model).in_features
    plain, mirrored, maps = found.tensor_split([width, 2 * width], dim=1)
    return plain, mirrored, maps


def run_in_batches(
    compute: Callable[[nn.Module, Tensor], Tensor],
    model: nn.Module,
    pictures: Pictures,
    config: ModelConfig,
    device: torch.device,
    view: Callable[[Tensor], Tensor] = unchanged,
    again: bool = False,
) -> Tensor:
    """Return what `compute` gives for normalised batches, joined, float (N, ...) on the CPU.

    compute: from a model in eval mode, and inputs, to rows. The model is a faster copy of `model`,
    or itself if it will be asked again and again as it changes: a copy takes half a second.
    """
    model = model.to(device).to(memory_format=torch.channels_last)
    asked, results = model.eval() if again else None, []
    for inputs in input_batches(pictures, config, device, view):
        asked = asked or settle(model, inputs.shape[-1]).eval()
        results.append(compute(asked, inputs).float().cpu())
    return torch.cat(results)


def input_batches(
    pictures: Pictures,
    config: ModelConfig,
    device: torch.device,
    view: Callable[[Tensor], Tensor] = unchanged,
) -> Iterator[Tensor]:
    """Yield what a model reads, normalised batches (n, 3, H, W) on the device.

    pictures: uint8 (N, S, S, 3). view: as for `predict_probabilities`.
    """
    batches = pictures.split(AT_A_TIME.get(device.type, 128))
    for batch in tqdm(batches, "predict", unit="batch", leave=False):
        yield normalise(view(batch.to(device)), config)


def refuse_nan(values: Tensor, what: str) -> Tensor:
    """Return the values, or raise StageError if any of them is NaN or infinite."""
    if not values.isfinite().all():
        raise StageError(
            f"the model's {what} are not numbers (NaN or infinite): its weights are damaged, or "
            "too large for train.precision fp16; check train.weights and set train.precision: fp32"
        )
    return values
