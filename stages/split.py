"""Decide for every picture, once and for all, whether it trains, validates or tests.

Reads data/images.csv and the sides, data/sides.csv. Writes data/split.csv (path, label, group,
split), data/left_out.csv, metrics/split.json, and new lines of data/sides.csv.

A side belongs to the picture, not to the run. data/sides.csv is kept in git and only grows: a
picture keeps its side, whatever is added, removed, cleaned, merged or brought back, so errors
before and after are measured on the same pictures. New pictures go where their label lacks most,
in an order that is a hash of the seed and the picture. Other `split` params draw all sides again;
stderr then says how many pictures move.

Near duplicates (perceptual hashes at most `split.near_duplicates` bits apart, linked in chains)
form a group and get one side: a test picture that the model has nearly seen measures memory. So do
pictures of one `group` of the user's own. Pictures that are absent count too: a re-encoded copy
gets the side of the picture it replaces. A `split` of the user's own wins over everything; what it
lacks is drawn from its train, see pawprint/judging/own_splits.py.

A new picture that is near a training picture and near a test picture would join two groups with
different sides. It is left out, and listed in data/left_out.csv with the reason. So are the
pictures of a class that never trains, and with `split.rare: drop` those of every rare class:
pawprint/judging/rare.py.
"""

import hashlib
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Sequence

import numpy as np
import pandas as pd

from pawprint.judging.following import Sides
from pawprint.judging.near_duplicates import find_groups
from pawprint.judging.own_splits import OwnSplits
from pawprint.judging.rare import (
    ORDER,
    choose_left_out,
    find_rare,
    refuse_empty_splits,
    say_rare,
    without,
)
from pawprint.params import StageError, load_params, run_stage
from pawprint.pictures import picture_name
from pawprint.state import SIDES, Side, SplitParams, read_sides, write_sides
from pawprint.tables import SPLITS, read_table, write_json, write_table
from pawprint.watch import Watch


def main() -> None:
    params = load_params("split", SplitParams)
    images = read_table("data/images.csv")
    refuse_unknown_splits(images)
    watch = Watch(SIDES)
    remembered = read_sides()
    own = OwnSplits(images["split"])
    images["split"] = own.before_settling()
    splits, reasons = settle(images, remembered, params)
    images["split"] = own.after_settling(splits)

    # what is left out, and the groups and sides of the rest
    left_out = images[["path", "label"]].assign(reason=reasons)
    kept = images[[not reason for reason in reasons]].reset_index(drop=True)
    groups = find_groups(kept["phash"].tolist(), kept["group"].tolist(), params.near_duplicates)
    own_groups = kept["group"]
    kept = kept.assign(group=[picture_name(kept["path"][first]) for first in groups])
    to_draw = kept["split"].isin(["", *own.drawn])
    kept.loc[to_draw, "split"] = assign(kept[to_draw], params, own.drawn)
    own.say(kept["split"], params)

    # rare classes: those without a picture in some split
    aside = left_out.loc[left_out["reason"] != "", ["label"]].assign(split="")
    rare = find_rare(pd.concat([kept[["label", "split"]], aside]))
    if params.rare == "fail":
        refuse_empty_cells(kept, params)
    gone = choose_left_out(rare, params.rare)
    because = left_out["label"].map(gone).fillna("")
    left_out["reason"] = left_out["reason"].where(left_out["reason"] != "", because)
    kept = kept[~kept["label"].isin(list(gone))]
    refuse_empty_splits(kept, gone)
    say_rare(rare, gone)

    # the sides: new lines, after a word about those that change
    sides = sides_of(kept.assign(group=own_groups), remembered, params)
    say_what_moves(sides, remembered, params)
    watch.refuse_changes()
    write_sides({**remembered, **sides})

    # the tables, and the counts
    table = kept.sort_values("path")[["path", "label", "group", "split"]]
    counts = pd.crosstab(table["label"], table["split"])[list(SPLITS)]
    write_table("data/split.csv", table, durable=True)
    write_table("data/left_out.csv", left_out[left_out["reason"] != ""].sort_values("path"))
    write_json(
        "metrics/split.json",
        {
            "near_duplicates": int(len(table) - table["group"].nunique()),
            "left_out": int((left_out["reason"] != "").sum()),
            "rare": {
                "not_validated": without("valid", rare, gone),
                "not_tested": without("test", rare, gone),
                "left_out": list(gone),
            },
            **{
                split: {"pictures": int(counts[split].sum()), "labels": counts[split].to_dict()}
                for split in SPLITS
            },
        },
    )


