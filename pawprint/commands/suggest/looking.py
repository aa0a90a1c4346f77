"""Looking through unlabelled pictures: what the frozen body sees, what the linear head says."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pawprint.compute.cores import cores
from pawprint.judging.suggestions import choose_to_label, drop_copies, novelty, unsureness
from pawprint.params import StageError
from pawprint.pictures.formats import looks_like_picture
from pawprint.pictures.hashing import perceptual_hash
from pawprint.pictures.opening import Preparation, Unusable, open_picture
from pawprint.pictures.square import to_square
from pawprint.sources.names import is_hidden
from pawprint.state import read_decisions
from pawprint.tables import read_table
from pawprint.training.features import read_features
from pawprint.training.stored import hash_body, read_linear

LINEAR = Path("models/linear.safetensors")
AT_A_TIME = 512  # pictures in memory


@dataclass
class Candidates:
    """Pictures to label, the one that would teach most first; those decided before come last.

    names: the first 16 hex digits of each file's SHA-256, as gather will name it. proposals: the
    likeliest class, and its probability. unsure, distance: see pawprint/judging/suggestions.py.
    features: (n, F). classes: of the project. seen: how many pictures there were; left_out: how
    many of them were not ranked, by the reason.
    """

    files: list[str]
    names: list[str]
    proposals: list[str]
    probability: np.ndarray
    unsure: np.ndarray
    distance: np.ndarray
    features: np.ndarray
    classes: list[str]
    seen: int
    left_out: Counter[str]


@dataclass(frozen=True)
class Looked:
    """One picture that was opened. square: as the body takes it, uint8 (size, size, 3)."""

    file: str
    name: str
    phash: str
    square: np.ndarray


def look_through(
    folder: Path, count: int, how: Preparation, near: int, decided: Path
) -> Candidates:
    """Return the `count` pictures of a folder that are worth a label, and those decided before.

    how: pictures are prepared as verify does; near: bits in which near duplicates may differ;
    decided: the table of earlier decisions.
    Raises StageError if a file of the project is missing or damaged, or no picture is new.
    """
    images = read_table("data/images.csv")
    split = read_table("data/split.csv")
    taught = split.loc[split["split"] != "test", "path"].tolist()
    known = read_features(taught, "features", hash_body())
    classes, weight, bias = read_linear(LINEAR)
    files = sorted(path for path in folder.rglob("*") if is_candidate(path, folder))
    if not files:
        raise StageError(f"{folder} holds no pictures")

    # open each once: its name, its hash, and what the body sees
    left_out: Counter[str] = Counter()
    looked, features = look_at(files, how, left_out)
    earlier = read_decisions(decided)
    is_decided = [each.name in earlier for each in looked]
    fresh = [i for i, done in enumerate(is_decided) if not done]
    copies = drop_copies([looked[i].phash for i in fresh], images["phash"].tolist(), near)
    new = [i for i, is_copy in zip(fresh, copies, strict=True) if not is_copy]
    left_out["near duplicates of known pictures or of each other"] = len(fresh) - len(new)
    if not new and not any(is_decided):
        raise StageError(f"{folder} holds no picture that is new: {said(left_out)}")

    # rank what is new beside what has a label, and keep what was decided before at the end
    labelled_now = [
        i
        for i, each in enumerate(looked)
        if is_decided[i] and earlier[each.name]["action"] != "delete"
    ]
    labelled = np.concatenate([known, features[labelled_now]])
    chances = probabilities(features @ weight.T + bias)
    best = choose_to_label(features[new], chances[new], labelled, count)
    order = [new[i] for i in best] + [i for i, done in enumerate(is_decided) if done]
    left_out["decided before"] = sum(is_decided)
    left_out["that would teach less"] = len(new) - len(best)
    top = chances.argmax(axis=1)
    return Candidates(
        files=[looked[i].file for i in order],
        names=[looked[i].name for i in order],
        proposals=[classes[top[i]] for i in order],
        probability=chances.max(axis=1)[order],
        unsure=unsureness(chances)[order],
        distance=novelty(features[order], known),
        features=features[order],
        classes=sorted(split["label"].unique()),
        seen=len(files),
        left_out=+left_out,
    )


def is_candidate(path: Path, folder: Path) -> bool:
    """Return whether a file is a picture by its name, and not hidden."""
    parts = path.relative_to(folder).parts
    return looks_like_picture(path.name) and not any(map(is_hidden, parts)) and path.is_file()


def look_at(
    files: Sequence[Path], how: Preparation, left_out: Counter[str]
) -> tuple[list[Looked], np.ndarray]:
    """Open pictures, a chunk at a time; return them without their pixels, and features (n, F).

    The same content is looked at once. left_out: gets the counts of what cannot be used.
    """
    import torch

    from pawprint.training.inference import compute_features
    from pawprint.training.model import load_model

    model, config = load_model(LINEAR)

    def open_one(path: Path) -> Looked | str:
        try:
            image = open_picture(path, how)
            name = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        except Unusable as error:
            return error.reason
        except OSError:
            return "unreadable"
        square = to_square(image, config.size, config.resize, config.interpolation)
        return Looked(str(path), name, perceptual_hash(image), np.asarray(square))

    looked: list[Looked] = []
    seen: list[np.ndarray] = []
    names: set[str] = set()
    with ThreadPoolExecutor(cores()) as pool, tqdm(total=len(files), desc="suggest") as bar:
        for start in range(0, len(files), AT_A_TIME):
            chunk: list[Looked] = []
            for found in pool.map(open_one, files[start : start + AT_A_TIME]):
                if isinstance(found, str):
                    left_out[found] += 1
                elif found.name in names:
                    left_out["the same file twice"] += 1
                else:
                    names.add(found.name)
                    chunk.append(found)
            if chunk:
                pictures = torch.from_numpy(np.stack([each.square for each in chunk]))
                cpu = torch.device("cpu")
                seen.append(compute_features(model, pictures, config, cpu).numpy())
            empty = np.empty(0, dtype=np.uint8)
            looked += [Looked(each.file, each.name, each.phash, empty) for each in chunk]
            bar.update(min(AT_A_TIME, len(files) - start))
    if not looked:
        raise StageError(f"no picture can be used: {said(left_out)}")
    return looked, np.concatenate(seen)


def said(left_out: Counter[str]) -> str:
    """Return what was left out, in words."""
    return ", ".join(f"{count:,} {reason}" for reason, count in (+left_out).items())


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Return the softmax of scores (n, classes)."""
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)
