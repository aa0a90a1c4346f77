"""fine_tune, as in fast.ai: first the new head on a frozen body, then the whole model.

Both phases run the same loop, `run_phase`. The frozen epochs run on features that the stage
`features` has computed: the frozen body gives the same answer in every epoch.
Source: Howard and Gugger, "Deep Learning for Coders with fastai and PyTorch", chapters 5 and 7;
Howard and Ruder, "Universal language model fine-tuning", arXiv:1801.06146.

Several processes (`torchrun`) share each batch. All draw the same order and the same views, each
takes its rows, and their gradients are averaged: the result is that of one process, to rounding.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from pawprint.params import StageError
from pawprint.pictures.batches import Pictures, take
from pawprint.training.augment import augment
from pawprint.training.blend import BLENDS, Weights, choose_blend, copy_weights
from pawprint.training.checkpoint import Checkpoint, resume
from pawprint.training.device import AT_A_TIME, autocast, gather_rows, processes
from pawprint.training.fold import fold, keep_statistics, try_folding
from pawprint.training.inference import input_batches, refuse_nan, run_in_batches
from pawprint.training.losses import CrossEntropy, class_weights, mixup
from pawprint.training.model import Head, normalise
from pawprint.training.optimizer import (
    Group,
    freeze_first,
    layer_groups,
    make_optimizer,
    moving_average,
)
from pawprint.training.parted import TOGETHER, Beginning, Parted, in_parts
from pawprint.training.recipe import TrainParams
from pawprint.training.schedule import Schedule, one_cycle, schedule_of
from pawprint.training.stored import ModelConfig

KEPT = 256 * 2**20  # bytes at most of what the frozen layers say about valid
DIVERGED = 4  # a training has diverged if an epoch's mean loss is so many times that of guessing

SHOWN = ("lr", "train_loss", "valid_loss", "error_rate")  # of an epoch, beside the bar

Row = dict[str, Any]  # epoch, step, phase, lr, train_loss, valid_loss, error_rate


@dataclass(frozen=True)
class TrainingData:
    """Pictures and targets of one training.

    train: uint8 (N, P, P, 3), larger than the input so that views can be cut from them.
    valid: uint8 (M, S, S, 3). features: what the frozen body sees in the pictures, float (N, F)
    and (M, F). targets: int64 (N,) and (M,).
    """

    train: Pictures
    train_features: Tensor
    train_targets: Tensor
    valid: Pictures
    valid_features: Tensor
    valid_targets: Tensor


@dataclass(frozen=True)
class Phase:
    """What differs between the frozen epochs and those of the whole model.

    inputs: from the indexes of a batch to what `module` reads. module: from inputs to logits.
    valid_logits: return (M, classes) on the CPU. groups: what learns, and how fast at most.
    schedule: from the share of the steps done to a factor for the learning rates, and the momentum.
    at_a_time: pictures of a batch that are computed together at most. average: the moving average
    of the weights that becomes the model, if any.
    """

    name: str
    epochs: int
    first_epoch: int
    inputs: Callable[[Tensor], Tensor]
    module: nn.Module
    valid_logits: Callable[[], Tensor]
    groups: list[Group]
    schedule: Schedule
    at_a_time: int
    average: AveragedModel | None = None


@dataclass
class Learner:
    """One training: what both phases share, and how far it has come.

    model: trained in place. lrs: the highest learning rates of the body's first layers and of the
    head. checkpoint: where to keep the state after each epoch and to go on from, if anywhere.
    rows: one per finished epoch. start: the weights before the epochs of the whole model. final: of
    the model that results, its blend, valid_loss and error_rate. generator: draws the order, the
    views and mixup. begun: what the frozen layers say about valid, in batches, if they are apart
    and it fits into KEPT. sizes: of the batches of an epoch. rank, world: this process's number,
    and how many there are.
    """

    model: nn.Module
    config: ModelConfig
    data: TrainingData
    params: TrainParams
    lrs: tuple[float, float]
    device: torch.device
    checkpoint: Checkpoint | None = None
    rows: list[Row] = field(default_factory=list)
    start: Weights = field(default_factory=dict)
    final: Row = field(default_factory=dict)
    generator: torch.Generator = field(init=False)
    loss: CrossEntropy = field(init=False)
    targets: Tensor = field(init=False)
    begun: list[Tensor] = field(default_factory=list)
    sizes: list[int] = field(init=False)
    rank: int = field(init=False)
    world: int = field(init=False)

    def __post_init__(self) -> None:
        params, targets = self.params, self.data.train_targets
        self.model.to(self.device).to(memory_format=torch.channels_last)
        self.generator = torch.Generator().manual_seed(params.seed)
        weights = class_weights(targets, len(self.config.classes), params)
        self.loss = CrossEntropy(params.label_smoothing, weights)
        self.targets = targets.to(self.device)
        self.sizes = batch_sizes(len(targets), params.batch_size)
        self.rank, self.world = processes()
        if min(*self.sizes, len(self.data.valid)) < self.world:
            raise StageError(
                f"{self.world} processes are more than the pictures of a batch or of the valid "
                "split; start fewer"
            )

    @cached_property
    def network(self) -> nn.Module:
        """What computes the model faster, and shares its weights: batch-norm is folded.

        On a CPU the layers that are frozen by then are a part of their own.
        """
        size = self.config.size
        pairs, _ = try_folding(self.model, size)
        folded = fold(self.model, size, pairs)
        if self.device.type != "cpu" or self.params.precision != "fp32":
            return folded
        return in_parts(self.model, size, folded, pairs)


def fine_tune(learner: Learner) -> list[Row]:
    """Train as `params` says; return one row per epoch.

    A killed training goes on from its checkpoint. Raises StageError that names train.lr if the
    loss diverges.
    """
    params = learner.params
    saved = resume(learner.checkpoint, learner.model, learner.generator)
    learner.rows = list(saved["rows"]) if saved else []
    if len(learner.rows) < params.freeze_epochs:
        run_phase(learner, frozen_phase(learner), saved)
    if params.epochs:
        learner.start = copy_weights(learner.model, saved and saved["start"])
        run_phase(learner, full_phase(learner), saved)
        learner.final = blend_ends(learner)
    return learner.rows


def blend_ends(learner: Learner) -> Row:
    """Make the model lie between its weights before and after its epochs, as `blend` says.

    Return which blend it is, and its valid_loss and error_rate.
    """
    params, model = learner.params, learner.model
    known = {1.0: learner.rows[-1]}
    if params.freeze_epochs:
        known[0.0] = learner.rows[params.freeze_epochs - 1]
    shares = BLENDS if params.blend == "auto" else (params.blend,)

    def measured() -> Row:
        return measure(learner, refuse_nan(judge(learner), "answers"))

    return choose_blend(model, learner.start, shares, known, measured)


def frozen_phase(learner: Learner) -> Phase:
    """Describe `freeze_epochs` of the head, on features of the frozen body.

    mixup mixes features here (manifold mixup, arXiv:1806.05236). ema waits for the whole model:
    this phase ends at a learning rate of nearly zero.
    """
    head = Head(learner.model)
    seen = learner.data.train_features.to(learner.device)
    seen_valid = learner.data.valid_features.to(learner.device)
    return Phase(
        name="frozen",
        epochs=learner.params.freeze_epochs,
        first_epoch=0,
        inputs=lambda batch: seen[batch],
        module=head,
        valid_logits=lambda: head(seen_valid).float().cpu(),
        groups=[(list(head.named_parameters()), learner.lrs[1])],
        schedule=one_cycle,
        at_a_time=learner.params.batch_size,
    )


def full_phase(learner: Learner) -> Phase:
    """Describe `epochs` of the whole model, on random views of the pictures."""
    params, model = learner.params, learner.model
    pictures = learner.data.train.to(learner.device)
    average = None
    if params.ema:
        average = AveragedModel(model, avg_fn=partial(moving_average, params.ema))
    lrs = learner.lrs
    if params.method == "fine_tune":
        lrs = (lrs[0] / 2, lrs[1] / 2)

    def inputs(batch: Tensor) -> Tensor:
        views = augment(take(pictures, batch), params.train_size, params.augment, learner.generator)
        return normalise(views, learner.config)

    groups = freeze_first(layer_groups(model, lrs), params.freeze_layers)
    network = learner.network
    parted = isinstance(network, Parted)
    return Phase(
        name="full",
        epochs=params.epochs,
        first_epoch=params.freeze_epochs,
        inputs=inputs,
        module=network,
        valid_logits=partial(judge, learner, average and average.module),
        groups=groups,
        schedule=schedule_of(params),
        at_a_time=TOGETHER if parted else AT_A_TIME.get(learner.device.type, params.batch_size),
        average=average,
    )


def run_phase(learner: Learner, phase: Phase, saved: dict[str, Any] | None) -> None:
    """Train for the epochs of a phase: the loop.

    saved: what a killed training left, if anything.
    """
    params, model = learner.params, learner.model
    module, optimizer, scaler = prepare_phase(learner, phase, saved)
    steps = len(learner.sizes)  # of an epoch
    first, total = len(learner.rows) - phase.first_epoch, phase.epochs * steps
    about: dict[str, Any] = {"initial": first * steps, "unit": "step", "disable": learner.rank > 0}
    with tqdm(None, phase.name, total, **about) as bar:  # closed before an error is printed
        for epoch in range(first, phase.epochs):
            began, losses = time.monotonic(), 0.0
            keep_statistics(model.train())
            keep_statistics(phase.module.train())
            torch.manual_seed(params.seed + epoch)  # dropout draws the same after a restart
            order = torch.randperm(len(learner.targets), generator=learner.generator)
            for step, batch in enumerate(order.split(learner.sizes), start=epoch * steps):
                # learning rates and momentum of this step
                factor, momentum = phase.schedule(step / total)
                for group in optimizer.param_groups:
                    group["lr"], group["betas"] = group["max_lr"] * factor, (momentum, 0.99)
                # forward backward
                optimizer.zero_grad()
                loss = forward_backward(learner, phase, module, batch, scaler)
                losses += loss * len(batch)
                # update
                scaler.step(optimizer)
                scaler.update()
                if phase.average:
                    phase.average.update_parameters(model)
                bar.update()
                refuse_divergence(learner, phase, losses)
            # error on valid
            lr, train_loss = optimizer.param_groups[-1]["lr"], losses / len(learner.targets)
            row = finish_epoch(learner, phase, lr, train_loss)
            shown = {key: f"{row[key]:.4g}" for key in SHOWN}
            bar.set_postfix({**shown, "seconds": f"{time.monotonic() - began:.1f}"})
            # checkpoint; one for all frozen epochs, which take no time
            if phase.name == "full" or epoch == phase.epochs - 1:
                save(learner, phase, optimizer, scaler)
    if phase.average:
        model.load_state_dict(phase.average.module.state_dict())


def prepare_phase(
    learner: Learner, phase: Phase, saved: dict[str, Any] | None
) -> tuple[nn.Module, torch.optim.Optimizer, torch.amp.GradScaler]:
    """Return what computes the logits, what takes the steps, and what scales fp16's gradients.

    They, and the phase's average, go on from what was saved, if it is of this phase.
    """
    optimizer = make_optimizer(phase.groups, learner.params.weight_decay)
    fp16 = learner.params.precision == "fp16"
    scaler = torch.amp.GradScaler(learner.device.type, enabled=fp16)
    if saved and saved["phase"] == phase.name:
        optimizer.load_state_dict(saved["optimizer"])
        scaler.load_state_dict(saved["scaler"])
        if phase.average:
            phase.average.load_state_dict(saved["average"])
    module = phase.module
    if learner.world > 1:
        module = DistributedDataParallel(module, broadcast_buffers=False)
    return module, optimizer, scaler


def forward_backward(
    learner: Learner,
    phase: Phase,
    module: nn.Module,
    batch: Tensor,
    scaler: torch.amp.GradScaler,
) -> float:
    """Leave the gradients of a batch's mean loss in the parameters, and return that loss.

    module: what computes the phase's logits, here and in other processes. batch: indexes of
    pictures, (n,). All processes draw the same random numbers for the whole
    batch, so the result does not depend on how many share it. Nor does it depend on how many
    pictures are computed at a time, because batch-norm keeps its statistics.
    """
    batch = batch.to(learner.device)
    targets = learner.targets[batch]
    mixed, shares = mixup(phase.inputs(batch), targets, learner.params.mixup, learner.generator)
    mine = torch.arange(learner.rank, len(batch), learner.world, device=learner.device)
    # the same number of parts in every process
    parts = math.ceil(len(batch) / learner.world / phase.at_a_time)
    total = torch.zeros((), device=learner.device)
    for part in mine.tensor_split(parts):
        with autocast(learner.params.precision, learner.device):
            logits = module(mixed[part])
        losses = [share * learner.loss(logits, each[part], batch=each) for share, each in shares]
        loss = sum(losses[1:], losses[0])
        # DistributedDataParallel takes the mean over the processes: undo it
        scaler.scale(loss * learner.world).backward()
        total += loss.detach()
    if learner.world > 1:
        dist.all_reduce(total)
    return total.item()


def finish_epoch(learner: Learner, phase: Phase, lr: float, train_loss: float) -> Row:
    """Measure the model on the valid split; add the epoch's row to the learner's, and return it.

    Raises StageError that names train.lr if the training has diverged.
    """
    with torch.no_grad(), autocast(learner.params.precision, learner.device):
        logits = phase.valid_logits()
    figures = measure(learner, logits)
    guessing = math.log(max(len(learner.config.classes), 2))  # the loss of equal probabilities
    refuse_divergence(learner, phase, train_loss, limit=DIVERGED * guessing)
    refuse_divergence(learner, phase, figures["valid_loss"])
    epoch = len(learner.rows) + 1
    row = {
        "epoch": epoch,
        "step": epoch * len(learner.sizes),
        "phase": phase.name,
        "lr": lr,
        "train_loss": train_loss,
        **figures,
    }
    learner.rows.append(row)
    return row


def measure(learner: Learner, logits: Tensor) -> Row:
    """Return the mean loss and the share of errors on the valid split; logits: (M, classes)."""
    targets = learner.data.valid_targets
    wrong = logits.argmax(dim=1) != targets
    return {
        "valid_loss": learner.loss(logits, targets).item(),
        "error_rate": wrong.float().mean().item(),
    }


def refuse_divergence(learner: Learner, phase: Phase, loss: float, limit: float = math.inf) -> None:
    """Raise StageError that names train.lr if a loss is above the limit, infinite or NaN."""
    if math.isfinite(loss) and loss <= limit:
        return
    lr = max(lr for _, lr in phase.groups)
    raise StageError(
        f"the loss is {loss:.3g} in epoch {len(learner.rows) + 1}: it diverged at a learning rate "
        f"of up to {lr:.2g} in the {phase.name} epochs; set a lower train.lr"
    )


def judge(learner: Learner, average: nn.Module | None = None) -> Tensor:
    """Return the logits of the valid split, (M, classes); processes share the work.

    average: what to ask instead of the model, if anything.
    """
    pictures = learner.data.valid
    mine = pictures[learner.rank :: learner.world]
    network = (average or learner.network).eval()
    with torch.no_grad(), autocast(learner.params.precision, learner.device):
        if isinstance(network, Parted):
            found = torch.cat([network.end(seen) for seen in begun(learner, network.begin, mine)])
        else:
            found = run_in_batches(
                nn.Module.__call__, network, mine, learner.config, learner.device, again=True
            )
    return gather_rows(found, len(pictures), learner.device)


def begun(learner: Learner, begin: Beginning, pictures: Pictures) -> Iterator[Tensor]:
    """Yield what the frozen layers say about the pictures of valid, batch by batch."""
    if learner.begun:
        yield from learner.begun
        return
    for inputs in input_batches(pictures, learner.config, learner.device):
        seen = begin(inputs)
        if seen.nbytes / len(seen) * len(pictures) <= KEPT:
            learner.begun.append(seen)
        yield seen


def save(
    learner: Learner,
    phase: Phase,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> None:
    """Keep all that the next epochs depend on."""
    if learner.checkpoint and learner.rank == 0:
        learner.checkpoint.save(
            phase=phase.name,
            rows=learner.rows,
            model=learner.model.state_dict(),
            start=learner.start,
            average=phase.average.state_dict() if phase.average else None,
            optimizer=optimizer.state_dict(),
            scaler=scaler.state_dict(),
            generator=learner.generator.get_state(),
        )


def batch_sizes(n: int, batch_size: int) -> list[int]:
    """Return the sizes of nearly equal batches, none above `batch_size`.

    A last batch of one picture would be mostly noise.
    """
    count = math.ceil(n / batch_size)
    return [n // count + (i < n % count) for i in range(count)]
