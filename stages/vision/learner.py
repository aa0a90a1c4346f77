"""fine_tune, as fast.ai does it: first the new head on a frozen body, then all of it, each in one cycle.

The frozen epochs run on features that are computed once: the frozen body gives the same answer every epoch, so that
hundreds of head epochs cost one pass over the pictures.
Source: Howard and Gugger, "Deep Learning for Coders with fastai and PyTorch", chapters 5 and 7; Howard and Ruder,
"Universal language model fine-tuning", arXiv:1801.06146, for discriminative learning rates.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from timm.models import group_parameters
from torch import Tensor, nn
from tqdm import tqdm

from stages.params import StageError
from stages.vision.augment import augment
from stages.vision.model import ModelConfig, head, normalise
from stages.vision.predict import features, in_batches
from stages.vision.recipe import TrainParams
from stages.vision.schedule import one_cycle


@dataclass(frozen=True)
class Data:
    """Pictures and targets of one training.

    train: uint8 (N, P, P, 3), larger than the input so that views can be cut from them; train_flat: the same pictures
    uint8 (N, S, S, 3) as the model sees them when it is asked; valid: uint8 (M, S, S, 3); targets: int64 (N,) and (M,).
    """

    train: Tensor
    train_flat: Tensor
    train_targets: Tensor
    valid: Tensor
    valid_targets: Tensor


def fine_tune(
    model: nn.Module, config: ModelConfig, data: Data, params: TrainParams, lr: float, device: torch.device
) -> list[dict]:
    """Train `model` in place; a row an epoch: epoch, step, phase, lr, train_loss, valid_loss, error_rate.

    lr: the highest learning rate of the head; the body's first layers get lr / lr_mult.
    Raises StageError that names train.lr when the loss diverges.
    """
    model.to(device, memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(params.seed)
    rows: list[dict] = []
    if params.freeze_epochs:
        rows += fit_head(model, config, data, params, lr, device, generator)
    if params.epochs:
        rows += fit_all(model, config, data, params, lr / 2, device, generator, done=rows)
    return rows


def fit_head(
    model: nn.Module,
    config: ModelConfig,
    data: Data,
    params: TrainParams,
    lr: float,
    device: torch.device,
    generator: torch.Generator,
) -> list[dict]:
    """`freeze_epochs` epochs of the head on the frozen body's features."""
    seen, kept = (features(model, pictures, config, device).to(device) for pictures in (data.train_flat, data.valid))
    targets = data.train_targets.to(device)
    layer = head(model)
    optimizer = make_optimizer([(list(layer.named_parameters()), lr)], params.weight_decay)
    return fit(
        lambda batch: layer(seen[batch]),
        lambda: layer(kept).float().cpu(),
        targets,
        data.valid_targets,
        optimizer,
        "frozen",
        params.freeze_epochs,
        params,
        generator,
    )


def fit_all(
    model: nn.Module,
    config: ModelConfig,
    data: Data,
    params: TrainParams,
    lr: float,
    device: torch.device,
    generator: torch.Generator,
    done: list[dict],
) -> list[dict]:
    """`epochs` epochs of the whole model on augmented views."""
    pictures, targets = data.train.to(device), data.train_targets.to(device)

    def logits(batch: Tensor) -> Tensor:
        views = augment(pictures[batch], params.train_size, params.augment, generator)
        # Batch-norm keeps the body's running statistics, which come from a million pictures; those of a few small
        # batches are noise, and the model is asked about pictures one at a time.
        freeze_batch_norm(model.train())
        return model(normalise(views, config))

    def valid_logits() -> Tensor:
        with torch.no_grad():
            return in_batches(model, model, data.valid, config, device)

    optimizer = make_optimizer(layer_groups(model, lr / params.lr_mult, lr), params.weight_decay)
    return fit(
        logits,
        valid_logits,
        targets,
        data.valid_targets,
        optimizer,
        "full",
        params.epochs,
        params,
        generator,
        first_epoch=len(done),
        first_step=done[-1]["step"] if done else 0,
    )


