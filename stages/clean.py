"""Apply what a person decided and what the machine finds, without moving a picture between splits.

Reads data/split.csv, data/images.csv, data/properties.csv, data/features.safetensors and
data/decisions.csv. Writes data/cleaned.csv (data/split.csv less the pictures dropped, with new
labels, columns action and reason), data/findings.csv (what is deleted, relabelled, kept or only
flagged, each with its reason; a class that goes with a brightness, a size or a source has a row
without a path), data/label_errors.csv (every judged picture, most suspicious first) and
metrics/clean.json.

A person's decision (image, action keep / delete / relabel, label) always wins. The machine judges
train and valid pictures only. The test split changes by a person's decision alone, so that its
error means the same before and after. The machine takes no class's last picture of a split: that
one is flagged. Odd ones out, faulty pictures and what goes with a label are listed, not touched.
How they are found: label_errors.py, picture_faults.py and correlations.py in pawprint/judging.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field

from pawprint.judging.compression import compress_directions, compress_standardised
from pawprint.judging.correlations import STRONG, Correlation, find_correlations, strongest
from pawprint.judging.label_errors import judge_labels
from pawprint.judging.near_duplicates import find_originals
from pawprint.judging.nearest import INDEXED
from pawprint.judging.picture_faults import list_faults, read_properties
from pawprint.params import Params, StageError, listed, load_params, run_stage
from pawprint.pictures import picture_name
from pawprint.state import DECISIONS, SplitParams, read_decisions
from pawprint.tables import counts, read_table, write_json, write_table
from pawprint.training.features import KINDS, FeatureRows
from pawprint.training.recipe import SeedParams
from pawprint.watch import Watch


class CleanParams(Params):
    """The section `clean` of params.yaml.

    docs/cleaning.md has the study behind the defaults of auto and threshold.
    """

    auto: Literal["flag", "drop", "relabel"]
    near_duplicates: Literal["flag", "drop"]
    folds: int = Field(ge=2, le=20)
    threshold: float = Field(ge=0.5, le=1)
    odd: float = Field(gt=0)


class Finding(NamedTuple):
    """What is done about a picture, and why.

    path: "" if it is about a class; action: keep, delete, relabel, or flag for nothing; label: the
    new one, if any.
    """

    path: str
    action: str
    label: str
    reason: str


def main() -> None:
    params, split = load_params("clean", CleanParams), load_params("split", SplitParams)
    seed = load_params("train", SeedParams).seed
    watch = Watch(DECISIONS)
    images = read_table("data/images.csv")
    hashes = dict(zip(images["path"], images["phash"], strict=True))
    table = read_table("data/split.csv").assign(action="", reason="")
    table["image"] = [picture_name(path) for path in table["path"]]
    before = table[["path", "label", "split"]].copy()
    properties = read_properties(table["path"].tolist())

    # what a person decided comes first, then label errors, copies, odd ones out and faults
    decisions = read_decisions(classes=sorted(table["label"].unique()))
    findings = apply(table, decided(table, decisions))
    rows = table[(table["split"] != "test") & (table["action"] != "delete")]
    last, maps, turned = read_seen(rows["path"].tolist())
    judged = judge_labels(
        rows,
        last,
        maps,
        turned=turned,
        folds=params.folds,
        threshold=params.threshold,
        odd=params.odd,
        seed=seed,
    )
    findings += apply(table, spare_last(table, label_errors(judged, params)))
    copies = near_duplicates(table, hashes, split.near_duplicates, params)
    findings += apply(table, copies)
    findings += apply(table, odd_pictures(judged))
    findings += apply(table, faulty_pictures(properties))

    cleaned = table[table["action"] != "delete"]
    refuse_nothing_left(cleaned)
    say_lost_classes(before, cleaned)
    seen = cleaned[cleaned["split"] != "test"]
    correlations = find_correlations(seen.join(properties, on="path"))
    findings += shortcuts(correlations)
    write_table(
        "data/cleaned.csv", cleaned[["path", "label", "group", "split", "action", "reason"]]
    )
    write_table("data/findings.csv", list_findings(findings, before))
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
            "label_correlations": strengths(correlations),
            "decisions": len(decisions),
            "decisions_about_missing_pictures": sorted(set(decisions) - set(table["image"])),
        },
    )
    watch.refuse_changes()


def read_seen(paths: list[str], most: int = INDEXED) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return what the head and the last block see of the pictures, (N, F) and (N, C).

    Of more than `most` pictures both are cut to their main directions, which is said by a True.
    """
    stored = FeatureRows(paths)

    def last() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for where, rows in stored.blocks(*KINDS[:2]):
            plain, mirrored = (rows[kind] for kind in KINDS[:2])
            yield where, (plain.astype(np.float64) + mirrored) / 2

    def maps() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for where, rows in stored.blocks(KINDS[2]):
            yield where, rows[KINDS[2]].astype(np.float64)

    if len(paths) > most:
        directions = compress_directions(last, len(paths))
        return directions, compress_standardised(maps, len(paths)), True
    return put_together(last(), len(paths)), put_together(maps(), len(paths)), False


