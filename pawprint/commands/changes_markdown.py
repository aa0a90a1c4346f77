"""The comment of `pawprint changes` as Markdown, as GitHub and GitLab show it.

Labels, paths and values come from whoever made the commit. They are shown as code with every sign
escaped, so that none of them ends a table, mentions people, links or loads anything.
"""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from pawprint.judging.comparison import compare_pair
from pawprint.judging.errors import CANDIDATES, NAMES, describe_error

MISSING = "-"  # in a table
MARK = "<!-- pawprint changes -->"  # CI finds its own comment by it, and writes over it
MOST_LOSSES = 10  # pictures of each commit
MOST_CLASSES = 12  # up to which a matrix is shown whole
MOST_PAIRS = 10  # confusions, if there are more classes
MOST_ROWS = 60  # of params and of metrics
LONGEST = 40  # characters of a label or a value
LONGEST_REASON = 300  # of an error's text
LONGEST_COMMENT = 60_000  # characters; GitHub takes 65,536
SPLITS = {"confusion": "valid, first model", "test_confusion": "test"}

Diff = dict[str, dict[str, Any]] | str


@dataclass(frozen=True)
class Side:
    """What one commit holds.

    metrics: by name, empty if missing; matrices: by name, columns actual and predicted, one row
    per picture; answers: data/predictions.csv as text, None if neither cache nor remote has it;
    why: the reason then.
    """

    commit: str
    metrics: Mapping[str, dict[str, Any]]
    matrices: Mapping[str, pd.DataFrame]
    answers: pd.DataFrame | None
    why: str = ""

    @property
    def short(self) -> str:
        return self.commit[:8]


Sides = tuple[Side, Side]


def comment(
    sides: Sides, params: Diff, metrics: Diff, pictures: Sequence[tuple[str, list[Path]]] = ()
) -> str:
    """Return the whole comment. params, metrics: what DVC found, or why it found nothing."""
    base, head = sides
    parts = [
        f"{MARK}\n## What changed: {code(base.short)} → {code(head.short)}",
        errors(sides),
        changed("params", params, sides),
        *(matrix(name, sides) for name in SPLITS),
        top_losses(sides),
        changed("metrics", metrics, sides, folded=True),
        *(shown(name, paths) for name, paths in pictures if paths),
    ]
    return fit(parts, f"`pawprint changes {base.short} {head.short}` prints it")


def fit(parts: Iterable[str], instead: str) -> str:
    """Return the parts, those left out with which the comment would be longer than allowed."""
    text = ""
    for part in parts:
        if len(text) + len(part) > LONGEST_COMMENT:
            title = part.split("\n", 1)[0]
            part = f"{title}\n\nToo long for a comment: {instead}."
            if title.startswith("<details>"):
                part += "\n\n</details>"
        text += part + "\n\n"
    return text.rstrip("\n")


def code(value: object, longest: int = LONGEST) -> str:
    """Return any text as code: cut to so many characters, on one line, every sign escaped."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    plain = set("-. …/")
    escaped = "".join(c if c.isalnum() or c in plain else f"&#{ord(c)};" for c in text)
    return f"<code>{escaped}</code>" if escaped else ""


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0) -> str:
    """Return a table in Markdown; the last `numbers` columns are aligned to the right."""
    marks = ["---"] * (len(header) - numbers) + ["---:"] * numbers
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, marks, *rows))


def errors(sides: Sides) -> str:
    """Return the error rates of the models of both commits, and whether they differ on valid."""
    rows = []
    for key in reversed(CANDIDATES):
        cells = [
            error_of(side.metrics.get("evaluate", {}), split, key)
            for split in ("valid", "as_gathered")
            for side in sides
        ]
        rows.append([NAMES[key], *cells])
    if not any(cell != MISSING for row in rows for cell in row[1:]):
        return "### Errors\n\nmetrics/evaluate.json is at neither commit: `dvc repro` makes it."
    names = [code(side.short) for side in sides]
    header = [
        "error (95 % interval)",
        *(f"{split}, {n}" for split in ("valid as cleaned", "test as gathered") for n in names),
    ]
    exported = [str(side.metrics.get("export", {}).get("model", MISSING)) for side in sides]
    lines = [table(header, rows, 4), f"Exported: {' → '.join(code(name) for name in exported)}."]
    return "### Errors\n\n" + "\n\n".join([*lines, *compared(sides)])


def error_of(judged: Mapping[str, Any], split: str, key: str) -> str:
    """Return one error rate in words, or MISSING if it was not measured."""
    try:
        return describe_error(judged[split][key])
    except (KeyError, TypeError, ValueError):
        return MISSING


def compared(sides: Sides) -> list[str]:
    """Return whether the first models differ, by McNemar's test on the valid pictures of both."""
    tables = [valid_answers(side) for side in sides]
    if tables[0] is None or tables[1] is None:
        return []
    both = tables[0].join(tables[1], how="inner", lsuffix="_base", rsuffix="_head")
    same = both[both["label_base"] == both["label_head"]]
    if same.empty:
        return ["No valid picture is in both commits under the same label."]
    wrong = [(same[f"prediction_{n}"] != same[f"label_{n}"]).to_numpy() for n in ("base", "head")]
    p, _, _ = compare_pair(np.asarray(wrong[0]), np.asarray(wrong[1]), ("", ""))
    verdict = "unlikely to be chance" if p < 0.05 else "no evidence of a difference"
    shown = f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
    return [
        f"The first model on the {len(same)} valid pictures of both, labels as gathered: "
        f"{int(wrong[0].sum())} wrong → {int(wrong[1].sum())} wrong; {verdict} ({shown}, "
        "McNemar's exact test)."
    ]


