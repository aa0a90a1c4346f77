"""fine_tune, as fast.ai does it: first the new head on a frozen body, then all of it, each in one cycle.

The frozen epochs run on features that are computed once: the frozen body gives the same answer every epoch, so that
hundreds of head epochs cost one pass over the pictures.
Source: Howard and Gugger, "Deep Learning for Coders with fastai and PyTorch", chapters 5 and 7; Howard and Ruder,
"Universal language model fine-tuning", arXiv:1801.06146, for discriminative learning rates.

Several processes (`torchrun`) share each batch: all draw the same order and the same views, each takes its rows, and
their gradients are averaged, so that the result is that of one process but for rounding.
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.models import group_parameters
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from pawprint.params import StageError
from pawprint.training.augment import augment
from pawprint.training.checkpoint import Checkpoint
from pawprint.training.device import AT_A_TIME, gather_rows, processes
from pawprint.training.fold import fold
from pawprint.training.inference import features, in_batches
from pawprint.training.model import Head, ModelConfig, normalise
from pawprint.training.recipe import TrainParams, cycle_ends
from pawprint.training.schedule import one_cycle, warm_restarts

DIVERGED = 4  # times the loss of guessing: the mean of an epoch above it is taken for diverged

Groups = list[
    tuple[list[tuple[str, nn.Parameter]], float]
]  # named parameters and their highest learning rate


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


@dataclass(frozen=True)
class Phase:
    """A run of epochs under one optimizer and one schedule.

    inputs: what `module` reads, for the indices of a batch; module: from inputs to logits; valid_logits: (M, classes)
    on the CPU; schedule: from the share of the steps done to a factor for the learning rates, and the momentum.
    """

    name: str
    epochs: int
    first_epoch: int
    inputs: Callable[[Tensor], Tensor]
    module: nn.Module
    valid_logits: Callable[[], Tensor]
    groups: Groups
    schedule: Callable[[float], tuple[float, float]]
    average: AveragedModel | None = None


@dataclass
class Learner:
    """One training of `model`, in place, on `data`; `rows` gets a row an epoch.

    rates: the highest learning rates of the body's first layers and of the head.
    checkpoint: where to keep the state after each epoch, and to take it up from; None for nowhere.
    """

    model: nn.Module
    config: ModelConfig
    data: Data
    params: TrainParams
    rates: tuple[float, float]
    device: torch.device
    checkpoint: Checkpoint | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        params = self.params
        self.model.to(self.device, memory_format=torch.channels_last)
        self.rank, self.world = processes()
        self.generator = torch.Generator().manual_seed(params.seed)
        self.targets = self.data.train_targets.to(self.device)
        self.sizes = batch_sizes(len(self.targets), params.batch_size)
        if min(*self.sizes, len(self.data.valid)) < self.world:
            raise StageError(
                f"{self.world} processes are more than the pictures of a batch or of the valid split"
            )
        self.weights = class_weights(self.data.train_targets, len(self.config.classes), params)
        self.guessing = math.log(
            max(len(self.config.classes), 2)
        )  # the loss of equal probabilities
        self.autocast = partial(precision, params, self.device)

    def train(self) -> list[dict[str, Any]]:
        """Train as `params` says; a row an epoch: epoch, step, phase, lr, train_loss, valid_loss, error_rate.

        Raises StageError that names train.lr when the loss diverges.
        """
        params, self.saved = self.params, self.load()
        if params.freeze_epochs and len(self.rows) < params.freeze_epochs:
            self.fit(self.frozen_phase())
        if params.epochs:
            self.fit(self.full_phase())
        return self.rows

    def frozen_phase(self) -> Phase:
        """`freeze_epochs` of the head on the frozen body's features.

        mixup mixes features here (manifold mixup, arXiv:1806.05236), and ema waits for the whole model: this phase ends
        at a rate of nearly zero.
        """
        layer = Head(self.model)
        seen, kept = (
            self.shared(partial(features, self.model), pictures)
            for pictures in (self.data.train_flat, self.data.valid)
        )
        seen, kept = seen.to(self.device), kept.to(self.device)
        return Phase(
            name="frozen",
            epochs=self.params.freeze_epochs,
            first_epoch=0,
            inputs=lambda batch: seen[batch],
            module=layer,
            valid_logits=lambda: layer(kept).float().cpu(),
            groups=[(list(layer.named_parameters()), self.rates[1])],
            schedule=one_cycle,
        )

    def full_phase(self) -> Phase:
        """`epochs` of the whole model on augmented views."""
        params, pictures = self.params, self.data.train.to(self.device)
        average = (
            AveragedModel(self.model, avg_fn=partial(moving_average, params.ema))
            if params.ema
            else None
        )
        judged = average.module if average else self.model
        low, high = (
            (rate / 2 for rate in self.rates) if params.method == "fine_tune" else self.rates
        )

        def inputs(batch: Tensor) -> Tensor:
            return normalise(
                augment(pictures[batch], params.train_size, params.augment, self.generator),
                self.config,
            )

        return Phase(
            name="full",
            epochs=params.epochs,
            first_epoch=params.freeze_epochs,
            inputs=inputs,
            module=fold(self.model, self.config.size),
            valid_logits=lambda: self.shared(partial(in_batches, judged, judged), self.data.valid),
            groups=layer_groups(self.model, low, high),
            schedule={
                "fine_tune": one_cycle,
                "fit_one_cycle": partial(one_cycle, pct_start=0.25, div=25.0),
                "sgdr": partial(
                    warm_restarts,
                    ends=cycle_ends(params.epochs, params.cycle_len, params.cycle_mult),
                ),
            }[params.method],
            average=average,
        )

    def fit(self, phase: Phase) -> None:
        """The loop: passes in random order under one schedule of learning rate and momentum."""
        optimizer = make_optimizer(phase.groups, self.params.weight_decay)
        highest = [group["lr"] for group in optimizer.param_groups]
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.params.precision == "fp16")
        if self.saved and self.saved["phase"] == phase.name:
            optimizer.load_state_dict(self.saved["optimizer"])
            scaler.load_state_dict(self.saved["scaler"])
            if phase.average:
                phase.average.load_state_dict(self.saved["average"])
        module = (
            DistributedDataParallel(phase.module, broadcast_buffers=False)
            if self.world > 1
            else phase.module
        )
        total, first = phase.epochs * len(self.sizes), len(self.rows) - phase.first_epoch
        bar = tqdm(
            total=total,
            initial=first * len(self.sizes),
            desc=phase.name,
            unit="step",
            disable=self.rank > 0,
        )
        for epoch in range(first, phase.epochs):
            began, losses, step = time.monotonic(), 0.0, epoch * len(self.sizes)
            # Batch-norm keeps the body's running statistics, which come from a million pictures; those of a few small
            # batches are noise, and the model is asked about pictures one at a time. On 243 real bears it made no
            # difference: one error of 83 either way, valid loss 0.334 with still statistics and 0.333 with moving ones.
            # Still statistics can be folded into the convolutions.
            for part in (self.model, phase.module):
                freeze_batch_norm(part.train())
            torch.manual_seed(
                self.params.seed + epoch
            )  # of dropout: no epoch needs to know where the last one ended
            for batch in torch.randperm(len(self.targets), generator=self.generator).split(
                self.sizes
            ):
                factor, momentum = phase.schedule(step / total)
                for group, top in zip(optimizer.param_groups, highest, strict=True):
                    group["lr"], group["betas"] = top * factor, (momentum, 0.99)
                optimizer.zero_grad()
                losses += self.backward(module, phase.inputs, batch.to(self.device), scaler) * len(
                    batch
                )
                scaler.step(optimizer)
                scaler.update()
                if phase.average:
                    phase.average.update_parameters(self.model)
                step += 1
                bar.update()
                if not math.isfinite(losses):
                    raise self.diverged(losses, phase)
            row = self.row(
                phase, step, optimizer.param_groups[-1]["lr"], losses / len(self.targets)
            )
            if row["train_loss"] > DIVERGED * self.guessing:
                raise self.diverged(row["train_loss"], phase)
            self.rows.append(row)
            shown = {
                key: f"{row[key]:.4g}" for key in ("lr", "train_loss", "valid_loss", "error_rate")
            }
            bar.set_postfix({**shown, "seconds": f"{time.monotonic() - began:.1f}"})
            if phase.name == "full":
                self.save(phase, optimizer, scaler)
        bar.close()
        if phase.name == "frozen":
            self.save(phase, optimizer, scaler)
        elif phase.average:
            self.model.load_state_dict(phase.average.module.state_dict())

    def backward(
        self,
        module: nn.Module,
        inputs: Callable[[Tensor], Tensor],
        batch: Tensor,
        scaler: torch.amp.GradScaler,
    ) -> float:
        """Leave the gradients of the mean loss of the pictures at the indices `batch`, and return that loss.

        All processes draw the same random numbers for the whole batch, so that it does not matter how many share it;
        nor does it how many pictures are computed at a time, since batch-norm stands still.
        """
        targets = self.targets[batch]
        mixed, pairs = mixup(inputs(batch), targets, self.params.mixup, self.generator)
        mine = torch.arange(self.rank, len(batch), self.world, device=self.device)
        at_a_time = AT_A_TIME.get(self.device.type, len(batch))
        total = torch.zeros((), device=self.device)
        for part in mine.tensor_split(
            math.ceil(len(batch) / self.world / at_a_time)
        ):  # as many in every process
            with self.autocast():
                logits = module(mixed[part])
            loss = sum(share * self.loss(logits, each[part], of=each) for share, each in pairs)
            scaler.scale(
                loss * self.world
            ).backward()  # DistributedDataParallel takes the mean of the processes
            total += loss.detach()
        if self.world > 1:
            torch.distributed.all_reduce(total)
        return total.item()

    def loss(self, logits: Tensor, targets: Tensor, of: Tensor | None = None) -> Tensor:
        """The mean cross entropy of logits (n, classes), with the label smoothing and class weights of `params`.

        of: the targets of the batch that these are a part of, (N,): the sum over the parts is then the batch's mean.
        """
        weights = None if self.weights is None else self.weights.to(logits.device)
        loss = F.cross_entropy(
            logits.float(),
            targets,
            weights,
            reduction="sum",
            label_smoothing=self.params.label_smoothing,
        )
        of = targets if of is None else of
        return loss / (len(of) if weights is None else weights[of].sum())

    def shared(self, compute: Callable[..., Tensor], pictures: Tensor) -> Tensor:
        """The rows that `compute` gives for pictures, the work shared by the processes."""
        with torch.no_grad(), self.autocast():
            part = compute(pictures[self.rank :: self.world], self.config, self.device)
        return gather_rows(part, len(pictures), self.device)

    def row(self, phase: Phase, step: int, lr: float, train_loss: float) -> dict[str, Any]:
        with torch.no_grad(), self.autocast():
            answers, targets = phase.valid_logits(), self.data.valid_targets
        return {
            "epoch": len(self.rows) + 1,
            "step": phase.first_epoch * len(self.sizes) + step,
            "phase": phase.name,
            "lr": lr,
            "train_loss": train_loss,
            "valid_loss": self.loss(answers, targets).item(),
            "error_rate": (answers.argmax(dim=1) != targets).float().mean().item(),
        }

    def diverged(self, loss: float, phase: Phase) -> StageError:
        return StageError(
            f"the loss is {loss:.3g} in epoch {len(self.rows) + 1}: it diverged at a learning rate of up to "
            f"{max(rate for _, rate in phase.groups):.2g} in the {phase.name} epochs; set a lower train.lr"
        )

    def save(
        self, phase: Phase, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
    ) -> None:
        """Keep all that the next epochs depend on."""
        if self.checkpoint and self.rank == 0:
            self.checkpoint.save(
                phase=phase.name,
                rows=self.rows,
                model=self.model.state_dict(),
                average=phase.average.state_dict() if phase.average else None,
                optimizer=optimizer.state_dict(),
                scaler=scaler.state_dict(),
                generator=self.generator.get_state(),
            )

    def load(self) -> dict[str, Any] | None:
        """Take up what the same training left, if it was killed: the state, of which `fit` takes its own part."""
        found = [self.checkpoint.load() if self.checkpoint and self.rank == 0 else None]
        if self.world > 1:
            torch.distributed.broadcast_object_list(found)
        if found[0]:
            self.rows = list(found[0]["rows"])
            self.model.load_state_dict(found[0]["model"])
            self.generator.set_state(found[0]["generator"])
            if self.rank == 0:
                print(
                    f"train: going on after epoch {len(self.rows)} from {self.checkpoint.path}",
                    file=sys.stderr,
                )
        return found[0]


def precision(params: TrainParams, device: torch.device) -> torch.autocast:
    """The context in which a forward pass runs in the precision that `params` asks for.

    Weights and their updates stay in fp32. Meant for GPUs: on a CPU with AVX512-BF16 a step of the default architecture
    was measured to take 1.35 times as long in bf16 as in fp32, and 15 times as long in fp16.
    Source: Micikevicius et al., "Mixed precision training", arXiv:1710.03740.
    """
    dtype = torch.float16 if params.precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=params.precision != "fp32")


def mixup(
    inputs: Tensor, targets: Tensor, alpha: float, generator: torch.Generator
) -> tuple[Tensor, list[tuple[float, Tensor]]]:
    """Each input blended with another of the batch, and the targets with the share of each in the loss.

    The share is drawn from Beta(alpha, alpha), one for the batch. alpha 0 changes and draws nothing.
    Source: Zhang et al., "mixup: beyond empirical risk minimization", arXiv:1710.09412, and the authors' code.
    """
    if not alpha:
        return inputs, [(1.0, targets)]
    seed = int(torch.randint(2**62, (1,), generator=generator))
    share = float(np.random.default_rng(seed).beta(alpha, alpha))
    other = torch.randperm(len(targets), generator=generator).to(inputs.device)
    return share * inputs + (1 - share) * inputs[other], [
        (share, targets),
        (1 - share, targets[other]),
    ]


def class_weights(targets: Tensor, classes: int, params: TrainParams) -> Tensor | None:
    """Weights in the loss that make all classes count the same (mean 1 over the pictures), or None for no weights.

    Source: King and Zeng, "Logistic regression in rare events data", as scikit-learn's `class_weight="balanced"`.
    """
    if params.class_weights == "none":
        return None
    return len(targets) / (classes * targets.bincount(minlength=classes).clamp(min=1).float())


def moving_average(decay: float, old: Tensor, new: Tensor, updates: Tensor | int) -> Tensor:
    """One step of an exponential moving average, which leaves its start behind within the first steps.

    Source: Polyak and Juditsky, doi:10.1137/0330046; the warm-up, (1 + n) / (10 + n), is TensorFlow's.
    """
    n = float(updates)
    return torch.lerp(old, new, 1 - min(decay, (1 + n) / (10 + n)))


def batch_sizes(n: int, batch_size: int) -> list[int]:
    """Sizes of near equal batches, none above `batch_size`: a last batch of one picture would be mostly noise."""
    count = math.ceil(n / batch_size)
    return [n // count + (i < n % count) for i in range(count)]


def make_optimizer(groups: Groups, decay: float) -> torch.optim.Optimizer:
    """AdamW as fast.ai sets it (eps 1e-5, no decay on biases and batch-norm), the last group the highest rate."""
    split = []
    for named, lr in groups:
        for wanted in (False, True):
            chosen = [parameter for _, parameter in named if (parameter.ndim > 1) == wanted]
            if chosen:
                split.append({"params": chosen, "lr": lr, "weight_decay": decay if wanted else 0.0})
    return torch.optim.AdamW(split, lr=0.0, betas=(0.95, 0.99), eps=1e-5)


def layer_groups(model: nn.Module, low: float, high: float) -> Groups:
    """The model's layers, from input to head, with rates evenly spread in the logarithm from `low` to `high`."""
    named = dict(model.named_parameters())
    layers = group_parameters(model, model.group_matcher(coarse=True))
    order = [layers[key] for key in sorted(layers)]
    steps = max(len(order) - 1, 1)
    return [
        ([(name, named[name]) for name in names], low * (high / low) ** (i / steps))
        for i, names in enumerate(order)
    ]


def freeze_batch_norm(model: nn.Module) -> None:
    """Put every batch-norm layer into eval mode: its statistics stand still, its weights still learn."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
