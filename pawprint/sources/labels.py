"""Labels, splits and groups of files: by their names or by a table, for `folder` and `archive`."""

import logging
import re
from collections.abc import Callable
from pathlib import PurePosixPath

from pawprint.params import StageError, listed
from pawprint.pictures.formats import looks_like_picture
from pawprint.sources.label_options import LabelledFile, LabelOptions
from pawprint.sources.layout import NOWHERE, Layout
from pawprint.sources.names import (
    A_VIDEO,
    is_document,
    is_other_picture,
    is_video_name,
)
from pawprint.sources.splits import UNLABELLED
from pawprint.sources.table_labels import label_by_tables

__all__ = ["LabelOptions", "LabelledFile", "label_files", "missing_format"]


def label_files(
    files: list[str], options: LabelOptions, read_table: Callable[[str], bytes], where: str
) -> list[LabelledFile]:
    """Label every file in the order of `files`, or of the table if there is one.

    files: paths relative to the source's folder, with slashes. read_table: returns the content of
    one of them. where: how messages name the source.

    Pictures in folders such as `test/` without a class are left out, counted on stderr. So are
    files that are not pictures by their name and get no label, and classes that `include` leaves
    out. Raises StageError for any other picture without a label.
    """
    chosen = [file for file in files if re.search(options.include, file)]
    pictures = [file for file in chosen if _is_picture(file)]
    if options.labels == "table":
        labelled = label_by_tables(chosen, options, read_table, where)
        named = {row.file for row in labelled}
        without = [file for file in pictures if file not in named]
        _tell_unlisted(_tell_for_asking(without, options, where), options, where)
        return [row for row in labelled if row.label]
    if options.labels == "parent":
        labelled, without = _label_by_folder(chosen, options, where)
    else:
        labelled, without = _label_by_pattern(chosen, options, where)
    _tell_for_asking([file for file in without if _is_picture(file)], options, where)
    _tell_unlabelled([file for file in without if not _is_picture(file)], where)
    _tell_left_out(files, chosen, where)
    return labelled


def missing_format(file: str) -> str:
    """Return why a file is not read as a picture, by its name; "" if it is read."""
    if looks_like_picture(file):
        return ""
    if is_video_name(file):
        return A_VIDEO
    suffix = PurePosixPath(file).suffix.lower()
    if not suffix:
        return "its name does not say that it is a picture"
    return f"its name ends in {suffix}, which is not a picture format that is read"


def _is_picture(file: str) -> bool:
    """Return whether a file is a picture by its name, also of a format that is not read."""
    return looks_like_picture(file) or is_other_picture(file)


def _label_by_folder(
    files: list[str], options: LabelOptions, where: str
) -> tuple[list[LabelledFile], list[str]]:
    """Return the files with the classes of their folders, and those without.

    Raises StageError for a picture without a class that is not in `test/` or the like, and for
    classes that lie under several folders whose names say no split.
    """
    holders = _folders_with_folders(files)
    filled = {_folder_of(file) for file in files if not is_document(file)}
    pictured = {_folder_of(file) for file in files if _is_picture(file)}
    names = {PurePosixPath(folder).name for folder in pictured}
    others = [file for file in files if not _is_picture(file)]
    beside = {f for f in others if _folder_of(f) in holders or _folder_of(f) not in filled}
    # Annotation/beagle/n1_7, a text beside Images/beagle/n1_7.jpg
    alone = (file for file in others if _folder_of(file) not in pictured)
    beside |= {file for file in alone if PurePosixPath(file).parent.name in names}
    folders = {_folder_of(file) for file in files if file not in beside}
    layout = Layout(folders, options.meaning_of, options.is_container)
    if "splits" not in options.model_fields_set:
        layout.refuse_unknown_parents(where)
    labelled, without = [], []
    for file in files:
        place = layout.places.get(_folder_of(file), NOWHERE)
        if place.name and file not in beside:
            split = options.split_of_folders(place.above, file)
            labelled.append(LabelledFile(file, place.name, split))
        elif not _is_picture(file) or place.is_for_asking:
            without.append(file)
        else:
            raise StageError(f"{where}: {file!r} has no label; {_advise(file)}")
    return labelled, without