def valid_answers(side: Side) -> pd.DataFrame | None:
    """Return the answers about the valid split by picture, probability and loss as numbers."""
    if side.answers is None:
        return None
    found = side.answers[side.answers["split"] == "valid"].copy()
    for name in ("probability", "loss"):
        found[name] = pd.to_numeric(found[name], errors="coerce")
    picture = [PurePosixPath(path).stem for path in found["path"]]
    found = found.assign(picture=picture).drop_duplicates("picture")
    return found.set_index("picture")[["label", "prediction", "probability", "loss"]]


def changed(kind: str, found: Diff, sides: Sides, folded: bool = False) -> str:
    """Return what DVC says has changed, as a table; folded: behind a line to click on."""
    command = f"dvc {kind} diff {sides[0].short} {sides[1].short}"
    if isinstance(found, str):
        reason = code(found, LONGEST_REASON)
        return f"### {kind.capitalize()}\n\n`dvc {kind} diff` cannot tell: {reason}"
    rows = [
        [code(file), code(key), code(value_of(change, "old")), code(value_of(change, "new"))]
        for file, changes in sorted(found.items())
        for key, change in sorted(changes.items())
    ]
    if not rows:
        return f"### {kind.capitalize()}\n\nNo change."
    header = ["file", kind.removesuffix("s"), *(code(side.short) for side in sides)]
    text = table(header, rows[:MOST_ROWS], 2)
    if len(rows) > MOST_ROWS:
        text += f"\n\n… and {len(rows) - MOST_ROWS} more: `{command}`"
    if not folded:
        return f"### {kind.capitalize()}\n\n{text}"
    title = f"<details><summary>{kind.capitalize()}: {len(rows)} changed</summary>"
    return f"{title}\n\n{text}\n\n</details>"


def value_of(change: Mapping[str, Any], key: str) -> str:
    """Return a value as people write it, or MISSING if that commit has none."""
    value = change.get(key)
    if isinstance(value, bool):
        return str(value).lower()
    return MISSING if value is None else str(value)


def matrix(name: str, sides: Sides) -> str:
    """Return the confusion matrices of both commits side by side, or as pairs if they are large."""
    title = f"### Confusion matrix, {SPLITS[name]}"
    tables = [side.matrices.get(name) for side in sides]
    if all(each is None for each in tables):
        return f"{title}\n\nmetrics/{name}.csv is at neither commit: `dvc repro` makes it."
    counts = [counted(each) for each in tables]
    classes = sorted({c for each in counts for pair in each for c in pair})
    if len(classes) > MOST_CLASSES:
        return f"{title}\n\n{pairs(counts, sides)}"
    if counts[0] == counts[1]:
        return f"{title}\n\nThe same at both commits:\n\n{square(counts[0], counts[0], classes)}"
    cells = []
    for side, own, other in zip(sides, counts, reversed(counts), strict=True):
        shown = square(own, other, classes) if own else f"No metrics/{name}.csv at this commit."
        cells.append(f"<td>\n\n{code(side.short)}\n\n{shown}\n\n</td>")
    return f"{title}\n\n<table><tr>{''.join(cells)}</tr></table>"


