"""What a model says of pictures: probabilities and features, in batches."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from tqdm import tqdm

from pawprint.pictures.batches import Pictures
from pawprint.training.device import AT_A_TIME
from pawprint.training.model import ModelConfig, body, normalise


@torch.no_grad()
def predict(
    model: nn.Module,
    pictures: Pictures,
    config: ModelConfig,
    device: torch.device,
    view: Callable[[Tensor], Tensor] = lambda batch: batch,
) -> Tensor:
    """Probabilities (N, classes) on the CPU for uint8 pictures (N, S, S, 3), or for a `view` of each batch of them."""
    return in_batches(
        lambda inputs: model(inputs).softmax(dim=1), model, pictures, config, device, view
    )


@torch.no_grad()
def features(
    model: nn.Module, pictures: Pictures, config: ModelConfig, device: torch.device
) -> Tensor:
    """What the head would see, (N, F) on the CPU, for uint8 pictures (N, S, S, 3)."""
    return in_batches(lambda inputs: body(model, inputs), model, pictures, config, device)


def in_batches(
    compute: Callable[[Tensor], Tensor],
    model: nn.Module,
    pictures: Pictures,
    config: ModelConfig,
    device: torch.device,
    view: Callable[[Tensor], Tensor] = lambda batch: batch,
) -> Tensor:
    """`compute` on normalised batches, joined; the model stands in eval mode meanwhile."""
    model = model.to(device, memory_format=torch.channels_last)
    training, _ = model.training, model.eval()
    batches = tqdm(
        pictures.split(AT_A_TIME.get(device.type, 128)), "predict", unit="batch", leave=False
    )
    results = [
        compute(normalise(view(batch.to(device)), config)).float().cpu() for batch in batches
    ]
    model.train(training)
    return torch.cat(results)
