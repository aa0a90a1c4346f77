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

from pawprint.params import StageError, check, listed
from pawprint.pictures.formats import looks_like_picture
from pawprint.sources.file_finder import FileFinder, folded
from pawprint.sources.labels import LabelledFile, LabelOptions, label_files
from pawprint.sources.names import is_hidden
from pawprint.sources.splits import split_of
from pawprint.sources.table_labels import columns_of, find_tables, is_yes_or_no
from pawprint.sources.user_tables import FILE_NAMES, LABEL_NAMES, parse_user_table

# Labels in names: great_pyrenees_12.jpg, cat.1.jpg, cat (3).jpg, cat_IMG-7.jpg, 12_cat.jpg.
PATTERNS = (
    r"^(.+)[_.-]\d+\.",
    r"^(.+?)[ _.-]*\(?\d+\)?\.",
    r"^([^\W\d_]+)[_. -]",
    r"^\d+[ _.-]+(.+)\.",
)
# What cameras and phones call their pictures, which is no class.
CAMERAS = re.compile(
    "img|images?|photo|pic(ture)?|dsc[nf]?|dcim|pxl|mvimg|gopr|sam|p|scan|frame|screenshot|snapchat"
    "|signal|whatsapp|wa|fb|untitled|file|page",
    re.IGNORECASE,
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
        wanted = self.given.get("labels", "")
        table, pattern = self.given.get("table"), self.given.get("pattern")
        if isinstance(table, str):
            return _settled(self.try_table(table))
        if table or pattern:
            how = f"the tables {', '.join(table)}" if table else f"the names by {pattern}"
            return _settled(self.try_values({"labels": "table" if table else "pattern"}, how))
        # what nobody has ruled out, the likeliest first
        none = Trial({}, "")
        by_folder = by_table = by_name = none
        if wanted in ("", "parent"):
            how = "the folder that holds a picture"
            by_folder = self.try_values({"labels": "parent"}, how)
        if wanted in ("", "table"):
            by_table = self._best_table()
        if by_folder.works:
            return self._choose(by_folder, by_table)
        if by_table.works:
            return by_table
        if wanted in ("", "pattern"):
            by_name = self._best_pattern()
        if by_name.works:
            return by_name
        in_folders = any("/" in file for file in self.files if looks_like_picture(file))
        no_folder = by_folder.error if in_folders else ""
        raise StageError(by_table.error or no_folder or self._nothing(by_folder))

    def _nothing(self, by_folder: Trial) -> str:
        """Return what is wrong if no file is misplaced and nothing gives two classes."""
        classes = ", ".join(sorted(set(by_folder.found.values())))
        if classes:
            return (
                f"{self.where} holds one class ({classes}); a classifier needs two at least; "
                "folders with the name of a split are no class, unless you write --splits none"
            )
        if not any(map(looks_like_picture, self.files)):
            return f"{self.where} holds no file that is a picture by its name"
        tables = [file for file in self.files if _is_table(file)]
        unused = f" ({listed(tables, 3)} names none of them)" if tables else ""
        return (
            f"{self.where}: nothing says what is on its pictures{unused}; put them into a folder "
            "for each class, or name a table by --table, or a regular expression by --pattern"
        )

    def _choose(self, by_folder: Trial, by_table: Trial) -> Trial:
        """Return one of two trials that work: the table, if it knows nearly all pictures better."""
        folders, table = by_folder.found, by_table.found
        pairs = {(folders[file], label) for file, label in table.items() if file in folders}
        same = len(pairs) == len({one for one, _ in pairs}) == len({two for _, two in pairs})
        tells_less = all(two.isdigit() or folded(one) == folded(two) for one, two in pairs)
        if not by_table.works or (same and tells_less):
            return by_folder
        chosen, other = by_folder, by_table
        flag = f"--table {by_table.values['table']}"
        if len(table) >= 0.9 * len(folders):
            chosen, other, flag = by_table, by_folder, "--labels parent"
        classes = len(set(other.found.values()))
        chosen.how += f" (a guess; {other.how} would give {classes} classes: {flag})"
        return chosen

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

    def _best_table(self) -> Trial:
        """Return the trial of the table that labels most pictures."""
        tables = [file for file in self.files if _is_table(file)]
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
        best = max(trials, key=_worth, default=none)
        if best.found or not best.error:
            return best
        # a table that names files which are here says what to write; others are about other things
        return next((trial for trial in trials if "file_column" not in trial.error), none)

    def try_table(self, name: str) -> Trial:
        """Return the trial of a table, or of all tables of a name; its columns may be guessed."""
        values = {"labels": "table", "table": name}
        trial = self.try_values(values, "")
        columns = self._guess_columns(name) if trial.error else {}
        guessed = self.try_values({**values, **columns}, "") if columns else trial
        if guessed.error:
            return guessed
        options = check(guessed.values, LabelOptions, "", Path("the options"))
        first = find_tables(self.files, options)[0]
        table = parse_user_table(self.read(first), first)
        finder = FileFinder(self.files, options.meaning_of)
        found = columns_of(table, PurePosixPath(first).parent, finder, options)
        label = (
            f"column {found.label}" if found.label else f"{len(found.classes)} columns of 0 and 1"
        )
        sure = "a guess; " if columns else ""
        guessed.how = (
            f"the table {name}: {label}, for the file in column {found.file} ({sure}to overrule: "
            "--label-column, --file-column)"
        )
        return guessed

    def _guess_columns(self, name: str) -> dict[str, str]:
        """Return the columns of a table that no known name tells, those that are clear."""
        file = next((f for f in self.files if f == name or PurePosixPath(f).name == name), name)
        try:
            table = parse_user_table(self.read(file), file)
        except StageError:
            return {}
        finder, folder = FileFinder(self.files, split_of), PurePosixPath(file).parent
        if finder.finds_any(table.columns, folder):  # the header is missing, or says nothing
            return {}
        fits = [c for c in table.columns if finder.finds_any(table.cells(c)[:1000], folder)]
        kinds = {column: len(set(table.cells(column))) for column in table.columns}
        files = [name for name in table.find_all(FILE_NAMES) if name in fits][:1]
        found: dict[str, str] = {}
        if not files:
            files = [column for column in fits if kinds[column] > len(table.rows) / 2]
            if len(files) != 1:
                return {}
            found["file_column"] = files[0]
        others = [c for c in table.columns if c not in files and not split_of(c)]
        labels = [c for c in others if 2 <= kinds[c] <= max(2, len(table.rows) // 2)]
        flags = [c for c in others if is_yes_or_no(table.cells(c))]
        if not table.find(LABEL_NAMES) and len(labels) == 1 and len(flags) < 2:
            found["label_column"] = labels[0]
        return found

    def _best_pattern(self) -> Trial:
        """Return the trial of the first pattern that gives classes of more than one picture."""
        for pattern in PATTERNS:
            trial = self.try_values(
                {"labels": "pattern", "pattern": pattern},
                f"the names of the files by {pattern} (a guess; to overrule: --pattern)",
            )
            labels = set(trial.found.values())
            no_class = any(CAMERAS.fullmatch(label) or split_of(label) for label in labels)
            if trial.works and len(trial.found) >= 2 * len(labels) and not no_class:
                return trial
        return Trial({}, "")


def _is_table(file: str) -> bool:
    """Return whether a file is a table by its name."""
    return bool(re.search(r"\.(csv|tsv)$", file.lower())) and not is_hidden(file)


def _worth(trial: Trial) -> tuple[bool, int, bool]:
    """Return what trials of tables are compared by; of two that know as much, splits decide."""
    return trial.works, len(trial.found), isinstance(trial.values.get("table"), list)


def _settled(trial: Trial) -> Trial:
    """Return a trial that the user has asked for. Raises StageError with what gather would say."""
    if trial.error:
        raise StageError(trial.error)
    return trial
