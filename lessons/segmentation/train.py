"""A class for every pixel: a U-Net whose encoder comes with ImageNet weights.

Reads data/raw: images/NAME.png, labels/NAME_P.png (each pixel a place in codes.txt) and codes.txt.
Writes data/split.csv (name, split), data/answers/NAME.png (the predicted class of each pixel of a
held-out picture), metrics/segmentation.json (pixel accuracy and mean IoU, and those of the most
frequent class at each place), metrics/curve.csv and metrics/classes.csv (the IoU of each class).
Pixels of the void class do not count, in training or judging.
Source: Ronneberger, Fischer and Brox, "U-Net", arXiv:1505.04597; Howard and Gugger, "Deep Learning
for Coders with fastai and PyTorch", chapter 1 (`unet_learner`).
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from pawprint.params import Params, StageError, load_params, run_stage
from pawprint.tables import write_bytes, write_json, write_table
from pawprint.training.device import ComputeParams, start
from pawprint.training.schedule import one_cycle
from pawprint.training.weights import load_in_order, packaged_weights, read_weights

try:
    import segmentation_models_pytorch as smp
except ImportError as error:
    raise SystemExit(f"train: {error}: run `pip install segmentation-models-pytorch`") from None

RAW = Path("data/raw")
Normalise = Callable[[Tensor], Tensor]  # from pixels, 0 to 255, to what the encoder was made for


class FitParams(Params):
    """The section `fit` of params.yaml."""

    seed: int = Field(ge=0, lt=2**32)
    valid_pct: float = Field(gt=0, lt=0.9)
    encoder: str
    width: int = Field(ge=32, multiple_of=32)
    height: int = Field(ge=32, multiple_of=32)
    void: str
    freeze_epochs: int = Field(ge=0, le=1000)
    epochs: int = Field(ge=1, le=1000)
    batch_size: int = Field(ge=2)
    lr: float = Field(gt=0)
    encoder_div: float = Field(ge=1)
    weight_decay: float = Field(ge=0)


@dataclass(frozen=True)
class Pictures:
    """Pictures and their masks. pixels: uint8 (N, 3, H, W); classes: int64 (N, H, W)."""

    pixels: Tensor
    classes: Tensor


def main() -> None:
    params = load_params("fit", FitParams)
    device = start(load_params("compute", ComputeParams), params.seed)

    # the pictures, some of them held out
    codes = read_codes()
    if params.void not in [*codes, "none"]:
        raise StageError(
            f"fit.void is {params.void!r}; it should be none, if all pixels count, or one of the "
            f"classes in codes.txt: {', '.join(codes)}"
        )
    void = codes.index(params.void) if params.void in codes else -100
    names = sorted(path.stem for path in (RAW / "images").glob("*.png"))
    if len(names) < 10:
        raise StageError(f"{RAW}/images holds {len(names)} .png; a training needs 10 or more")
    order = np.random.default_rng(params.seed).permutation(len(names))
    count = max(1, round(params.valid_pct * len(names)))
    held_out, known = sorted(order[:count].tolist()), sorted(order[count:].tolist())
    splits = ["valid" if i in set(held_out) else "train" for i in range(len(names))]
    write_table("data/split.csv", pd.DataFrame({"name": names, "split": splits}))
    train = load([names[i] for i in known], len(codes), params)
    valid = load([names[i] for i in held_out], len(codes), params)

    for split, pictures in (("train", train), ("valid", valid)):
        if (pictures.classes == void).all():
            raise StageError(f"{RAW}/labels: all pixels of the {split} split are {params.void}")

    # what the model must beat: at each place, the class that is most frequent there
    votes = torch.stack([(train.classes == code).sum(dim=0) for code in range(len(codes))])
    if void >= 0:
        votes[void] = -1
    majority = judge(votes.argmax(dim=0).expand_as(valid.classes), valid.classes, codes, void)

    # the new layers alone, then the whole model
    model, normalise = make_model(params, len(codes), device)
    curve, answers = fit(model, normalise, train, valid, void, params)

    # side by side with the baseline; the answers as masks, which draw.py shows
    figures = judge(answers, valid.classes, codes, void)
    keys = ("pixel_accuracy", "mean_iou")
    both = {"majority": majority, "unet": figures}
    summary = {name: {key: each[key] for key in keys} for name, each in both.items()}
    write_json("metrics/segmentation.json", {"pictures": len(held_out), "valid": summary})
    curves = pd.DataFrame(curve).assign(majority=majority["pixel_accuracy"])
    write_table("metrics/curve.csv", curves)
    classes = pd.DataFrame(figures["classes"].items(), columns=["class", "iou"])
    write_table("metrics/classes.csv", classes)
    for i, answer in zip(held_out, answers, strict=True):
        write_bytes(f"data/answers/{names[i]}.png", mask_of(answer))


def read_codes() -> list[str]:
    """Return the names of the classes. Raises StageError if there are fewer than two."""
    text = (RAW / "codes.txt").read_text(encoding="utf-8", errors="replace")
    codes = [line.strip() for line in text.splitlines() if line.strip()]
    if len(codes) < 2 or len(set(codes)) < len(codes):
        raise StageError(f"{RAW}/codes.txt should name two classes or more, each once")
    return codes


def load(names: list[str], classes: int, params: FitParams) -> Pictures:
    """Return pictures and masks at the model's size; masks keep their classes.

    Raises StageError for a picture without a mask of its size, and for a mask with an unknown
    class.
    """
    size, pixels, masks = (params.width, params.height), [], []
    for name in names:
        picture, mask = open_png(RAW / f"images/{name}.png"), open_png(RAW / f"labels/{name}_P.png")
        where = f"{RAW}/labels/{name}_P.png"
        if mask.mode not in ("L", "P"):
            raise StageError(f"{where} is {mask.mode}; a mask has one number per pixel")
        if mask.size != picture.size:
            raise StageError(f"{where} has {mask.size} pixels; its picture has {picture.size}")
        codes = np.asarray(mask.resize(size, Image.Resampling.NEAREST), dtype=np.int64)
        if codes.max() >= classes:
            raise StageError(f"{where} has class {codes.max()}; codes.txt names {classes}, from 0")
        picture = picture.convert("RGB").resize(size, Image.Resampling.BILINEAR)
        pixels.append(np.asarray(picture).transpose(2, 0, 1))
        masks.append(codes)
    return Pictures(torch.from_numpy(np.stack(pixels)), torch.from_numpy(np.stack(masks)))


def open_png(path: Path) -> Image.Image:
    """Return a picture. Raises StageError if it is missing or damaged."""
    try:
        image = Image.open(path)
        image.load()
    except FileNotFoundError:
        raise StageError(f"{path} is missing: each picture needs a mask of its name") from None
    except OSError as error:
        raise StageError(f"{path} cannot be read as a picture: {error}") from None
    return image


def make_model(params: FitParams, classes: int, device: torch.device) -> tuple[Any, Normalise]:
    """Return a U-Net with a pretrained encoder, and a function that normalises pixels for it.

    Raises StageError if there is no such encoder, or no weights.
    """
    package = packaged_weights(params.encoder)
    whole: Any
    try:
        whole = timm.create_model(params.encoder, pretrained=package is None)
        model: Any = smp.Unet(f"tu-{params.encoder}", encoder_weights=None, classes=classes)
    except Exception as error:  # the hub's client, timm and smp raise many kinds
        reason = " ".join(str(error).split())[:200]
        raise StageError(
            f"fit.encoder is {params.encoder!r}: it cannot be built, or its weights cannot be "
            f"fetched ({reason}); tf_efficientnet_lite0 has its weights in a package"
        ) from None
    if package is not None:
        load_in_order(whole, read_weights(package))
    model.encoder.model.load_state_dict(whole.state_dict(), strict=False)
    mean, std = (
        torch.tensor(whole.pretrained_cfg[key], device=device)[:, None, None]
        for key in ("mean", "std")
    )
    return model.to(device), lambda pixels: (pixels / 255 - mean) / std


def make_optimizer(model: Any, params: FitParams, frozen: bool) -> torch.optim.Optimizer:
    """Return AdamW: the encoder learns slower than the new layers, or, if frozen, not at all."""
    of_encoder = {id(parameter) for parameter in model.encoder.parameters()}
    new = [each for each in model.parameters() if id(each) not in of_encoder]
    groups = [{"params": new, "max_lr": params.lr}]
    for parameter in model.encoder.parameters():
        parameter.requires_grad_(not frozen)
    if not frozen:
        slow = {"params": list(model.encoder.parameters())}
        groups.append(slow | {"max_lr": params.lr / params.encoder_div})
    return torch.optim.AdamW(groups, lr=0.0, weight_decay=params.weight_decay, eps=1e-5)


def fit(
    model: Any,
    normalise: Normalise,
    train: Pictures,
    valid: Pictures,
    void: int,
    params: FitParams,
) -> tuple[list[dict[str, float]], Tensor]:
    """Train the model; return a row for each epoch, and the answers for valid, (N, H, W).

    Both phases, with the encoder frozen and without, are one cycle of learning rate and momentum.
    """
    generator, count = torch.Generator().manual_seed(params.seed), len(train.pixels)
    device = next(model.parameters()).device
    phases = [True] * params.freeze_epochs + [False] * params.epochs
    curve: list[dict[str, float]] = []
    for epoch, frozen in enumerate(tqdm(phases, desc="train", unit="epoch"), start=1):
        if epoch in (1, params.freeze_epochs + 1):
            optimizer, done = make_optimizer(model, params, frozen), 0.0
        model.train()
        model.encoder.train(not frozen)
        total = 0.0
        batches = torch.randperm(count, generator=generator).split(params.batch_size)
        for batch in batches:
            # the learning rates and momentum of this step
            factor, momentum = one_cycle(done, pct_start=0.3, div=25.0)
            for group in optimizer.param_groups:
                group["lr"], group["betas"] = group["max_lr"] * factor, (momentum, 0.99)
            done += 1 / (phases.count(frozen) * len(batches))
            # forward, backward, update
            pixels, classes = mirror(train, batch, generator)
            logits = model(normalise(pixels.to(device)))
            loss = cross_entropy(logits, classes.to(device), ignore_index=void)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        answers, valid_loss = ask(model, normalise, valid, void)
        if not np.isfinite(total + valid_loss):
            raise StageError(f"the loss of epoch {epoch} is not a number: lower fit.lr")
        row = {"epoch": epoch, "train_loss": total / count, "valid_loss": valid_loss}
        curve.append(row | {"pixel_accuracy": pixel_accuracy(answers, valid.classes, void)})
    return curve, answers


def mirror(pictures: Pictures, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the pictures and masks of a batch, half of the pairs mirrored."""
    flip = torch.rand(len(batch), generator=generator) < 0.5
    pixels, classes = pictures.pixels[batch].float(), pictures.classes[batch]
    pixels[flip], classes[flip] = pixels[flip].flip(-1), classes[flip].flip(-1)
    return pixels, classes