def put_together(blocks: Iterable[tuple[np.ndarray, np.ndarray]], count: int) -> np.ndarray:
    """Return the rows of all blocks, (count, F), each in its place."""
    whole = np.empty((0, 0))
    for where, rows in blocks:
        if not whole.size:
            whole = np.empty((count, rows.shape[1]))
        whole[where] = rows
    return whole


def kinds(findings: Iterable[Finding]) -> dict[str, int]:
    """Return how many findings there are of each kind, which is how their reasons begin."""
    return counts(finding.reason.split(":")[0] for finding in findings)


def decided(table: pd.DataFrame, decisions: dict[str, dict[str, str]]) -> list[Finding]:
    """Return a person's decisions about the pictures in `table`, columns path and image."""
    findings = []
    for row in table.itertuples():
        decision = decisions.get(row.image)
        if decision:
            reason = ": ".join(filter(None, ["decision", decision["note"]]))
            findings.append(Finding(row.path, decision["action"], decision["label"], reason))
    return findings


def apply(table: pd.DataFrame, findings: list[Finding]) -> list[Finding]:
    """Write findings into `table`, columns action, reason and label; return those written.

    A finding about a picture that is decided already, by a person or an earlier step, is ignored.
    """
    open_ = set(table.loc[table["action"] == "", "path"])
    findings = [finding for finding in findings if finding.path in open_]
    written = {each.path: each for each in findings if each.action != "flag"}
    columns = {name: table[name].tolist() for name in ("action", "reason", "label")}
    for i, path in enumerate(table["path"]):
        if path in written:
            finding = written[path]
            columns["action"][i], columns["reason"][i] = finding.action, finding.reason
            if finding.action == "relabel":
                columns["label"][i] = finding.label
    for name, values in columns.items():
        table[name] = values
    return findings


def label_errors(judged: pd.DataFrame, params: CleanParams) -> list[Finding]:
    """Return what is done about the labels that the machine suspects."""
    action = {"flag": "flag", "drop": "delete", "relabel": "relabel"}[params.auto]
    findings = []
    for row in judged[judged["suspected"] == "yes"].itertuples():
        label = "" if action == "delete" else row.suggestion
        reason = f"label error: looks like {row.suggestion} ({row.probability:.2f})"
        findings.append(Finding(row.path, action, label, reason))
    return findings


def spare_last(table: pd.DataFrame, findings: list[Finding]) -> list[Finding]:
    """Return findings in which none takes the last picture of a class in a split: it is flagged.

    table: columns path, label, split and action, with what a person decided.
    """
    stay = table[table["action"] != "delete"]
    left = Counter(zip(stay["label"], stay["split"], strict=True))
    undecided = {
        row.path: (row.label, row.split) for row in stay[stay["action"] == ""].itertuples()
    }
    spared = []
    for finding in findings:
        if finding.action != "flag" and finding.path in undecided:
            cell = undecided[finding.path]
            left[cell] -= 1
            if not left[cell]:
                left[cell] = 1
                reason = f"{finding.reason}; the last {cell[0]} in {cell[1]}"
                finding = finding._replace(action="flag", label="", reason=reason)
        spared.append(finding)
    return spared


