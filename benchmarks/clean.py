"""Compare what `clean.auto` may do with label errors, on folders of photos with changed labels.

    python -m benchmarks.clean FOLDER… --seeds 42 43 44 --flips 0.2 --kinds uniform similar

FOLDER has one folder per class, all labels right. Every seed draws its own split, and a share of
the labels of train and valid is changed (--flips). uniform: any other class is as likely; similar:
the other class that the judge of the stage clean, fitted to the right labels, finds most probable
for the picture. The judge then sees the changed labels, and each policy (flag, or drop or relabel
from a threshold on) acts as the stage clean does, near duplicates included. The linear head of the
stage baseline is fitted to what is left in train; its answers are compared with the right labels.

The table counts wrong pictures of valid, summed over folders and seeds, a column per share and
kind. Its last column counts the labels of train and valid that a policy acts on, those of them that
are really wrong, and those of these that relabel makes right. Choose by it; then look at test once,
with --test. --results keeps every row, so a benchmark that was stopped goes on. docs/cleaning.md
has the table of four folders.
"""

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.results import Results, Row, make_parser, split
from benchmarks.train import make_project
from pawprint.judging.baselines import fit_linear_head
from pawprint.judging.label_errors import judge_labels, out_of_fold
from pawprint.params import load_params
from pawprint.pictures import picture_name
from pawprint.state import SplitParams
from pawprint.tables import read_table
from pawprint.training.features import read_features
from stages.clean import CleanParams, apply, label_errors, near_duplicates, read_seen, spare_last

KINDS = ("uniform", "similar")
THRESHOLDS = (0.6, 0.7, 0.8, 0.9, 0.95)
POLICIES: list[dict[str, Any]] = [
    {"auto": "flag", "threshold": min(THRESHOLDS)},
    *({"auto": auto, "threshold": at} for auto in ("drop", "relabel") for at in THRESHOLDS),
]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--flips", type=float, nargs="+", default=[0.2], help="shares of labels")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    arguments = parser.parse_args()
    if not all(0 <= share <= 1 for share in arguments.flips):
        parser.error("--flips takes shares of the labels, 0 to 1, such as 0.2")
    results = Results(arguments.results, ("folder", "seed", "flip", "kind"))
    folders = [str(folder) for folder in arguments.folders]
    runs = list(itertools.product(folders, arguments.seeds, arguments.flips, arguments.kinds))
    with tempfile.TemporaryDirectory() as temporary:
        missing = itertools.groupby(results.missing(runs), key=lambda run: run[0])
        for number, (folder, of_folder) in enumerate(missing):
            project = make_project(Path(temporary) / str(number), Path(folder))
            project.stage("features")
            os.chdir(project.path)
            for seed, of_seed in itertools.groupby(of_folder, key=lambda run: run[1]):
                split(project, seed)
                for found in try_seed(seed, [(share, kind) for *_, share, kind in of_seed]):
                    results.add({"folder": folder, **row} for row in found)
    results.show(table, runs, arguments.test)


def try_seed(seed: int, runs: list[tuple[float, str]]) -> Iterator[list[Row]]:
    """Change labels in the project of the working directory; yield the rows of each run.

    runs: share and kind of each. A row has the counts of one policy.
    """
    params = load_params("clean", CleanParams)
    right = read_table("data/split.csv").assign(action="", reason="")
    right["image"] = [picture_name(path) for path in right["path"]]
    classes = sorted(right["label"].unique())
    judged_rows = right[right["split"] != "test"]
    target = judged_rows["label"].map(classes.index).to_numpy()
    groups = judged_rows["group"].to_numpy()
    last, maps, turned = read_seen(judged_rows["path"].tolist())
    if any(kind == "similar" for _, kind in runs):
        probabilities = out_of_fold(maps, target, groups, params.folds, seed, turned)
    for share, kind in runs:
        generator = np.random.default_rng(seed)
        likely = probabilities if kind == "similar" else None
        flipped = flip(target, len(classes), share, generator, likely)
        changed = right.copy()
        changed.loc[judged_rows.index, "label"] = [classes[i] for i in flipped]
        judged = judge_labels(
            changed.loc[judged_rows.index],
            last,
            maps,
            turned=turned,
            folds=params.folds,
            threshold=min(THRESHOLDS),
            odd=params.odd,
            seed=seed,
        )
        yield [
            {"seed": seed, "flip": share, "kind": kind, **policy}
            | try_policy(changed, right, judged, params.model_copy(update=policy))
            for policy in POLICIES
        ]


