"""`pawprint compare --probe`: rank architectures in seconds each, without training any.

The frozen body of each looks once at the pictures of train and valid, never at those of test. A
linear head on what it sees, the one of pawprint/judging/baselines.py, is cross-validated: every
picture is judged by a head that was fitted without it and without its near duplicates. The folds
are the same for all architectures. How well a linear head does on frozen features says much about
how well the architecture does when it is trained (Kornblith et al., "Do Better ImageNet Models
Transfer Better?", arXiv:1805.08974). How much it says on your pictures, the last line tells, if
some of the architectures were trained by an earlier `pawprint compare`.
"""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from pawprint.commands.compare.agreement import describe_agreement, read_trained
from pawprint.commands.compare.table import OUT, READABLE, write_csv
from pawprint.judging.baselines import fit_linear_head
from pawprint.judging.comparison import compare_pair
from pawprint.judging.errors import describe_error, error_of
from pawprint.judging.label_errors import split_folds
from pawprint.params import StageError, check, load_yaml
from pawprint.pictures.batches import load_pictures
from pawprint.tables import read_table, write_bytes
from pawprint.training.device import ComputeParams, start
from pawprint.training.fold import fold
from pawprint.training.inference import compute_features
from pawprint.training.model import create_model
from pawprint.training.recipe import BodyParams
from pawprint.training.stored import ModelConfig
from pawprint.training.weights import find_weights

PARAMS = Path("params.yaml")
FOLDS = 5
CHUNK = 512  # pictures in memory at a time
CALLS = 20  # a body is asked so often about one picture; the median counts
RANDOM = " (random weights)"


@dataclass(frozen=True)
class Probed:
    """One architecture.

    seconds: that torch takes for one picture, decoded and of the right size, on this machine.
    wrong: the pictures of train and valid that heads fitted without them get wrong, bool (N,).
    """

    arch: str
    random: bool
    size: int
    parameters: int
    seconds: float
    wrong: np.ndarray

    @property
    def name(self) -> str:
        """The architecture, and that its weights are random if they are."""
        return self.arch + RANDOM * self.random

    def cells(self) -> dict[str, object]:
        """Return the row as columns of a table."""
        error = error_of(self.wrong)
        return {
            "arch": self.arch,
            "weights": "random" if self.random else "pretrained",
            "size": self.size,
            "parameters": self.parameters,
            "seconds": f"{self.seconds:.6g}",
            **{key.removesuffix("_rate"): f"{error[key]:.6g}" for key in READABLE},
        }


def probe(archs: list[str], control: bool) -> int:
    """Probe the architectures, and write compare/probe.csv and .md; the exit code.

    control: the first one with random weights too. If an architecture fails, the others go on, and
    the exit code is 1. Exits with one line if there is nothing to probe with.
    """
    try:
        params = load_yaml(PARAMS)
        compute = check(params.get("compute"), ComputeParams, "compute", PARAMS)
        rows = read_rows()
        device = start(compute, seed=0)
    except StageError as error:
        sys.exit(f"pawprint: {error}")

    found, failed = [], 0
    for arch, random in [(arch, False) for arch in archs] + [(archs[0], True)] * control:
        try:
            recipe = recipe_of(params.get("train"), arch)
            if random and is_random(recipe):
                continue  # the first one has random weights as it is
            found.append(probe_one(recipe, random, rows, device))
        except (StageError, RuntimeError) as error:
            failed += 1
            reason = " ".join(str(error).split())[:300]
            print(f"pawprint: {arch + RANDOM * random} is left out: {reason}", file=sys.stderr)
    if found:
        found.sort(key=lambda each: (each.wrong.sum(), each.seconds))
        write_csv(OUT / "probe.csv", [each.cells() for each in found])
        text = f"{markdown(found)}\n{say_agreement(found)}\n"
        write_bytes(OUT / "probe.md", text.encode())
        print(f"{text}\n{OUT}/probe.csv and .md; train the best with: pawprint compare ARCH…")
    return int(failed > 0)


def read_rows() -> pd.DataFrame:
    """Return path, label and group of the pictures of train and valid.

    Raises StageError if data/split.csv is missing or damaged, or if there is nothing to judge.
    """
    path = "data/split.csv"
    table = read_table(path)
    missing = {"path", "label", "group", "split"} - set(table.columns)
    if missing:
        raise StageError(f"{path} has no column {min(missing)}: `dvc repro split` makes it again")
    rows = table.loc[table["split"].isin(["train", "valid"]), ["path", "label", "group"]]
    largest = rows["label"].value_counts().max()
    if rows["label"].nunique() < 2 or rows["group"].nunique() < 2 or largest < 2:
        raise StageError(
            f"{path}: train and valid hold too few pictures to judge some by the others; they need "
            "two classes, two pictures of one of them, and two that are not near duplicates"
        )
    return rows


def recipe_of(section: Any, arch: str) -> BodyParams:
    """Return what the body of an architecture depends on, the rest as the section `train` says.

    Raises StageError if timm does not know it, or if the section has a mistake.
    """
    if not isinstance(section, dict):
        raise StageError(f"{PARAMS} has no section `train`")
    return check({**section, "arch": arch}, BodyParams, "train", PARAMS)


