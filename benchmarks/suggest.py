"""Measure what `pawprint suggest` chooses beside labels chosen at random and other ways.

    python -m benchmarks.suggest PROJECT FOLDER        # FOLDER: one folder per class

PROJECT: a folder in which the stage features has run; its models/body.safetensors sees the
pictures of FOLDER once. For each seed, two of five pictures are held out, and of the others some
get labels: --start at random, then as many more as each of --labels says, chosen each time with a
linear head fitted to the labels so far. The error is that of such a head on what was held out, the
mean over --seeds. Ours was chosen on bears and flowers; look at another folder once.
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.project import photos_in
from pawprint.judging.baselines import fit_linear_head
from pawprint.judging.suggestions import choose_to_label, novelty, unsureness
from pawprint.pictures.opening import Preparation

HELD_OUT = 0.4


@dataclass(frozen=True)
class Seen:
    """What a way to choose sees: of the pictures without a label, unless it says otherwise.

    features: (N, F); probabilities: (N, classes), by a head fitted to the labels so far; labelled:
    the features of what has a label, (n, F); random: for what is left to chance.
    """

    features: np.ndarray
    probabilities: np.ndarray
    labelled: np.ndarray
    random: np.random.Generator


def at_random(seen: Seen, count: int) -> np.ndarray:
    """Return rows by chance."""
    return seen.random.choice(len(seen.features), count, replace=False)


def least_sure(seen: Seen, count: int) -> np.ndarray:
    """Return the rows with the smallest margin between the two likeliest classes."""
    return np.argsort(-unsureness(seen.probabilities), kind="stable")[:count]


def furthest(seen: Seen, count: int) -> np.ndarray:
    """Return rows far from all others: k-centre greedy (Sener and Savarese, arXiv:1708.00489)."""
    distance, chosen = novelty(seen.features, seen.labelled), list[int]()
    for _ in range(count):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, novelty(seen.features, seen.features[chosen[-1:]]))
        distance[chosen] = -1
    return np.array(chosen)


def ours(seen: Seen, count: int) -> np.ndarray:
    """Return what `pawprint suggest` chooses."""
    seed = int(seen.random.integers(2**31))
    return choose_to_label(seen.features, seen.probabilities, seen.labelled, count, seed)


WAYS: dict[str, Callable[[Seen, int], np.ndarray]] = {
    "at random": at_random,
    "ours": ours,
    "least sure": least_sure,
    "k-centre": furthest,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("project", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--start", type=int, default=20, help="labels given at random")
    parser.add_argument("--labels", type=int, nargs="+", default=[40, 80, 160])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    arguments = parser.parse_args()
    paths = photos_in(arguments.folder.resolve())
    os.chdir(arguments.project)
    features = look(paths)
    classes, target = np.unique([path.parent.name for path in paths], return_inverse=True)
    errors = measure(features, target, arguments.seeds, [arguments.start, *arguments.labels])
    held_out = int(HELD_OUT * len(paths))
    print(f"{len(paths)} pictures of {len(classes)} classes, {held_out} held out; error in %")
    print("labels      ", *(f"{count:>14}" for count in [arguments.start, *arguments.labels]))
    for way, found in errors.items():
        cells = (f"{100 * each.mean():7.2f} ± {100 * each.std():4.2f}" for each in found)
        print(f"{way:12}", *cells)


def look(paths: list[Path]) -> np.ndarray:
    """Return what the frozen body sees in the pictures, (N, F)."""
    import torch

    from pawprint.pictures.batches import load_pictures
    from pawprint.training.inference import compute_features
    from pawprint.training.model import load_body

    model, config = load_body(["any"])
    how = Preparation(max_size=400)
    pictures = load_pictures(
        list(map(str, paths)), config.size, config.resize, config.interpolation, how
    )
    return compute_features(model, pictures, config, torch.device("cpu")).numpy()


def measure(
    features: np.ndarray, target: np.ndarray, seeds: list[int], counts: list[int]
) -> dict[str, np.ndarray]:
    """Return the errors of each way, (counts, seeds).

    counts: numbers of labels, rising; the first are given at random, the same to all ways.
    """
    errors = {way: np.zeros((len(counts), len(seeds))) for way in WAYS}
    for column, seed in enumerate(seeds):
        order = np.random.default_rng(seed).permutation(len(features))
        held_out, pool = np.split(order, [int(HELD_OUT * len(order))])
        for way, choose in WAYS.items():
            random = np.random.default_rng([seed, 1])
            labelled, left = np.split(pool, [counts[0]])
            for row, count in enumerate(counts):
                if row:
                    said = probabilities(features, target, labelled, left)
                    seen = Seen(features[left], said, features[labelled], random)
                    new = choose(seen, count - len(labelled))
                    labelled = np.concatenate([labelled, left[new]])
                    left = np.delete(left, new)
                answers = probabilities(features, target, labelled, held_out).argmax(axis=1)
                known = np.unique(target[labelled])
                errors[way][row, column] = (known[answers] != target[held_out]).mean()
    return errors


def probabilities(
    features: np.ndarray, target: np.ndarray, labelled: np.ndarray, asked: np.ndarray
) -> np.ndarray:
    """Return what a linear head fitted to `labelled` says of `asked`, (n, known classes)."""
    known, index = np.unique(target[labelled], return_inverse=True)
    if len(known) < 2:
        return np.ones((len(asked), 1))
    weight, bias = fit_linear_head(features[labelled], index)
    scores = features[asked] @ weight.T + bias
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


if __name__ == "__main__":
    main()