def settle(
    images: pd.DataFrame, remembered: dict[str, Side], params: SplitParams
) -> tuple[list[str], list[str]]:
    """Return for every picture its split, "" if it is to be drawn, and why it is left out, or "".

    images: columns path, phash, group and split, the user's own; remembered: the sides by name.
    """
    now = params.drawn_with()
    standing = {name: side for name, side in remembered.items() if side.drawn_with == now}
    names = [picture_name(path) for path in images["path"]]
    present = set(names)
    absent = [side for name, side in sorted(standing.items()) if name not in present]
    count = len(images)

    # one list of all: the pictures that are here, then those that are absent
    paths = images["path"].tolist() + [side.image for side in absent]
    splits = images["split"].tolist() + [side.side for side in absent]
    hashes = images["phash"].tolist() + [side.phash for side in absent]
    own = images["group"].tolist() + [side.group for side in absent]
    near = Sides(hashes, own, splits, params.near_duplicates)
    reasons = [""] * len(paths)

    def place(i: int, wanted: str) -> None:
        """Give picture i the side of its neighbours, or the `wanted` one; if they differ, none."""
        # an absent picture pushes out none that has a side
        first = near.first_of_each(i, count if wanted else len(paths))
        others = {split: paths[j] for split, j in first.items()}
        sides = sorted({*others, wanted} - {""})
        if len(sides) == 1:
            splits[i] = sides[0]
            near.note(i, sides[0])
            return
        where = [f"near {others[side]} ({side})" for side in sides if side in others]
        reasons[i] = " and ".join(where) + (f"; its side was {wanted}" if wanted else "")

    # first the sides that pictures have. Test comes first: where a new `group` joins test and
    # train, the training pictures yield
    by_path = sorted(range(count), key=paths.__getitem__)
    have = [i for i in by_path if not splits[i] and names[i] in standing]
    for i in sorted(have, key=lambda i: SPLITS[::-1].index(standing[names[i]].side)):
        place(i, standing[names[i]].side)

    # then new pictures follow their near duplicates, chain by chain
    reached = deque(i for i in [*by_path, *range(count, len(paths))] if splits[i])
    while reached:
        for j in near.follow(reached.popleft()):
            if not splits[j] and not reasons[j]:
                place(j, "")
                if splits[j]:
                    reached.append(j)
    return splits[:count], reasons[:count]


