"""Labels by tables: which columns a table has, what its rows say, and which files they mean."""

import logging
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from pawprint.params import StageError, listed
from pawprint.pictures.formats import looks_like_picture
from pawprint.sources.file_finder import ABSENT, FileFinder, relative_names
from pawprint.sources.label_options import LabelledFile, LabelOptions
from pawprint.sources.names import check_label
from pawprint.sources.splits import TRUTH, split_of
from pawprint.sources.user_tables import (
    FILE_NAMES,
    LABEL_NAMES,
    UserTable,
    no_label,
    parse_user_table,
    pick_split,
    read_splits,
)


@dataclass(frozen=True)
class TableColumns:
    """The columns of a table that say which file, which label and which group.

    classes: columns of 0 and 1, one per class, if there is no column of labels.
    """

    file: str
    label: str
    group: str
    classes: tuple[str, ...] = ()


def label_by_tables(
    files: list[str], options: LabelOptions, read_table: Callable[[str], bytes], where: str
) -> list[LabelledFile]:
    """Return the rows of the tables that `include` matches, in their order.

    files: paths relative to the source's folder. A row whose file is not there says so in
    `missing`; one of the test split may have no label. Raises StageError that names the line.
    """
    names = find_tables(files, options)
    finder = FileFinder(files, options.meaning_of)
    labelled: list[LabelledFile] = []
    for name in names:
        table = parse_user_table(read_table(name), f"{where}: {name}")
        labelled += _read_rows(table, PurePosixPath(name), len(names) > 1, finder, options)
    once = _without_repeats(labelled, f"{where}: {listed(names)}")
    return [row for row in once if re.search(options.include, row.file)]


def _without_repeats(labelled: list[LabelledFile], where: str) -> list[LabelledFile]:
    """Return the rows, each picture once per label, and say on stderr how many repeat others.

    Tables of boxes have a row per thing on a picture. Raises StageError for a picture that has two
    splits or groups.
    """
    first: dict[tuple[str, str], LabelledFile] = {}
    for row in labelled:
        known = first.setdefault((row.file, row.label), row)
        if (known.split, known.group) != (row.split, row.group):
            raise StageError(
                f"{where} names {row.file!r} twice as {row.label!r}, with another split or group; "
                "keep one of the two rows"
            )
    repeats = len(labelled) - len(first)
    if repeats:
        counts = Counter((row.file, row.label) for row in labelled)
        examples = listed([file for (file, _), number in counts.items() if number > 1], 3)
        logging.warning(
            "%s: rows that repeat others, left out: %d, such as %s", where, repeats, examples
        )
    return list(first.values())


def find_tables(files: list[str], options: LabelOptions) -> list[str]:
    """Return the paths of the tables that the yaml names.

    A name alone that is not in the source's folder stands for every table of that name below it:
    Roboflow writes train/_classes.csv, valid/_classes.csv and test/_classes.csv.
    """
    found: list[str] = []
    for name in [options.table] if isinstance(options.table, str) else options.table:
        below = [file for file in files if PurePosixPath(file).name == name and name not in files]
        found += below or [name]
    return found


def columns_of(
    table: UserTable, folder: PurePosixPath, finder: FileFinder, options: LabelOptions
) -> TableColumns:
    """Return which columns a table has. Raises StageError that says what to write if one lacks."""
    if not table.columns:
        raise StageError(f"{table.where} is empty; write `file,label` as line 1")
    has = f"{table.where} has the columns {', '.join(table.columns)}"
    known = table.find_all(FILE_NAMES, options.file_column, "file_column")
    if not known and finder.finds_any(table.columns, folder):
        raise StageError(
            f"{has}, of which one is a file: is the header missing? Write `file,label` as line 1"
        )
    group = table.find(("group", "groups"), options.group_column, "group_column")
    fits = (name for name in known if finder.finds_any(table.cells(name)[:1000], folder))
    file = next(fits, known[0] if known else "")
    if not file:
        looks = [name for name in table.columns if any(map(looks_like_picture, table.cells(name)))]
        named = (looks or table.columns or ["NAME"])[0]
        raise StageError(
            f"{has}; which one holds the files? Write `file_column: {named}` into the source's "
            "yaml, or the name of another"
        )
    label = table.find(LABEL_NAMES, options.label_column, "label_column")
    if label:
        return TableColumns(file, label, group)
    others = [name for name in table.columns if name not in (file, group)]
    classes = tuple(name for name in others if is_yes_or_no(table.cells(name)))
    if len(classes) < 2:
        named = (others or ["NAME"])[-1]
        raise StageError(
            f"{has}; which one holds the labels? Write `label_column: {named}` into the source's "
            "yaml, or the name of another"
        )
    return TableColumns(file, "", group, classes)