def is_random(recipe: BodyParams) -> bool:
    """Return whether a body has random weights, because that is what params.yaml asks for."""
    return not recipe.pretrained and find_weights(Path(recipe.weights)) is None


def probe_one(recipe: BodyParams, random: bool, rows: pd.DataFrame, device: torch.device) -> Probed:
    """Return what one architecture is worth.

    random: with random weights, whatever the recipe says. rows: columns path, label and group.
    Raises StageError if it has no weights or cannot be used.
    """
    classes = sorted(rows["label"].unique())
    torch.manual_seed(0)  # random weights do not depend on what was probed before
    if random:
        with tempfile.TemporaryDirectory() as empty:
            recipe = recipe.model_copy(update={"pretrained": False, "weights": empty})
            model, config = create_model(recipe, classes)
    else:
        random = is_random(recipe)
        model, config = create_model(recipe, classes)
    seen = look(model, config, rows["path"].tolist(), device)
    target = rows["label"].map(classes.index).to_numpy()
    return Probed(
        arch=recipe.arch,
        random=random,
        size=config.size,
        parameters=sum(each.numel() for each in model.parameters()),
        seconds=time_model(model, config.size, device),
        wrong=cross_validate(seen, target, rows["group"].to_numpy()),
    )


def look(
    model: nn.Module, config: ModelConfig, paths: list[str], device: torch.device
) -> np.ndarray:
    """Return what the head would see of the pictures, float32 (N, F), a chunk at a time."""
    seen = []
    for first in range(0, len(paths), CHUNK):
        chunk = paths[first : first + CHUNK]
        pictures = load_pictures(chunk, config.size, config.resize, config.interpolation)
        seen.append(compute_features(model, pictures, config, device).numpy())
    return np.concatenate(seen)


@torch.no_grad()
def time_model(model: nn.Module, size: int, device: torch.device) -> float:
    """Return the median time in seconds that torch takes for one picture; batch-norm is folded.

    The first calls do not count.
    """
    folded = fold(model.to("cpu"), size).to(device).eval()
    inputs = torch.zeros(1, 3, size, size, device=device).to(memory_format=torch.channels_last)
    times = []
    for call in range(CALLS + CALLS // 2):
        begin = time.perf_counter()
        folded(inputs).cpu()  # waits for a GPU
        if call >= CALLS // 2:
            times.append(time.perf_counter() - begin)
    return float(np.median(times))


def cross_validate(seen: np.ndarray, target: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return which pictures are judged wrong by heads fitted without their groups, bool (N,).

    seen: features (N, F); target: class indexes (N,), of two classes or more, of one of which there
    are two pictures or more; groups: (N,), two or more. There are at most as many folds as the
    largest class has pictures, and as there are groups. A picture whose class is missing in the
    other folds is judged wrong.
    """
    folds = min(FOLDS, int(np.bincount(target).max()), len(np.unique(groups)))
    wrong = np.ones(len(target), dtype=bool)
    for fit, ask in split_folds(target, groups, folds, seed=0):
        known, index = np.unique(target[fit], return_inverse=True)
        best = np.zeros(len(ask), dtype=int)
        if len(known) > 1:
            weight, bias = fit_linear_head(seen[fit], index)
            best = (seen[ask] @ weight.T + bias).argmax(axis=1)
        wrong[ask] = known[best] != target[ask]
    return wrong


def markdown(found: list[Probed]) -> str:
    """Return the table for people: lowest error first."""
    best = found[0]
    lines = [
        "| architecture | cross-validated error (95 %) | p against the first | ms per picture "
        "| million parameters | pixels |",
        "|---|---|---|---|---|---|",
        *(
            f"| {each.name} | {describe_error(error_of(each.wrong))} | {chance(best, each)} "
            f"| {1000 * each.seconds:.1f} | {each.parameters / 1e6:.1f} | {each.size} |"
            for each in found
        ),
        "",
        f"A linear head on frozen features, on the {len(best.wrong)} pictures of train and valid, "
        "the same for all. p: how often chance alone makes such a difference (McNemar's exact "
        "test). The time is torch's; that of an exported model is another.",
        "",
    ]
    return "\n".join(lines)


def chance(best: Probed, other: Probed) -> str:
    """Return McNemar's p of the best architecture and another; nothing for the best itself."""
    if other is best:
        return ""
    return f"{compare_pair(best.wrong, other.wrong, ('', ''))[0]:.2g}"


def say_agreement(found: list[Probed]) -> str:
    """Return in words how well this ranking agrees with that of compare/compare.csv.

    Random controls do not count, unless all weights are random.
    """
    own = [each for each in found if not each.random] or found
    errors = {each.arch: float(each.wrong.mean()) for each in own}
    try:
        return describe_agreement(errors, read_trained(OUT / "compare.csv"))
    except StageError as error:
        return f"Agreement with trained models: not known; {error}"