def fit(
    logits: Callable[[Tensor], Tensor],
    valid_logits: Callable[[], Tensor],
    targets: Tensor,
    valid_targets: Tensor,
    optimizer: torch.optim.Optimizer,
    phase: str,
    epochs: int,
    params: TrainParams,
    generator: torch.Generator,
    first_epoch: int = 0,
    first_step: int = 0,
) -> list[dict]:
    """The loop: `epochs` passes in random order under one cycle of learning rate and momentum."""
    loss_of = nn.CrossEntropyLoss(label_smoothing=params.label_smoothing)
    sizes = batch_sizes(len(targets), params.batch_size)
    highest = [group["lr"] for group in optimizer.param_groups]
    rows, step = [], 0
    bar = tqdm(total=epochs * len(sizes), desc=phase, unit="step")
    for epoch in range(epochs):
        losses = []
        for batch in torch.randperm(len(targets), generator=generator).split(sizes):
            factor, momentum = one_cycle(step / (epochs * len(sizes)))
            for group, top in zip(optimizer.param_groups, highest, strict=True):
                group["lr"], group["betas"] = top * factor, (momentum, 0.99)
            batch = batch.to(targets.device)
            loss = loss_of(logits(batch), targets[batch])
            if not math.isfinite(loss.item()):
                raise StageError(
                    f"the loss is {loss.item()} at step {step} of the {phase} epochs: it diverged at a rate of "
                    f"{max(group['lr'] for group in optimizer.param_groups):.2g}; set a lower train.lr"
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append((loss.item(), len(batch)))
            step += 1
            bar.update()
        with torch.no_grad():
            answers = valid_logits()
        row = {
            "epoch": first_epoch + epoch + 1,
            "step": first_step + step,
            "phase": phase,
            "lr": optimizer.param_groups[-1]["lr"],
            "train_loss": sum(value * n for value, n in losses) / len(targets),
            "valid_loss": loss_of(answers, valid_targets).item(),
            "error_rate": (answers.argmax(dim=1) != valid_targets).float().mean().item(),
        }
        rows.append(row)
        bar.set_postfix({key: f"{row[key]:.4f}" for key in ("train_loss", "valid_loss", "error_rate")})
    bar.close()
    return rows


def batch_sizes(n: int, batch_size: int) -> list[int]:
    """Sizes of near equal batches, none above `batch_size`: a last batch of one picture would be mostly noise."""
    count = math.ceil(n / batch_size)
    return [n // count + (i < n % count) for i in range(count)]


def make_optimizer(groups: list[tuple[list[tuple[str, nn.Parameter]], float]], decay: float) -> torch.optim.Optimizer:
    """AdamW as fast.ai sets it (eps 1e-5, no decay on biases and batch-norm), the last group the highest rate."""
    split = []
    for named, lr in groups:
        for wanted in (False, True):
            chosen = [parameter for _, parameter in named if (parameter.ndim > 1) == wanted]
            if chosen:
                split.append({"params": chosen, "lr": lr, "weight_decay": decay if wanted else 0.0})
    return torch.optim.AdamW(split, lr=0.0, betas=(0.95, 0.99), eps=1e-5)


def layer_groups(model: nn.Module, low: float, high: float) -> list[tuple[list[tuple[str, nn.Parameter]], float]]:
    """The model's layers, from input to head, with rates evenly spread in the logarithm from `low` to `high`."""
    named = dict(model.named_parameters())
    layers = group_parameters(model, model.group_matcher(coarse=True))
    order = [layers[key] for key in sorted(layers)]
    steps = max(len(order) - 1, 1)
    return [
        ([(name, named[name]) for name in names], low * (high / low) ** (i / steps)) for i, names in enumerate(order)
    ]


def freeze_batch_norm(model: nn.Module) -> None:
    """Put every batch-norm layer into eval mode: its statistics stand still, its weights still learn."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