def assign(images: pd.DataFrame, params: SplitParams, splits: Sequence[str] = SPLITS) -> list[str]:
    """Return the split of every picture; those that have none yet are drawn.

    images: columns path, label, group, and split ("" to be drawn). splits: that are drawn, train
    and others.
    A group goes, in hashed order, to the split that its label lacks most against the shares wanted;
    if a label of it has fewer groups than there are splits, to the first of ORDER without that one.
    """
    refuse_unknown_splits(images)
    share = {"train": 1.0, "valid": params.valid_pct, "test": params.test_pct}
    for split in splits:
        share["train"] -= share[split] if split != "train" else 0
    labels, own_splits = images["label"].tolist(), images["split"].tolist()
    total = Counter(labels)
    groups_of = images.groupby("label")["group"].nunique().to_dict()
    have: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(SPLITS, 0))
    chosen: dict[str, str] = {}
    members: dict[str, list[int]] = {}
    for i, name in enumerate(images["group"]):
        members.setdefault(name, []).append(i)

    # count the groups that have a side, and collect the others
    fresh = []
    for name, part in members.items():
        settled = next((own_splits[i] for i in part if own_splits[i]), "")
        if not settled:
            fresh.append(name)
            continue
        chosen[name] = settled
        for i in part:
            have[labels[i]][own_splits[i] or settled] += 1

    # draw the others
    for name in sorted(fresh, key=lambda group: draw_order(group, params.seed)):
        of_group = [labels[i] for i in members[name]]
        label = of_group[0]
        rarest = min(of_group, key=lambda each: (groups_of[each], each))
        if groups_of[rarest] < len(splits):
            free = (split for split in ORDER if split in splits and not have[rarest][split])
            chosen[name] = next(free, ORDER[0])
        else:
            lack = {split: share[split] * total[label] - have[label][split] for split in splits}
            chosen[name] = max(splits, key=lambda split: lack[split] / share[split])
        for each in of_group:
            have[each][chosen[name]] += 1
    return [own or chosen[name] for name, own in zip(images["group"], own_splits, strict=True)]


def draw_order(group: str, seed: int) -> bytes:
    """Return what groups are sorted by when they are drawn: a hash of the seed and the group."""
    return hashlib.sha256(f"{seed}:{group}".encode()).digest()


def sides_of(
    images: pd.DataFrame, remembered: dict[str, Side], params: SplitParams
) -> dict[str, Side]:
    """Return the sides of the pictures that are here; a line stays as it is if it says the same.

    images: columns path, phash, group (the user's own) and split.
    """
    sides, drawn_with = {}, params.drawn_with()
    for row in images.itertuples():
        name = picture_name(row.path)
        side = Side(name, row.phash, row.group, row.split, drawn_with)
        before = remembered.get(name, side)
        same = (before.group, before.side, before.drawn_with) == (
            side.group,
            side.side,
            side.drawn_with,
        )
        sides[name] = before if same else side
    return sides


def say_what_moves(
    sides: dict[str, Side], remembered: dict[str, Side], params: SplitParams
) -> None:
    """Say on stderr how many pictures change sides, because of other params or the user's word."""
    known = [(remembered[name], side) for name, side in sides.items() if name in remembered]
    moved = [(before, now) for before, now in known if before.side != now.side]
    if not moved:
        return
    olds = sorted({before.drawn_with for before, _ in moved} - {params.drawn_with()})
    why = f"drawn with {olds[0]} before" if olds else "by the source's own split"
    print(
        f"split: {len(moved)} of {len(known)} pictures change sides ({why}); "
        "errors before and after do not compare",
        file=sys.stderr,
    )


def refuse_unknown_splits(images: pd.DataFrame) -> None:
    """Raise StageError if the user's own split is none that is known."""
    wrong = sorted(set(images["split"]) - {"", *SPLITS})
    if wrong:
        raise StageError(
            f"data/images.csv: split is {wrong[0]!r}; it should be one of {', '.join(SPLITS)} "
            "or empty"
        )


def refuse_empty_cells(images: pd.DataFrame, params: SplitParams) -> None:
    """Raise StageError if a class is missing in a split: its error would not be measured."""
    table = pd.crosstab(images["label"], images["split"]).reindex(columns=SPLITS, fill_value=0)
    for label, row in table.iterrows():
        for split in SPLITS:
            if row[split] == 0:
                share = ""
                if split != "train":
                    share = f" (split.{split}_pct is {getattr(params, f'{split}_pct')})"
                raise StageError(
                    f"class '{label}' has {row.sum()} picture(s) and none of them in {split}"
                    f"{share}; gather at least {needed(params)} pictures per class that are not "
                    "near duplicates of each other, change the shares, or set split.rare: keep"
                )


def needed(params: SplitParams) -> int:
    """Return about how many groups a class needs for each split to get one."""
    return int(np.ceil(1 / min(params.valid_pct, params.test_pct))) + 1


if __name__ == "__main__":
    run_stage(main)
