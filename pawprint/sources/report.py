"""What a gathering got: metrics/gather.json, and what to say if it is too little."""

import logging
import sys
from collections.abc import Sequence
from typing import Any

from pawprint.params import listed
from pawprint.sources import PARTIAL
from pawprint.sources.licences import NOT_STATED, WITHHELD
from pawprint.sources.lock import LOCK, Row, write_lock
from pawprint.sources.names import A_VIDEO
from pawprint.tables import counts, write_json

REPORT = PARTIAL / "gathered.csv"  # as data/gathered.csv, of a run that failed


def write_report(rows: Sequence[Row]) -> None:
    """Write metrics/gather.json, and all rows to data/gather.partial/gathered.csv.

    The latter is there if the stage then fails, and leaves the lock as it was.
    """
    write_json("metrics/gather.json", count_rows(rows))
    write_lock(rows, REPORT)


def count_rows(rows: Sequence[Row]) -> dict[str, Any]:
    """Return metrics/gather.json: counts, and the addresses of pictures that are lost.

    not_pictures: why files are not pictures, with counts; absent if there are none. licences: of
    the pictures; absent if the source states none.
    """
    good = [row for row in rows if row.status == "ok"]
    lost = {
        status: list(dict.fromkeys(row.url for row in rows if row.sha256 and row.status == status))
        for status in ("gone", "changed", "failed", "refused")
    }
    licences = counts(row.licence or NOT_STATED for row in good)
    other = counts(row.reason for row in rows if row.status == "not a picture")
    return {
        "pictures": len(good),
        "status": counts(row.status for row in rows),
        "labels": counts(row.label for row in good),
        "queries": counts(row.query for row in good if row.query),
        **({"licences": licences} if licences.keys() - {NOT_STATED} else {}),
        **({"not_pictures": other} if other else {}),
        "incomplete": [row.reason for row in rows if row.status == "incomplete"],
        **lost,
    }


def say_videos(rows: Sequence[Row]) -> None:
    """Name on stderr the videos among the files, such as the moving half of live photos."""
    videos = [row.url for row in rows if row.reason == A_VIDEO]
    if videos:
        plural = "video is" if len(videos) == 1 else "videos are"
        print(f"gather: {len(videos)} {plural} left out: {listed(videos, 3)}", file=sys.stderr)


def say_withheld(rows: Sequence[Row]) -> None:
    """Count on stderr, by licence, the pictures that `gather.licences` leaves out."""
    numbers = counts(row.licence or NOT_STATED for row in rows if row.status == WITHHELD)
    if numbers:
        by_licence = [f"{name} {number}" for name, number in numbers.items()]
        print(
            f"gather: gather.licences leaves out {sum(numbers.values())} pictures: "
            f"{listed(by_licence, 10)}",
            file=sys.stderr,
        )


def without_empty_classes(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of the classes that have a picture; name the others on stderr."""
    have = {row.label for row in rows if row.status == "ok"}
    empty = sorted({row.label for row in rows} - have)
    if empty:
        logging.warning("%d classes have no picture, so left out: %s", len(empty), listed(empty))
    return [row for row in rows if row.label in have]


def say_too_few(rows: Sequence[Row], minimum: int, is_remote: bool) -> str:
    """Return what is wrong if a class has too few pictures, or there is only one class; or "".

    minimum: `gather.min_per_class`. is_remote: whether each picture comes over the network.
    """
    have = counts(row.label for row in rows if row.status == "ok")
    labels = sorted({row.label for row in rows})
    if len(labels) < 2:
        return (
            f"the source holds {len(labels)} class ({', '.join(labels)}); a classifier needs at "
            "least two"
        )
    few = {label: have.get(label, 0) for label in labels if have.get(label, 0) < minimum}
    if not few:
        return ""
    lost = [row for row in rows if row.label in few and row.status != "ok"]
    numbers = listed([f"{number} {label}" for label, number in few.items()], most=10)
    said = f"gather.min_per_class is {minimum}, but there are {numbers}"
    if lost:
        files = listed([f"{row.url} ({row.status}: {row.reason})" for row in lost])
        said += f"; missing of them: {files}; {REPORT} lists all"
    return f"{said}; {_advise(lost, minimum, is_remote)}"


def _advise(lost: Sequence[Row], minimum: int, is_remote: bool) -> str:
    """Return what can be done about pictures that are missing."""
    withheld = [row for row in lost if row.status == WITHHELD]
    others = [row for row in lost if row.status != WITHHELD]
    advice = []
    if withheld:
        advice.append("name further licences in gather.licences")
        if not any(row.licence for row in withheld):
            advice.append(f"delete {LOCK} to ask the source again, if it states licences")
    if is_remote and (others or not withheld):
        advice.append("run again if the network was down")
    elif others:
        advice.append("repair these files, or leave them out by `include` in the source's yaml")
        advice.append("set gather.min_per_class: 0 to leave out classes without a picture")
    elif not withheld:
        advice.append("add pictures")
    if any(row.sha256 for row in others):
        advice += ["restore data/raw with `dvc pull`", f"delete {LOCK} to search again"]
    if minimum > 1:
        advice.append("lower gather.min_per_class")
    return ", or ".join(advice)