def flip(
    target: np.ndarray,
    classes: int,
    share: float,
    generator: np.random.Generator,
    likely: np.ndarray | None = None,
) -> np.ndarray:
    """Return class indexes (N,) of which a share, chosen by chance, differs from `target`, (N,).

    likely: probabilities (N, classes), of which the likeliest other class is taken; None: any other
    is as likely.
    """
    chosen = generator.permutation(len(target))[: round(share * len(target))]
    if likely is None:
        others = (target + generator.integers(1, classes, len(target))) % classes
    else:
        own = np.eye(classes, dtype=bool)[target]
        others = np.where(own, -1, likely).argmax(axis=1)
    flipped = target.copy()
    flipped[chosen] = others[chosen]
    return flipped


def try_policy(
    changed: pd.DataFrame, right: pd.DataFrame, judged: pd.DataFrame, params: CleanParams
) -> Row:
    """Clean as the stage does, fit the linear head and count what it gets wrong.

    changed, right: data/split.csv with changed and with right labels, with empty actions;
    judged: as `judge_labels` returns it, for the lowest threshold; params: with the policy.
    """
    cleaned = changed.copy()
    sure = judged["probability"] >= params.threshold
    suspects = judged.assign(suspected=judged["suspected"].where(sure, ""))
    found = apply(cleaned, spare_last(cleaned, label_errors(suspects, params)))
    distance = load_params("split", SplitParams).near_duplicates
    images = read_table("data/images.csv")
    hashes = dict(zip(images["path"], images["phash"], strict=True))
    apply(cleaned, near_duplicates(cleaned, hashes, distance, params))

    # the linear head, and its answers
    train = cleaned[(cleaned["split"] == "train") & (cleaned["action"] != "delete")]
    classes = sorted(train["label"].unique())
    seen = read_features(train["path"].tolist(), "features")
    weight, bias = fit_linear_head(seen, train["label"].map(classes.index).to_numpy())
    row: Row = {"trained": len(train)}
    for side in ("valid", "test"):
        asked = right[right["split"] == side]
        scores = read_features(asked["path"].tolist(), "features") @ weight.T + bias
        answers = np.array(classes, dtype=object)[scores.argmax(axis=1)]
        row |= {side: int((answers != asked["label"]).sum()), f"{side}_pictures": len(asked)}

    # the labels that were acted on
    acted = [finding.path for finding in found if finding.action != "flag"]
    before, after, truth = (
        each.set_index("path").loc[acted, "label"] for each in (changed, cleaned, right)
    )
    wrong = before != truth
    row |= {"flipped": int((changed["label"] != right["label"]).sum()), "acted": len(acted)}
    return row | {
        "acted_wrong": int(wrong.sum()),
        "made_right": int((wrong & (after == truth)).sum()),
    }


def table(rows: pd.DataFrame, side: str) -> str:
    """Return a table of wrong pictures, a row per policy and a column per share and kind."""
    policies, runs = ["auto", "threshold"], ["flip", "kind"]
    wrong = rows.pivot_table(side, policies, runs, aggfunc="sum", sort=False).sort_index(axis=1)
    of = rows[rows["auto"] == "flag"].groupby(runs)[f"{side}_pictures"].sum()
    titles = [f"{100 * share:g} % {kind}, of {of[share, kind]:,}" for share, kind in wrong.columns]
    titles += ["sum", "acted on, of them wrong, of these made right"]
    lines = [" | ".join(["| policy", *titles]) + " |", "|---" * (len(titles) + 1) + "|"]
    acted = rows.groupby(policies, sort=False)[["acted", "acted_wrong", "made_right"]].sum()
    for (auto, threshold), counts in acted.iterrows():
        cells = wrong.loc[auto, threshold]
        name = "flag" if auto == "flag" else f"{auto}, {threshold:g}"
        figures = [str(count) for count in (*cells, cells.sum())]
        figures.append(", ".join(f"{count:,}" for count in counts))
        lines.append(" | ".join([f"| {name}", *figures]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