Counts = dict[tuple[str, str], int]


def counted(answers: pd.DataFrame | None) -> Counts:
    """Return how many pictures each (actual, predicted) has."""
    if answers is None:
        return {}
    pairs = zip(answers["actual"], answers["predicted"], strict=True)
    return pd.Series(list(pairs), dtype=object).value_counts().to_dict()


def square(own: Counts, other: Counts, classes: Sequence[str]) -> str:
    """Return a matrix, one row per actual class; counts that differ from the other's are bold."""
    rows = []
    for actual in classes:
        cells = []
        for predicted in classes:
            count = own.get((actual, predicted), 0)
            same = count == other.get((actual, predicted), 0)
            cells.append(f"{count}" if same else f"**{count}**")
        rows.append([code(actual), *cells])
    return table(["actual ↓ predicted →", *map(code, classes)], rows, len(classes))


def pairs(counts: Sequence[Counts], sides: Sides) -> str:
    """Return the most frequent confusions of either commit, with their counts at both."""
    wrong = {pair for each in counts for pair in each if pair[0] != pair[1]}
    if not wrong:
        return "No confusion at either commit."
    both = {pair: [each.get(pair, 0) for each in counts] for pair in wrong}
    order = sorted(wrong, key=lambda pair: (-max(both[pair]), -sum(both[pair]), pair))
    rows = [[*map(code, pair), *map(str, both[pair])] for pair in order[:MOST_PAIRS]]
    header = ["actual", "predicted", *(code(side.short) for side in sides)]
    text = "The most frequent confusions:\n\n" + table(header, rows, 2)
    return text if len(order) <= MOST_PAIRS else f"{text}\n\n… and {len(order) - MOST_PAIRS} more"


def top_losses(sides: Sides) -> str:
    """Return the pictures with the highest loss at either commit, with both answers."""
    title = "### Top losses, valid, first model"
    tables = [valid_answers(side) for side in sides]
    missing = [
        f"{code(side.short)} has no readable data/predictions.csv in DVC's cache or remote: "
        f"`dvc push` it from where it ran. {code(side.why, LONGEST_REASON)}".rstrip()
        for side, each in zip(sides, tables, strict=True)
        if each is None
    ]
    known = [each for each in tables if each is not None]
    if not known:
        return "\n\n".join([title, *missing])
    worst = {i for each in known for i in each["loss"].nlargest(MOST_LOSSES, keep="first").index}
    order = sorted(worst, key=lambda i: (*(-loss_of(each, i) for each in reversed(tables)), i))
    header = ["picture", "label", *(code(side.short) for side in sides)]
    rows = [[code(i), label_of(tables, i), *(answer_of(t, i) for t in tables)] for i in order]
    return "\n\n".join([title, *missing, table(header, rows)])


def loss_of(answers: pd.DataFrame | None, picture: str) -> float:
    """Return the loss of a picture; -1, less than any loss, if that commit has none."""
    if answers is None or picture not in answers.index:
        return -1.0
    return float(answers["loss"].fillna(-1.0)[picture])


def label_of(tables: Sequence[pd.DataFrame | None], picture: str) -> str:
    """Return the label of a picture; if it was relabelled, both."""
    known = [
        each["label"][picture] for each in tables if each is not None and picture in each.index
    ]
    return " → ".join(code(label) for label in dict.fromkeys(known))


def answer_of(answers: pd.DataFrame | None, picture: str) -> str:
    """Return what the model said of a picture: prediction, probability and loss."""
    if answers is None or picture not in answers.index:
        return MISSING
    row = answers.loc[picture]
    return f"{code(row['prediction'])} {100 * row['probability']:.0f} %, loss {row['loss']:.2f}"


def shown(name: str, paths: Sequence[Path]) -> str:
    """Return the pictures of both commits as images with local paths, which CML uploads."""
    title = name.replace("_", " ").capitalize()
    images = "\n".join(f"![{html.escape(path.stem)}]({path.as_posix()})" for path in paths)
    return f"### {title}\n\n{images}"