@torch.no_grad()
def ask(model: Any, normalise: Normalise, valid: Pictures, void: int) -> tuple[Tensor, float]:
    """Return the class of every pixel, (N, H, W), never void, and the mean loss."""
    model.eval()
    device, parts = next(model.parameters()).device, valid.pixels.split(16)
    whole = torch.cat([model(normalise(pixels.float().to(device))).cpu() for pixels in parts])
    loss = cross_entropy(whole, valid.classes, ignore_index=void).item()
    if void >= 0:
        whole[:, void] = -torch.inf
    return whole.argmax(dim=1), loss


def pixel_accuracy(answers: Tensor, classes: Tensor, void: int) -> float:
    """Return the share of the pixels that are right, those of void left out."""
    counts = classes != void
    return float((answers == classes)[counts].double().mean())


def mask_of(answer: Tensor) -> bytes:
    """Return the class of each pixel, (H, W), as a grey PNG, like those in data/raw/labels."""
    buffer = io.BytesIO()
    Image.fromarray(answer.numpy().astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def judge(answers: Tensor, classes: Tensor, codes: list[str], void: int) -> dict[str, Any]:
    """Return pixel_accuracy, mean_iou, and the IoU of each class that is there or was said to be.

    The IoU (intersection over union) of a class is the pixels that are it and were said to be,
    over those that are it or were said to be.
    """
    counts = classes != void
    pairs = classes[counts] * len(codes) + answers[counts]
    matrix = torch.bincount(pairs, minlength=len(codes) ** 2).reshape(len(codes), -1).double()
    both, either = matrix.diag(), matrix.sum(dim=0) + matrix.sum(dim=1) - matrix.diag()
    ious = {codes[i]: float(both[i] / either[i]) for i in range(len(codes)) if either[i] > 0}
    return {
        "pixel_accuracy": pixel_accuracy(answers, classes, void),
        "mean_iou": sum(ious.values()) / len(ious),
        "classes": ious,
    }


if __name__ == "__main__":
    run_stage(main)
