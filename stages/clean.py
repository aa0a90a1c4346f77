"""Apply what a person decided and what the machine finds, without moving any picture to another split.

Reads data/split.csv, data/images, data/decisions.csv. Writes data/cleaned.csv (data/split.csv less the pictures
dropped, with new labels, columns action and reason), data/label_errors.csv (every judged picture, most suspicious
first) and metrics/clean.json.

A person's decision (image, action keep / delete / relabel, label) always wins. The machine judges train and valid
pictures only; the test split changes by a person's decision alone, so that its error means the same before and after.
Label errors are found by confident learning (Northcutt et al., arXiv:1911.00068; the library cleanlab): every picture
is judged by a linear model on pretrained features that was fitted without it, and without its near duplicates.
Odd ones out, pictures of none of the classes, lie far from all others in these features; they are listed, not touched.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.params import Params, StageError, load_params, run_stage
from stages.tables import counts, read_table, write_json, write_table
from stages.vision.batches import load_pictures
from stages.vision.device import ComputeParams, start
from stages.vision.model import create_model
from stages.vision.predict import features
from stages.vision.recipe import TrainParams

DECISIONS = Path("data/decisions.csv")
ACTIONS = ("keep", "delete", "relabel")


class CleanParams(Params):
    """The section `clean` of params.yaml."""

    auto: Literal["flag", "drop", "relabel"]
    near_duplicates: Literal["flag", "drop"]
    folds: int = Field(ge=2, le=20)
    threshold: float = Field(ge=0.5, le=1)


def main() -> None:
    params = load_params("clean", CleanParams)
    table = read_table("data/split.csv").assign(action="", reason="")
    table["image"] = [Path(path).stem for path in table["path"]]
    decisions = read_decisions(sorted(table["label"].unique()))
    gone = sorted(set(decisions["image"]) - set(table["image"]))
    apply_decisions(table, decisions)
    judged = judge(table[(table["split"] != "test") & (table["action"] != "delete")], params)
    decided = set(decisions["image"])
    apply_errors(table, judged, decided, params)
    copies = apply_near_duplicates(table, decided, params)
    cleaned = table[table["action"] != "delete"]
    refuse_lost_classes(table, cleaned)
    write_table("data/cleaned.csv", cleaned[["path", "label", "group", "split", "action", "reason"]])
    write_table("data/label_errors.csv", judged)
    write_json(
        "metrics/clean.json",
        {
            "pictures": len(cleaned),
            "deleted": int((table["action"] == "delete").sum()),
            "relabelled": int((table["action"] == "relabel").sum()),
            "by": counts(reason.split(":")[0] for reason in table["reason"] if reason),
            "suspected_label_errors": int(judged["suspected"].eq("yes").sum()),
            "label_issues": int(judged["issue"].eq("yes").sum()),
            "odd_ones_out": int(judged["odd"].eq("yes").sum()),
            "near_duplicate_copies": copies,
            "decisions": len(decisions),
            "decisions_about_missing_pictures": gone,
        },
    )


def read_decisions(classes: list[str]) -> pd.DataFrame:
    """data/decisions.csv: image, action, label, by, note; an empty table when there is none.

    Raises StageError that names the row with an unknown action, or a new label that is no class.
    """
    columns = ["image", "action", "label", "by", "note"]
    if not DECISIONS.is_file():
        return pd.DataFrame(columns=columns)
    decisions = read_table(DECISIONS)
    missing = [name for name in ("image", "action", "label") if name not in decisions.columns]
    if missing:
        raise StageError(f"{DECISIONS} lacks the column {missing[0]}; it should have {', '.join(columns)}")
    for line, row in enumerate(decisions.itertuples(), start=2):
        if row.action not in ACTIONS:
            raise StageError(f"{DECISIONS}, line {line}: action is {row.action!r}; it should be {', '.join(ACTIONS)}")
        if row.action == "relabel" and row.label not in classes:
            raise StageError(f"{DECISIONS}, line {line}: label is {row.label!r}; it should be {', '.join(classes)}")
    return decisions.drop_duplicates("image", keep="last")


def apply_decisions(table: pd.DataFrame, decisions: pd.DataFrame) -> None:
    """Write a person's decisions into `table`."""
    for decision in decisions.itertuples():
        mark(table, table["image"] == decision.image, decision.action, "decision", decision.label)


