"""What `dvc repro` would run again after a decision: read from dvc.yaml, without asking DVC."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pawprint.commands.review.catalogue import version_text
from pawprint.params import StageError, load_yaml

OUTS = ("outs", "metrics", "plots")


def stages_after(changed: str, pipeline: dict[str, Any], params: dict[str, Any]) -> list[str]:
    """Return the stages that depend on a file, directly or by what others write, in their order.

    pipeline: the content of dvc.yaml; params: that of params.yaml, for the names in `${…}`.
    """
    stages = {name: stage.get("do", stage) for name, stage in pipeline["stages"].items()}
    files, found = {changed}, set[str]()
    while True:
        new = {
            name
            for name, stage in stages.items()
            if name not in found and touches(paths_of(stage, ["deps"], params), files)
        }
        if not new:
            return [name for name in stages if name in found]
        found |= new
        for name in new:
            files |= set(paths_of(stages[name], OUTS, params))


def paths_of(stage: dict[str, Any], kinds: Sequence[str], params: dict[str, Any]) -> set[str]:
    """Return the paths in some lists of a stage, with the values of params put in."""
    found = set()
    for kind in kinds:
        for item in stage.get(kind) or []:
            path = next(iter(item)) if isinstance(item, dict) else item
            found.add(re.sub(r"\$\{([^}]+)\}", lambda match: value_of(params, match[1]), path))
    return found


def value_of(params: dict[str, Any], key: str) -> str:
    """Return the value that a dotted key has in params.yaml; "" if it is not there."""
    value: Any = params
    for word in key.strip().split("."):
        value = value.get(word, "") if isinstance(value, dict) else ""
    return str(value)


def touches(paths: set[str], files: set[str]) -> bool:
    """Return whether one of `paths` is one of `files`, or lies in it, or holds it."""
    wide = {str(parent) for file in files for parent in (PurePosixPath(file), *parents(file))}
    return any(path in wide or not files.isdisjoint(map(str, parents(path))) for path in paths)


def parents(path: str) -> list[PurePosixPath]:
    """Return the folders above a path, without that of the project."""
    return list(PurePosixPath(path).parents)[:-1]


def hashes_in_lock(path: str, lock: str) -> list[str]:
    """Return the md5 of a file that each stage in the text of dvc.lock has run with.

    The file is long, and a YAML parser would take a second.
    """
    entry = rf"^ +- path: {re.escape(path)}\n(?: +(?!- )[^\n]*\n)*? +md5: (\w+)$"
    return re.findall(entry, lock, re.MULTILINE)


class Rerun:
    """What would run again, of one project; dvc.yaml is read again only when it changes."""

    def __init__(self, root: Path, path: str = "data/decisions.csv") -> None:
        self.root, self.path = root, path
        self.version, self.known = "", list[str]()

    def stages(self) -> list[str]:
        """Return the stages that depend on the decisions; none if dvc.yaml cannot be read."""
        files = [self.root / "dvc.yaml", self.root / "params.yaml"]
        version = version_text(files)
        if version != self.version:
            try:
                pipeline, params = map(load_yaml, files)
                self.known = stages_after(self.path, pipeline, params)
            except (StageError, KeyError, TypeError, AttributeError):
                self.known = []
            self.version = version
        return self.known

    def is_done(self) -> bool:
        """Return whether the last run had the decisions as they are."""
        try:
            content = (self.root / self.path).read_bytes()
            noted = hashes_in_lock(self.path, (self.root / "dvc.lock").read_text("utf-8"))
        except (OSError, ValueError):
            return False
        now = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return bool(noted) and set(noted) == {now}
