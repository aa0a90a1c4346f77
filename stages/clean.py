"""Apply what a person decided and what the machine finds, without moving any picture to another split.

Reads data/split.csv, data/images.csv, data/images, data/decisions.csv. Writes data/cleaned.csv (data/split.csv less the
pictures dropped, with new labels, columns action and reason), data/findings.csv (what is deleted, relabelled, kept or
only flagged, each with its reason), data/label_errors.csv (every judged picture, most suspicious first) and
metrics/clean.json.

A person's decision (image, action keep / delete / relabel, label) always wins. The machine judges train and valid
pictures only; the test split changes by a person's decision alone, so that its error means the same before and after.
Label errors are found by confident learning (Northcutt et al., arXiv:1911.00068; the library cleanlab): every picture
is judged by a linear model on pretrained features that was fitted without it, and without its near duplicates.
Odd ones out, pictures of none of the classes, lie far from all others in these features; they are listed, not touched.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from pydantic import Field
from sklearn import config_context
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from stages.params import Params, StageError, load_params, run_stage
from stages.tables import counts, read_json, read_table, write_json, write_table
from stages.vision.batches import load_pictures
from stages.vision.device import ComputeParams, start
from stages.vision.model import Head, ModelConfig, body, create_model
from stages.vision.predict import in_batches
from stages.vision.recipe import TrainParams

DECISIONS = Path("data/decisions.csv")
ACTIONS = ("keep", "delete", "relabel")
DRAWS, MANY = 5, 10_000  # drawings of the folds; fewer where they would judge more than so many pictures in all


class CleanParams(Params):
    """The section `clean` of params.yaml."""

    auto: Literal["flag", "drop", "relabel"]
    near_duplicates: Literal["flag", "drop"]
    folds: int = Field(ge=2, le=20)
    threshold: float = Field(ge=0.5, le=1)
    odd: float = Field(gt=0)


class Finding(NamedTuple):
    """What is done about a picture (keep, delete or relabel; flag: nothing), its new label, if any, and why."""

    path: str
    action: str
    label: str
    reason: str


def main() -> None:
    params = load_params("clean", CleanParams)
    table = read_table("data/split.csv").assign(action="", reason="")
    table["image"] = [Path(path).stem for path in table["path"]]
    decisions = read_decisions(sorted(table["label"].unique()))
    gone = sorted(set(decisions["image"]) - set(table["image"]))
    before = table[["path", "label", "split"]].copy()
    findings = apply(table, decided(table, decisions))
    judged = judge(table[(table["split"] != "test") & (table["action"] != "delete")], params)
    findings += apply(table, label_errors(judged, params))
    copies = near_duplicates(table, params)
    findings += apply(table, copies)
    findings += apply(table, odd_pictures(judged))
    cleaned = table[table["action"] != "delete"]
    refuse_lost_classes(before, cleaned)
    write_table("data/cleaned.csv", cleaned[["path", "label", "group", "split", "action", "reason"]])
    listed = pd.DataFrame(findings, columns=["path", "action", "new_label", "reason"]).merge(before, on="path")
    columns = ["path", "label", "split", "action", "new_label", "reason"]
    write_table("data/findings.csv", listed[columns].sort_values(["path", "reason"]))
    write_table("data/label_errors.csv", judged)
    write_json(
        "metrics/clean.json",
        {
            "pictures": len(cleaned),
            "deleted": int((table["action"] == "delete").sum()),
            "relabelled": int((table["action"] == "relabel").sum()),
            "by": kinds(finding for finding in findings if finding.action != "flag"),
            "flagged": kinds(finding for finding in findings if finding.action == "flag"),
            "suspected_label_errors": int(judged["suspected"].eq("yes").sum()),
            "label_issues": int(judged["issue"].eq("yes").sum()),
            "odd_ones_out": int(judged["odd"].eq("yes").sum()),
            "near_duplicate_copies": len(copies),
            "decisions": len(decisions),
            "decisions_about_missing_pictures": gone,
        },
    )


def kinds(findings: Iterable[Finding]) -> dict[str, int]:
    """How many findings there are of each kind, which is how their reasons begin."""
    return counts(finding.reason.split(":")[0] for finding in findings)


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


def decided(table: pd.DataFrame, decisions: pd.DataFrame) -> list[Finding]:
    """A person's decisions about the pictures in `table`."""
    rows = table[["path", "image"]].merge(decisions.reindex(columns=["image", "action", "label", "note"]), on="image")
    return [
        Finding(row.path, row.action, row.label, ": ".join(filter(None, ["decision", row.note])))
        for row in rows.fillna("").itertuples()
    ]