def judge(rows: pd.DataFrame, params: CleanParams) -> pd.DataFrame:
    """How likely a label is wrong, a row a picture, the lowest score first.

    Columns: path, label, split, suggestion, probability, score, issue, suspected, distance, odd.
    score: the label's probability out of fold, 0 to 1 (cleanlab's self-confidence); probability: the suggestion's;
    issue: where cleanlab's confident learning finds one; suspected: where another label is at least `threshold` sure
    too, which is what is acted on; distance, odd: see odd_ones_out.
    """
    train = load_params("train", TrainParams)
    device = start(load_params("compute", ComputeParams), train.seed)
    classes = sorted(rows["label"].unique())
    model, config = create_model(train, classes)
    pictures = load_pictures(rows["path"].tolist(), config.size, config.resize, config.interpolation)
    seen = features(model, pictures, config, device).double().numpy()
    target = rows["label"].map(classes.index).to_numpy()
    folds = StratifiedGroupKFold(params.folds, shuffle=True, random_state=train.seed)
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    probabilities = cross_val_predict(linear, seen, target, groups=rows["group"], cv=folds, method="predict_proba")
    best = probabilities.argmax(axis=1)
    sure = probabilities[np.arange(len(rows)), best]
    issue = find_label_issues(target, probabilities, filter_by="both", min_examples_per_class=0, n_jobs=1)
    issue |= (best != target) & (sure >= params.threshold)
    distance, odd = odd_ones_out(seen, rows["group"].to_numpy())
    judged = rows[["path", "label", "split"]].assign(
        suggestion=np.array(classes, dtype=object)[best],
        probability=sure,
        score=get_label_quality_scores(target, probabilities),
        issue=np.where(issue, "yes", ""),
        suspected=np.where((best != target) & (sure >= params.threshold), "yes", ""),
        distance=distance,
        odd=np.where(odd, "yes", ""),
    )
    return judged.sort_values(["score", "path"])


def odd_ones_out(seen: np.ndarray, groups: np.ndarray, neighbours: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """How far each picture lies from its nearest others, and whether that is far beyond what is usual.

    seen: features (N, F); groups: (N,), near duplicates are no company. Returns the mean cosine distance (N,) to
    `neighbours` others, and (N,) bool: above the median by five times the spread (median absolute deviation).
    """
    _, first = np.unique(groups, return_index=True)
    reference = seen[np.sort(first)]
    nearest = NearestNeighbors(n_neighbors=min(neighbours + 1, len(reference)), metric="cosine").fit(reference)
    distance = nearest.kneighbors(seen)[0][:, 1:].mean(axis=1)
    spread = 1.4826 * np.median(np.abs(distance - np.median(distance)))
    return distance, distance > np.median(distance) + 5 * max(spread, 1e-6)


def apply_errors(table: pd.DataFrame, judged: pd.DataFrame, decided: set[str], params: CleanParams) -> None:
    """Drop or relabel what the machine suspects and no person has decided."""
    if params.auto == "flag":
        return
    action = {"drop": "delete", "relabel": "relabel"}[params.auto]
    for row in judged[judged["suspected"] == "yes"].itertuples():
        if Path(row.path).stem not in decided:
            reason = f"label error: looks like {row.suggestion} ({row.probability:.2f})"
            mark(table, table["path"] == row.path, action, reason, row.suggestion)


def apply_near_duplicates(table: pd.DataFrame, decided: set[str], params: CleanParams) -> int:
    """Count, and drop if wanted, the extra training copies of a picture; the first by path stays."""
    left = table[(table["split"] == "train") & (table["action"] != "delete") & ~table["image"].isin(decided)]
    extra = left[left.duplicated("group")]
    if params.near_duplicates == "drop":
        for row in extra.itertuples():
            mark(table, table["path"] == row.path, "delete", f"near duplicate: of {row.group}", "")
    return len(extra)


def mark(table: pd.DataFrame, where: pd.Series, action: str, reason: str, label: str) -> None:
    table.loc[where, ["action", "reason"]] = [action, reason]
    if action == "relabel":
        table.loc[where, "label"] = label


def refuse_lost_classes(before: pd.DataFrame, after: pd.DataFrame) -> None:
    kept = set(zip(after["label"], after["split"], strict=True))
    for label, split in sorted(set(zip(before["label"], before["split"], strict=True)) - kept):
        raise StageError(f"cleaning leaves no '{label}' in {split}; set clean.auto: flag, or gather more of it")


if __name__ == "__main__":
    run_stage(main)