def near_duplicates(
    table: pd.DataFrame, hashes: dict[str, str], distance: int, params: CleanParams
) -> list[Finding]:
    """Return the extra copies of a picture. Of those still there, the first by path stays.

    hashes: path -> perceptual hash; distance: bits in which copies may differ.
    Copies are dropped from the training split alone, where they would count double. Those with
    another label than their original are flagged: one of the two labels is wrong, and the hashes
    cannot say which. A `group` of the user's own holds pictures that belong together, not copies:
    they are compared by their hashes too.
    """
    left = table[table["action"] != "delete"]
    repeated = left[left.duplicated(["group", "split"], keep=False)]
    rows = list(repeated.sort_values(["group", "split", "path"]).itertuples())
    sets = [f"{row.split} {row.group}" for row in rows]
    originals = find_originals([hashes[row.path] for row in rows], sets, distance)
    found = []
    for i, row in enumerate(rows):
        of = rows[originals[i]]
        if of is row:
            continue
        same_label = row.label == of.label
        dropped = params.near_duplicates == "drop" and row.split == "train" and same_label
        reason = f"near duplicate: of {of.image}"
        reason += "" if same_label else f", a {of.label}"
        found.append(Finding(row.path, "delete" if dropped else "flag", "", reason))
    return found


def odd_pictures(judged: pd.DataFrame) -> list[Finding]:
    """Return the pictures that look like none of the classes. They are flagged for a person."""
    usual = judged["distance"].median()
    findings = []
    for row in judged[judged["odd"] == "yes"].itertuples():
        reason = f"odd one out: {row.distance:.2f} from its nearest, where {usual:.2f} is usual"
        findings.append(Finding(row.path, "flag", "", reason))
    return findings


def faulty_pictures(properties: pd.DataFrame) -> list[Finding]:
    """Return the faults of the pictures themselves. They are flagged for a person."""
    return [
        Finding(each.path, "flag", "", f"{each.kind}: {each.detail}")
        for each in list_faults(properties)
    ]


def shortcuts(correlations: list[Correlation]) -> list[Finding]:
    """Return the classes that a model may tell by something other than the subject."""
    return [
        Finding("", "flag", each.label, f"correlation with {each.trait}: {each.sentence()}")
        for each in correlations
        if each.strength >= STRONG
    ]


def strengths(correlations: list[Correlation]) -> dict[str, dict[str, object]]:
    """Return the strongest correlation of each trait: its label and strength."""
    first = strongest(correlations)
    return {each.trait: {"label": each.label, "strength": each.strength} for each in first}


def list_findings(findings: list[Finding], before: pd.DataFrame) -> pd.DataFrame:
    """Return data/findings.csv, those about classes first.

    before: columns path, label, split, as they were before cleaning. A finding about a class has
    its label in the column label, and neither path nor split.
    """
    listed = pd.DataFrame(findings, columns=["path", "action", "new_label", "reason"])
    listed = listed.merge(before, on="path", how="left").fillna("")
    about_class = listed["path"] == ""
    listed.loc[about_class, "label"] = listed.loc[about_class, "new_label"]
    listed.loc[about_class, "new_label"] = ""
    columns = ["path", "label", "split", "action", "new_label", "reason"]
    return listed[columns].sort_values(["path", "reason"])


def refuse_nothing_left(cleaned: pd.DataFrame) -> None:
    """Raise StageError if fewer than two classes train, or no picture validates or is tested."""
    classes = cleaned.loc[cleaned["split"] == "train", "label"].nunique()
    if classes < 2:
        raise StageError(f"cleaning leaves {classes} class(es) in train; see {DECISIONS}")
    for split in ("valid", "test"):
        if split not in set(cleaned["split"]):
            raise StageError(f"cleaning leaves no picture in {split}; see {DECISIONS}")


def say_lost_classes(before: pd.DataFrame, after: pd.DataFrame) -> None:
    """Say on stderr from which splits a person's decisions took the last picture of a class."""
    had = set(zip(before["label"], before["split"], strict=True))
    kept = set(zip(after["label"], after["split"], strict=True))
    lost = [f"{label} ({split})" for label, split in sorted(had - kept)]
    if lost:
        print(
            f"clean: decisions take the last picture of {len(lost)} class(es): {listed(lost)}; "
            "a class that does not train is not recognised by the retrained model",
            file=sys.stderr,
        )


if __name__ == "__main__":
    run_stage(main)