def _advise(file: str) -> str:
    """Return what can be done about a picture whose folder is no class."""
    if "/" not in file:
        return (
            "put every picture into a folder named after its class, or in the source's yaml set "
            "`labels`, or leave it out by `include`"
        )
    return (
        f"the name of its folder, {_folder_of(file)!r}, says no class; put it into a folder named "
        "after its class, or in the source's yaml set `labels`, leave it out by `include`, or "
        "write `splits: {}` if the folder is a class"
    )


def _label_by_pattern(
    files: list[str], options: LabelOptions, where: str
) -> tuple[list[LabelledFile], list[str]]:
    """Return the files whose names the pattern labels, and those without a label.

    Raises StageError for a picture without a label that is not in `test/` or the like.
    """
    labelled, without = [], []
    for file in files:
        *folders, name = PurePosixPath(file).parts
        label, group, problem = _search(options.pattern, name)
        if label and UNLABELLED not in map(options.meaning_of, folders):
            split = options.split_of_folders(folders, file)
            labelled.append(LabelledFile(file, label, split, group))
        elif not _is_picture(file) or _is_for_asking(file, options):
            without.append(file)
        else:
            raise StageError(
                f"{where}: pattern {options.pattern!r} {problem} {file!r}; change the pattern, or "
                "leave the file out by `include`"
            )
    return labelled, without


def _search(pattern: str, name: str) -> tuple[str, str, str]:
    """Return the label and the group that a pattern finds in a name, and why it finds no label."""
    match = re.search(pattern, name)
    if match is None:
        return "", "", "does not match"
    named = match.groupdict()
    group = named.pop("group", None) or ""
    if "label" in named or not named:
        label = named.get("label") or (match[1] if not named else "")
    else:
        label = next((key for key, text in named.items() if text is not None), "")
    return label or "", group, "gives no label to"


def _folder_of(file: str) -> str:
    """Return the folder that holds a file."""
    return str(PurePosixPath(file).parent)


def _folders_with_folders(files: list[str]) -> set[str]:
    """Return the folders that hold folders with files."""
    return {str(above) for file in files for above in list(PurePosixPath(file).parents)[1:]}


def _is_for_asking(file: str, options: LabelOptions) -> bool:
    """Return whether a folder's name says that pictures may come without a label: `test/`."""
    folders = PurePosixPath(file).parts[:-1]
    return bool({"test", UNLABELLED} & set(map(options.meaning_of, folders)))


def _tell_for_asking(files: list[str], options: LabelOptions, where: str) -> list[str]:
    """Count on stderr the pictures without a label in `test/` and the like; return the others."""
    asking = [file for file in files if _is_for_asking(file, options)]
    if asking:
        logging.warning(
            "%s: pictures without a label in %s, left out: %d; ask the model about them with "
            "`pawprint predict` (if the folder is a class, write `splits: {}` into the yaml)",
            where,
            listed(sorted({_folder_of(file) for file in asking})),
            len(asking),
        )
    return [file for file in files if file not in set(asking)]


def _tell_unlabelled(files: list[str], where: str) -> None:
    """Name on stderr the files in folders that get no label, which are not pictures by name."""
    inside = [file for file in files if "/" in file]
    if inside:
        logging.warning("%s: no label, so left out: %s", where, listed(inside))


def _tell_left_out(files: list[str], chosen: list[str], where: str) -> None:
    """Name on stderr the folders with pictures that `include` leaves out whole."""
    kept = {_folder_of(file) for file in chosen}
    all_folders = {_folder_of(file) for file in files if looks_like_picture(file)}
    gone = sorted(all_folders - kept)
    if gone:
        logging.warning("%s: `include` leaves out the folders: %s", where, listed(gone))


def _tell_unlisted(files: list[str], options: LabelOptions, where: str) -> None:
    """Name on stderr the pictures that the table does not list."""
    if files:
        logging.warning("%s: %s does not list: %s", where, options.table, listed(files))
