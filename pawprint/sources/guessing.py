"""How the pictures of a folder or an archive are labelled, when nobody has said it.

Every guess is tried by `label_files`, the code that gather runs, so that what is said of it is what
gather does.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pawprint.params import StageError, check
from pawprint.sources.file_finder import FileFinder
from pawprint.sources.labels import LabelledFile, LabelOptions, label_files
from pawprint.sources.names import is_hidden
from pawprint.sources.splits import split_of
from pawprint.sources.user_tables import FILE_NAMES, LABEL_NAMES, parse_user_table

# Labels in names: great_pyrenees_12.jpg, cat.1.jpg, cat (3).jpg, cat_IMG-7.jpg, 12_cat.jpg.
PATTERNS = (
    r"^(.+)[_.-]\d+\.",
    r"^(.+?)[ _.-]*\(?\d+\)?\.",
    r"^([^\W\d_]+)[_. -]",
    r"^\d+[ _.-]+(.+)\.",
)
MOST_TABLES = 20  # of different names; a folder with more holds something else


@dataclass
class Trial:
    """What gather makes of files with some lines in the yaml.

    values: the lines. labelled: the files with a label. error: the line that gather ends with, or
    "". how: how they were found.
    """

    values: dict[str, Any]
    how: str
    labelled: list[LabelledFile] = field(default_factory=list)
    error: str = ""

    @property
    def found(self) -> dict[str, str]:
        """The labels of the files that are there."""
        return {row.file: row.label for row in self.labelled if not row.missing}

    @property
    def works(self) -> bool:
        """Whether there are two classes at least."""
        return len(set(self.found.values())) > 1


class Guesser:
    """Guesses the lines of a source's yaml.

    files: below the source's folder, with slashes. read: returns the content of one of them. given:
    lines that the user has given, which stand. where: how messages name the source.
    """

    def __init__(
        self, files: list[str], read: Callable[[str], bytes], given: dict[str, Any], where: str
    ) -> None:
        self.files, self.read, self.given, self.where = sorted(files), read, given, where

    def guess(self) -> Trial:
        """Return the best trial. Raises StageError if none gives two classes."""
        if self.given.keys() & {"labels", "pattern", "table"}:
            named = next((key for key in ("table", "pattern") if key in self.given), "parent")
            chosen = self.try_values({"labels": self.given.get("labels", named)}, "as you say")
            if chosen.error:
                raise StageError(chosen.error)
            return chosen
        by_folder = self.try_values({"labels": "parent"}, "the folder that holds a picture")
        by_table = self._best_table()
        if by_folder.works and not (by_table.works and self._is_better(by_table, by_folder)):
            return by_folder
        if by_table.works:
            return by_table
        by_name = self._best_pattern()
        if by_name.works:
            return by_name
        problem = by_table.error or by_folder.error
        if not problem:
            classes = ", ".join(sorted(set(by_folder.found.values()))) or "no pictures"
            problem = f"{self.where} holds one class at most ({classes}); a classifier needs two"
        raise StageError(problem)

    def try_values(self, values: dict[str, Any], how: str) -> Trial:
        """Return what gather makes of the files with these lines and those that are given."""
        trial = Trial({**values, **self.given}, how)
        logging.disable(logging.CRITICAL)  # what a trial has to say is said again if it is chosen
        try:
            options = check(trial.values, LabelOptions, "", Path("the options"))
            trial.labelled = label_files(self.files, options, self.read, self.where)
        except StageError as error:
            trial.error = str(error)
        finally:
            logging.disable(logging.NOTSET)
        return trial

    def _is_better(self, by_table: Trial, by_folder: Trial) -> bool:
        """Return whether a table knows nearly all pictures, and other classes than the folders."""
        folders, table = by_folder.found, by_table.found
        if len(table) < 0.9 * len(folders):
            return False
        pairs = {(folders[file], label) for file, label in table.items() if file in folders}
        return len(pairs) != len({one for one, _ in pairs}) or len(pairs) != len(
            {two for _, two in pairs}
        )

    def _best_table(self) -> Trial:
        """Return the trial of the table that labels most pictures."""
        tables = [
            f for f in self.files if re.search(r"\.(csv|tsv)$", f.lower()) and not is_hidden(f)
        ]
        names = [name for name in tables if "/" not in name]
        below = [PurePosixPath(name).name for name in tables if "/" in name]
        names += [name for name in dict.fromkeys(below) if below.count(name) > 1]
        names += [n for n in tables if "/" in n and below.count(PurePosixPath(n).name) == 1]
        trials = [self.try_table(name) for name in names[:MOST_TABLES]]
        by_split = {split_of(PurePosixPath(t.values["table"]).stem): t for t in trials if t.found}
        if len(by_split.keys() - {""}) > 1:
            several = [trial.values["table"] for split, trial in sorted(by_split.items()) if split]
            how = f"the tables {', '.join(several)}, one per split"
            trials.append(self.try_values({"labels": "table", "table": several}, how))
        none = Trial({}, "")
        best = max(trials, key=lambda trial: (trial.works, len(trial.found)), default=none)
        if best.found or not best.error:
            return best
        # a table that names files which are here says what to write; others are about other things
        return next((trial for trial in trials if "file_column" not in trial.error), none)

    def try_table(self, name: str) -> Trial:
        """Return the trial of a table, or of all tables of a name; its columns may be guessed."""
        trial = self.try_values({"labels": "table", "table": name}, f"the table {name}")
        if not trial.error:
            return trial
        columns = self._guess_columns(name)
        if not columns:
            return trial
        said = " and ".join(f"{key.replace('_', ' ')} {value}" for key, value in columns.items())
        guessed = self.try_values(
            {"labels": "table", "table": name, **columns},
            f"the table {name}, {said} (a guess; to overrule: --file-column, --label-column)",
        )
        return trial if guessed.error else guessed

    def _guess_columns(self, name: str) -> dict[str, str]:
        """Return the columns of a table that no known name tells, if only one can be meant."""
        file = next((f for f in self.files if f == name or PurePosixPath(f).name == name), name)
        try:
            table = parse_user_table(self.read(file), file)
        except StageError:
            return {}
        finder, folder = FileFinder(self.files, split_of), PurePosixPath(file).parent
        fits = [c for c in table.columns if finder.finds_any(table.cells(c)[:1000], folder)]
        known = [name for name in table.find_all(FILE_NAMES) if name in fits]
        found: dict[str, str] = {}
        if not known:
            if len(fits) != 1:
                return {}
            found["file_column"] = fits[0]
        others = [c for c in table.columns if c not in fits and not split_of(c)]
        kinds = {column: len(set(table.cells(column))) for column in others}
        likely = [c for c, kind in kinds.items() if 2 <= kind <= max(2, len(table.rows) // 2)]
        if not table.find(LABEL_NAMES):
            if len(likely) != 1:
                return {}
            found["label_column"] = likely[0]
        return found

    def _best_pattern(self) -> Trial:
        """Return the trial of the first pattern that gives classes of more than one picture."""
        for pattern in PATTERNS:
            trial = self.try_values(
                {"labels": "pattern", "pattern": pattern},
                f"the names of the files by {pattern} (a guess; to overrule: --pattern)",
            )
            if trial.works and len(trial.found) >= 2 * len(set(trial.found.values())):
                return trial
        return Trial({}, "")
