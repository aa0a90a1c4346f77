"""Decide for every picture, once and for all, whether it trains, validates or tests.

Reads data/images.csv. Writes data/split.csv (path, label, group, split) and metrics/split.json.

The split belongs to the picture, not to the run. data/split.csv is kept in git and read again: a picture that stands
in it stays where it is, whatever is added, removed or cleaned, so errors before and after cleaning are measured on the
same pictures. New pictures go where their label lacks most, in an order that is a hash of the seed and the picture.
Other `split` params, or no data/split.csv, and the split is drawn anew.

Near duplicates (perceptual hashes at most `split.near_duplicates` bits apart, linked in chains) form a group and stand
on one side together: a test picture that the model has as good as seen measures memory. So do pictures of one `group`
of the user's own. A `split` of the user's own wins over everything.

No picture ever changes sides. A new picture that is near a training picture and near a test picture would join two
groups that stand apart already: it is the one that yields, and is listed in data/left_out.csv with the reason.
"""

import hashlib
from collections import defaultdict, deque
from collections.abc import Callable

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from stages.params import Params, StageError, load_params, run_stage
from stages.tables import read_json, read_table, write_json, write_table

SPLITS = ("train", "valid", "test")


class SplitParams(Params):
    """The section `split` of params.yaml."""

    seed: int
    valid_pct: float = Field(gt=0, lt=1)
    test_pct: float = Field(gt=0, lt=1)
    near_duplicates: int = Field(ge=0, le=16)

    @model_validator(mode="after")
    def _leave_some_to_train(self) -> "SplitParams":
        if self.valid_pct + self.test_pct >= 0.9:
            raise ValueError("should leave at least 0.1 to train: valid_pct + test_pct must be below 0.9")
        return self


def main() -> None:
    params = load_params("split", SplitParams)
    images = read_table("data/images.csv")
    refuse_unknown_splits(images)
    near = neighbours(images["phash"].tolist(), images["group"].tolist(), params.near_duplicates)
    earlier = earlier_splits(params)
    stood = {path: earlier[name_of(path)] for path in images["path"] if name_of(path) in earlier}
    images["split"], reasons = settle(images, stood, near)
    left_out = images[["path", "label"]].assign(reason=reasons)
    images = images[[not reason for reason in reasons]].reset_index(drop=True)
    groups = find_groups(images["phash"].tolist(), images["group"].tolist(), params.near_duplicates)
    images["group"] = [name_of(images["path"][first]) for first in groups]
    images["split"] = assign(images, {}, params)
    refuse_empty_cells(images, params)
    table = images.sort_values("path")[["path", "label", "group", "split"]]
    counts = pd.crosstab(table["label"], table["split"])[list(SPLITS)]
    write_table("data/split.csv", table)
    write_table("data/left_out.csv", left_out[left_out["reason"] != ""].sort_values("path"))
    write_json(
        "metrics/split.json",
        {
            "drawn_with": params.model_dump(),
            "near_duplicates": int(len(table) - table["group"].nunique()),
            "left_out": int((left_out["reason"] != "").sum()),
            **{split: {"pictures": int(counts[split].sum()), **counts[split].to_dict()} for split in SPLITS},
        },
    )


def neighbours(hashes: list[str], own: list[str], distance: int) -> Callable[[int], list[int]]:
    """A function from a picture's index to the indexes of its near duplicates and of its mates in the user's group.

    hashes, own, distance: as in find_groups.
    """
    bits = np.array([int(text, 16) for text in hashes], dtype=np.uint64)
    ones = np.array([bin(value).count("1") for value in range(1 << 16)], dtype=np.uint8)
    named = np.array(own, dtype=object)

    def near(i: int) -> list[int]:
        differ = (bits ^ bits[i]).view(np.uint16).reshape(-1, 4)
        found = ones[differ].sum(axis=1) <= distance
        if own[i]:
            found |= named == own[i]
        found[i] = False
        return np.flatnonzero(found).tolist()

    return near


def settle(
    images: pd.DataFrame, earlier: dict[str, str], near: Callable[[int], list[int]]
) -> tuple[list[str], list[str]]:
    """For every picture the split that is settled before any is drawn ("" where none), and why it is left out, or "".

    images: columns path and split, the user's own; earlier: path -> split; near: what `neighbours` gave.
    The user's own splits stand. So do the earlier ones, unless the user's word puts a near duplicate elsewhere; test
    comes first, so that where a new `group` joins test and train it is training pictures that yield. New pictures
    follow their near duplicates, and are left out where those stand on different sides.
    """
    paths, splits, reasons = images["path"].tolist(), images["split"].tolist(), [""] * len(images)

    def place(i: int, wanted: str) -> None:
        others = {splits[j]: paths[j] for j in reversed(near(i)) if splits[j]}
        sides = sorted({*others, wanted} - {""})
        if len(sides) == 1:
            splits[i] = sides[0]
        else:
            reasons[i] = "near " + " and near ".join(f"{others[side]} ({side})" for side in sides if side in others)
            reasons[i] += f"; stood in {wanted}" if wanted else ""

    by_path = sorted(range(len(paths)), key=paths.__getitem__)
    stood = [i for i in by_path if not splits[i] and paths[i] in earlier]
    for i in sorted(stood, key=lambda i: SPLITS[::-1].index(earlier[paths[i]])):
        place(i, earlier[paths[i]])
    reached = deque(i for i in by_path if splits[i])
    while reached:
        for j in near(reached.popleft()):
            if not splits[j] and not reasons[j]:
                place(j, "")
                if splits[j]:
                    reached.append(j)
    return splits, reasons


