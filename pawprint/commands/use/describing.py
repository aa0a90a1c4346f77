"""What `pawprint use` says: ten lines or so about pictures that are not gathered yet."""

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from pawprint.commands.use.inputs import Input
from pawprint.commands.use.wording import named, said
from pawprint.judging.own_splits import missing_splits
from pawprint.params import StageError, check, listed
from pawprint.pictures.storing import VerifyParams
from pawprint.sources import Found
from pawprint.sources.looking import Look, look_at, spread
from pawprint.sources.user_tables import squeeze
from pawprint.tables import SPLITS

MOST = 1000  # pictures that are decoded
RARE = len(SPLITS)  # a class of fewer pictures cannot be in every split
MORE_CLASSES = defaultdict(
    lambda: "--labels, --table, --pattern and --label-column say how pictures are labelled",
    urls="name a folder with one list per class, or a table with a column `label` beside `url`",
)


def describe(used: Input, name: str, params: dict[str, Any], heard: list[str]) -> list[str]:
    """Return the report. params: params.yaml. heard: what gather's code has said on stderr.

    Raises StageError if there are fewer than two classes.
    """
    lines = [f"{name}: {used.what}"]
    if used.find is None:
        return [*lines, *option_lines(used.values), *used.look()]
    heard.clear()  # what was said while guessing; `find` says again what counts
    items = [replace(item, read=None) for item in used.find()]
    here = [item for item in items if not item.missing]
    classes = Counter(item.label for item in here)
    if len(classes) < 2:
        only = f" ({', '.join(classes)})" if classes else ""
        raise StageError(
            f"{used.what}: {len(classes)} class{only}; a classifier needs at least two; "
            f"{MORE_CLASSES[used.kind]}"
        )
    lines += [said("labels", used.how), *class_lines(classes, items), *split_lines(here, params)]
    if used.is_local:
        how = check(params.get("verify"), VerifyParams, "verify", Path("params.yaml"))
        chosen = spread((item for item in used.find() if not item.missing), len(here), MOST)
        look = look_at(chosen, how.preparation({}))
        lines += look_lines(look, len(here))
    gone = (item for item in items if item.missing and item.status == "not a picture")
    others = Counter(item.missing for item in gone)
    lines += [said("left out", f"{count:,}: {why}") for why, count in others.most_common(3)]
    where = f"gather.path: '{used.root}': "
    notes = dict.fromkeys(line.removeprefix(where) for line in heard)
    return [*lines, *(said("note", line) for line in notes)]


def option_lines(values: dict[str, Any]) -> list[str]:
    """Return what the yaml will say of a source that is not looked at."""
    return [said(key, str(value)) for key, value in values.items() if key != "kind"]


def class_lines(classes: Counter[str], items: list[Found]) -> list[str]:
    """Return the classes with their counts, the largest and the smallest if they are many."""
    order = sorted(classes.items(), key=lambda each: (-each[1], each[0]))
    counts = [f"{label} {count:,}" for label, count in order]
    lines = [said("classes", f"{len(classes)}: {named(counts)}")]
    rare = [f"{label} {count}" for label, count in order[::-1] if count < RARE]
    if rare:
        text = f"classes of fewer than {RARE} pictures, which cannot be in every split: "
        lines.append(said("rare", text + listed(rare, 6)))
    alike = defaultdict(list)
    for label in sorted(classes):
        alike[squeeze(label)].append(label)
    same = [", ".join(labels) for name, labels in alike.items() if name and len(labels) > 1]
    if same:
        text = "classes whose names differ only in case, spaces or signs: "
        lines.append(said("alike", f"{text}{'; '.join(same[:6])}; rename one if they are the same"))
    empty = sorted({item.label for item in items} - set(classes))
    if empty:
        text = "classes without a picture; gather stops unless gather.min_per_class is 0: "
        lines.append(said("empty", text + listed(empty, 6)))
    return lines


def split_lines(here: list[Found], params: dict[str, Any]) -> list[str]:
    """Return the splits that the source gives, and what is drawn.

    Raises StageError if no picture is to train with.
    """
    counts = Counter(item.split for item in here)
    given = ", ".join(f"{split} {counts[split]:,}" for split in SPLITS if counts[split])
    shares = {split: (params.get("split") or {}).get(f"{split}_pct") for split in SPLITS}
    if given and not counts["train"] and not counts[""]:
        raise StageError(
            f"every picture has a split of its own ({given}), and none is in train; say what the "
            "words mean by --splits WORD=SPLIT, or by --splits none that they are no splits"
        )
    if not given:
        text = "none of its own; train, valid and test are drawn"
    elif counts[""]:
        text = f"{given}; {counts['']:,} without one are drawn"
    elif missing := missing_splits(counts):
        drawn = " and ".join(f"{split} ({shares[split]} of it)" for split in missing)
        text = f"{given}; {drawn} will be drawn from train"
    else:
        text = given
    lines = [said("splits", text)]
    taught = {item.label for item in here if item.split in ("train", "")}
    if untaught := sorted({item.label for item in here} - taught):
        classes = listed(untaught, 6)
        lines.append(said("no train", f"classes without a picture in train, left out: {classes}"))
    groups = len({item.group for item in here if item.group})
    return [*lines, *([said("groups", f"{groups:,}")] if groups else [])]


def look_lines(look: Look, total: int) -> list[str]:
    """Return formats, sizes, and what verify will refuse."""
    part = "" if look.looked == total else f" (of {look.looked:,} looked at, evenly spread)"
    formats = ", ".join(f"{form.partition('/')[2]} {n:,}" for form, n in look.formats.most_common())
    lines = [said("formats", formats + part)]
    if look.sizes:
        by_area = sorted(look.sizes, key=lambda size: (size[0] * size[1], size))
        smallest, middle, largest = (
            f"{width:,} x {height:,}"
            for width, height in (by_area[0], by_area[len(by_area) // 2], by_area[-1])
        )
        lines.append(said("sizes", f"{smallest} to {largest} pixels, median {middle}"))
    refused = sum(map(len, look.refused.values()))
    for reason, names in sorted(look.refused.items()):
        lines.append(said("refused", f"{len(names)} {reason}: {listed(names, 2)}{part}"))
    if not refused:
        lines.append(said("refused", f"none{part}"))
    if look.copies or look.two_labels:
        text = f"same bytes as another: {look.copies}, kept once; under two labels: "
        lines.append(said("repeated", f"{text}{look.two_labels}, not kept{part}"))
    return lines