def is_yes_or_no(cells: list[str]) -> bool:
    """Return whether a column says only whether the picture is of one class."""
    return bool(cells) and all(TRUTH.get(cell.lower()) is not None for cell in cells)


def _read_rows(
    table: UserTable,
    path: PurePosixPath,
    is_one_of_several: bool,
    finder: FileFinder,
    options: LabelOptions,
) -> list[LabelledFile]:
    """Return the rows of a table.

    path: of the table, below the source's folder. is_one_of_several: then its name may be a split.
    """
    folder, of_table = path.parent, split_of(path.stem)
    columns = columns_of(table, folder, finder, options)
    splits = read_splits(table, options.split_column, options.given_splits)
    credits = options.credit_columns(table, (columns.file, columns.label, *columns.classes))
    names = relative_names(table, columns.file, folder)
    labelled, missing = [], []
    for (line, cells), split, name in zip(table.rows, splits, names, strict=True):
        word = pick_split(split, name) or (of_table if is_one_of_several else "")
        file, problem = finder.find(name, folder, word or of_table)
        word = word or options.split_of_folders(PurePosixPath(file).parts[:-1], file)
        at = f"{table.where}, line {line}"
        label = _label_of(at, cells, columns, options)
        if label:
            check_label(label, f"{at}: ")
        elif word != "test":
            raise no_label(at, columns.label, cells[columns.label])
        missing += [file] if problem and label else []
        group = cells.get(columns.group, "")
        labelled.append(LabelledFile(file, label, word, group, problem, credits.read(cells)))
    _tell_missing(table, labelled, missing, columns)
    return labelled


def _label_of(at: str, cells: dict[str, str], columns: TableColumns, options: LabelOptions) -> str:
    """Return a row's label, "" for none. Raises StageError if not exactly one of its classes is 1.

    at: the table and the line.
    """
    if not columns.classes:
        return options.read_label(cells[columns.label])
    ones = [name for name in columns.classes if TRUTH[cells[name].lower()]]
    if len(ones) != 1:
        raise StageError(
            f"{at}: {len(ones)} of the columns {listed(columns.classes)} are 1; each row should "
            "have one 1, or name a column of labels by `label_column` in the source's yaml"
        )
    return ones[0]


def _tell_missing(
    table: UserTable, labelled: list[LabelledFile], missing: list[str], columns: TableColumns
) -> None:
    """Count on stderr the rows whose file is not there, and the rows of the test without a label.

    Raises StageError if no file of the table is there.
    """
    if missing and all(row.missing for row in labelled):
        reasons = sorted({row.missing for row in labelled} - {"", ABSENT})
        reason = f" ({reasons[0]})" if reasons else ""
        raise StageError(
            f"{table.where}: none of its {len(labelled)} rows names a file that is there, such as "
            f"{missing[0]!r}{reason}; is gather.path the folder that holds them, and "
            f"{columns.file!r} their column? If not, write `file_column` into the source's yaml"
        )
    if missing:
        logging.warning(
            "%s: %d of %d rows have no file that fits, so left out: %s",
            table.where,
            len(missing),
            len(labelled),
            listed(missing, 3),
        )
    asking = [row.file for row in labelled if not row.label]
    if asking:
        logging.warning(
            "%s: %d rows of the test split have no label, so left out; ask the model about them "
            "with `pawprint predict`: %s",
            table.where,
            len(asking),
            listed(asking, 3),
        )