def apply(table: pd.DataFrame, findings: list[Finding]) -> list[Finding]:
    """Write findings into `table`, columns action, reason and label; those that were written.

    What the machine finds about a picture that is decided already, by a person or an earlier step, is passed over.
    """
    open_ = set(table.loc[table["action"] == "", "path"])
    findings = [finding for finding in findings if finding.path in open_]
    rows = dict(zip(table["path"], table.index, strict=True))
    for finding in findings:
        if finding.action != "flag":
            table.loc[rows[finding.path], ["action", "reason"]] = [finding.action, finding.reason]
        if finding.action == "relabel":
            table.loc[rows[finding.path], "label"] = finding.label
    return findings


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
    last, maps = describe(model, pictures, config, device)
    target, groups = rows["label"].map(classes.index).to_numpy(), rows["group"].to_numpy()
    probabilities = out_of_fold(maps, target, groups, params.folds, train.seed)
    best = probabilities.argmax(axis=1)
    sure = probabilities[np.arange(len(rows)), best]
    issue = find_label_issues(target, probabilities, filter_by="both", min_examples_per_class=0, n_jobs=1)
    issue |= (best != target) & (sure >= params.threshold)
    distance, odd = odd_ones_out(last, groups, params.odd)
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


def describe(
    model: nn.Module, pictures: Tensor, config: ModelConfig, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """What the head would see, (N, F), and the mean and spread of every channel of the last block's maps, (N, 2 C).

    Both are means over a picture and its mirror image. The maps find more wrong labels than what the head would see:
    the layers after the last block have turned to the thousand classes they once told apart.
    """

    def look(inputs: Tensor) -> Tensor:
        if not hasattr(model, "forward_intermediates"):
            seen = body(model, inputs)
            return torch.cat([seen, seen], dim=1)
        last, (maps,) = model.forward_intermediates(inputs, indices=1)
        spread, mean = torch.std_mean(maps, dim=(2, 3), correction=0)
        return torch.cat([model.forward_head(last, pre_logits=True), mean, spread], dim=1)

    with torch.no_grad():
        both = in_batches(lambda inputs: (look(inputs) + look(inputs.flip(3))) / 2, model, pictures, config, device)
    return tuple(part.double().numpy() for part in both.tensor_split([Head(model).in_features], dim=1))


def out_of_fold(seen: np.ndarray, target: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Probabilities (N, classes) for every picture by linear models that were fitted without it and without its group.

    seen: features (N, F); target: class indexes (N,). Means over several drawings of the folds, because a single one
    judges by luck where pictures are few. Twice: the second time a picture counts as much as the first time believed
    its label, so that wrong labels teach less.
    """
    draws = int(np.clip(MANY // len(target), 1, DRAWS))
    scaled = StandardScaler().fit_transform(seen) / np.sqrt(seen.shape[1])
    left, singular, _ = np.linalg.svd(scaled, full_matrices=False)
    turned = left * singular  # no more columns than pictures; a linear model cannot tell the difference
    weight = np.ones(len(target))
    for _ in range(2):
        probabilities = np.zeros((len(target), target.max() + 1))
        for draw in range(draws):
            splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed + draw)
            for fit, ask in splitter.split(turned, target, groups):
                linear = LogisticRegression(C=20, max_iter=1000).fit(turned[fit], target[fit], weight[fit])
                probabilities[np.ix_(ask, linear.classes_)] += linear.predict_proba(turned[ask]) / draws
        weight = probabilities[np.arange(len(target)), target] / probabilities.max(axis=1)
    return probabilities


def odd_ones_out(
    seen: np.ndarray, groups: np.ndarray, spreads: float, neighbours: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """How far each picture lies from its nearest others, and whether that is far beyond what is usual.

    seen: features (N, F); groups: (N,), near duplicates are no company. Returns the mean cosine distance (N,) to
    `neighbours` others, and (N,) bool: above the median by `spreads` times the median absolute deviation (scaled to
    stand for the standard deviation of a normal distribution).
    """
    _, first = np.unique(groups, return_index=True)
    reference = seen[np.sort(first)]
    nearest = NearestNeighbors(n_neighbors=min(neighbours + 1, len(reference)), metric="cosine").fit(reference)
    with config_context(working_memory=64):  # MB of distances at a time
        distance = nearest.kneighbors(seen)[0][:, 1:].mean(axis=1)
    spread = 1.4826 * np.median(np.abs(distance - np.median(distance)))
    return distance, distance > np.median(distance) + spreads * max(spread, 1e-6)


def label_errors(judged: pd.DataFrame, params: CleanParams) -> list[Finding]:
    """What becomes of the labels that the machine suspects."""
    action = {"flag": "flag", "drop": "delete", "relabel": "relabel"}[params.auto]
    return [
        Finding(
            row.path,
            action,
            "" if action == "delete" else row.suggestion,
            f"label error: looks like {row.suggestion} ({row.probability:.2f})",
        )
        for row in judged[judged["suspected"] == "yes"].itertuples()
    ]


def near_duplicates(table: pd.DataFrame, params: CleanParams) -> list[Finding]:
    """The extra copies of a picture; of those still there, the first by path stays.

    Copies are dropped from the training split alone, where they would count double. Those with another label than
    their original are flagged: one of the two labels is wrong, and which, the hashes cannot say. A `group` of the
    user's own holds pictures that belong together, not copies: they are compared by their hashes too.
    """
    bits = read_json("metrics/split.json")["drawn_with"]["near_duplicates"]
    images = read_table("data/images.csv")
    hashes = {path: int(text, 16) for path, text in zip(images["path"], images["phash"], strict=True)}
    found = []
    left = table[table["action"] != "delete"]
    for _, rows in left[left.duplicated(["group", "split"], keep=False)].groupby(["group", "split"]):
        originals: list = []
        for row in rows.sort_values("path").itertuples():
            of = next((o for o in originals if (hashes[o.path] ^ hashes[row.path]).bit_count() <= bits), None)
            if of is None:
                originals.append(row)
                continue
            dropped = params.near_duplicates == "drop" and row.split == "train" and row.label == of.label
            reason = f"near duplicate: of {of.image}" + (f", a {of.label}" if of.label != row.label else "")
            found.append(Finding(row.path, "delete" if dropped else "flag", "", reason))
    return found


def odd_pictures(judged: pd.DataFrame) -> list[Finding]:
    """The pictures that look like none of the classes: a person's business."""
    usual = judged["distance"].median()
    return [
        Finding(row.path, "flag", "", f"odd one out: {row.distance:.2f} from its nearest, where {usual:.2f} is usual")
        for row in judged[judged["odd"] == "yes"].itertuples()
    ]


def refuse_lost_classes(before: pd.DataFrame, after: pd.DataFrame) -> None:
    kept = set(zip(after["label"], after["split"], strict=True))
    for label, split in sorted(set(zip(before["label"], before["split"], strict=True)) - kept):
        raise StageError(f"cleaning leaves no '{label}' in {split}; set clean.auto: flag, or gather more of it")


if __name__ == "__main__":
    run_stage(main)