def refuse_unknown_splits(images: pd.DataFrame) -> None:
    wrong = sorted(set(images["split"]) - {"", *SPLITS})
    if wrong:
        raise StageError(f"data/images.csv: split is {wrong[0]!r}; it should be one of {', '.join(SPLITS)} or empty")


def find_groups(hashes: list[str], own: list[str], distance: int) -> list[int]:
    """For every picture the index of the first picture of its group.

    hashes: 16 hex digits each; own: the user's group or ""; distance: bits in which near duplicates may differ.
    Chains are followed: if a is near b, and b near c, all three are one group. Memory is linear in the pictures.
    """
    leader = list(range(len(hashes)))

    def find(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    def union(i: int, j: int) -> None:
        low, high = sorted((find(i), find(j)))
        leader[high] = low

    bits = np.array([int(text, 16) for text in hashes], dtype=np.uint64)
    ones = np.array([bin(value).count("1") for value in range(1 << 16)], dtype=np.uint8)
    for i in range(len(bits) - 1):
        differ = (bits[i + 1 :] ^ bits[i]).view(np.uint16).reshape(-1, 4)
        for j in np.flatnonzero(ones[differ].sum(axis=1) <= distance):
            union(i, i + 1 + int(j))
    first: dict[str, int] = {}
    for i, name in enumerate(own):
        if name:
            union(first.setdefault(name, i), i)
    return [find(i) for i in range(len(hashes))]


def name_of(path: str) -> str:
    """What a picture is called whatever its label: the hash that its file is named after."""
    return path.rsplit("/", 1)[1].removesuffix(".jpg")


def earlier_splits(params: SplitParams) -> dict[str, str]:
    """A picture's name -> its split as drawn before with the same params; empty when there is nothing to keep."""
    try:
        if read_json("metrics/split.json").get("drawn_with") != params.model_dump():
            return {}
        table = read_table("data/split.csv")
        return dict(zip(map(name_of, table["path"]), table["split"], strict=True))
    except (StageError, KeyError, ValueError, IndexError):
        return {}


def assign(images: pd.DataFrame, earlier: dict[str, str], params: SplitParams) -> list[str]:
    """The split of every picture.

    images: columns path, label, group, and split where the user gives it ("" where not).
    A group goes where the user says, else where it stood earlier, else, in hashed order, to the split that its label
    lacks most against the wanted shares.
    """
    refuse_unknown_splits(images)
    share = {"train": 1 - params.valid_pct - params.test_pct, "valid": params.valid_pct, "test": params.test_pct}
    total = images["label"].value_counts()
    have: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(SPLITS, 0))
    chosen: dict[str, str] = {}
    members = {name: part for name, part in images.groupby("group", sort=False)}
    fresh = []
    for name, part in members.items():
        settled = [split for split in part["split"] if split] or [earlier[p] for p in part["path"] if p in earlier]
        if settled:
            chosen[name] = settled[0]
            for label, own in zip(part["label"], part["split"], strict=True):
                have[label][own or settled[0]] += 1
        else:
            fresh.append(name)
    for name in sorted(fresh, key=lambda group: hashlib.sha256(f"{params.seed}:{group}".encode()).digest()):
        label = members[name]["label"].iloc[0]
        lack = {split: share[split] * total[label] - have[label][split] for split in SPLITS}
        chosen[name] = max(SPLITS, key=lambda split: lack[split] / share[split])
        for each in members[name]["label"]:
            have[each][chosen[name]] += 1
    return [own or chosen[name] for name, own in zip(images["group"], images["split"], strict=True)]


def refuse_empty_cells(images: pd.DataFrame, params: SplitParams) -> None:
    """Every class must stand in every split, or its error is not measured."""
    table = pd.crosstab(images["label"], images["split"]).reindex(columns=SPLITS, fill_value=0)
    for label, row in table.iterrows():
        for split in SPLITS:
            if row[split] == 0:
                share = "" if split == "train" else f" (split.{split}_pct is {getattr(params, f'{split}_pct')})"
                raise StageError(
                    f"class '{label}' has {row.sum()} picture(s) and none of them in {split}{share}; gather at least "
                    f"{needed(params)} a class that are not near duplicates of each other, or change the shares"
                )


def needed(params: SplitParams) -> int:
    """About how many groups a class needs for each split to get one."""
    return int(np.ceil(1 / min(params.valid_pct, params.test_pct))) + 1


if __name__ == "__main__":
    run_stage(main)
