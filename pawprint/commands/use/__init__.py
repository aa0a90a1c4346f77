"""`pawprint use PATH`: look at anyone's pictures, say what they are, and make them the source.

It writes data/sources/NAME.yaml, and `gather.source` and `gather.path` of params.yaml, whose
comments and order stay. What it says of labels, splits and refused pictures comes from the code
that gather and verify run.
"""

import argparse
import contextlib
import errno
import io
import logging
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pawprint.commands.use.describing import describe
from pawprint.commands.use.inputs import open_input
from pawprint.params import StageError, load_yaml
from pawprint.sources.opening import SOURCES, refuse_own_folders
from pawprint.tables import write_bytes

MARK = "# Written by `pawprint use`"
OPTIONS = (  # of the command, and the keys of the yaml
    *("labels", "pattern", "table", "include", "splits"),
    *("file_column", "label_column", "split_column", "group_column"),
    *("not_missing", "config", "split", "image_column", "revision"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `pawprint use`."""
    add = parser.add_argument
    add("path", help="a folder, a table, an archive, a list of addresses, or a Hub data set's name")
    add("--name", default="", help="the source's name; default: that of PATH")
    add("--dry-run", action="store_true", help="only say what is there, and write nothing")
    add(
        "--labels",
        choices=("parent", "pattern", "table"),
        help="where labels come from: folders, file names or a table",
    )
    add("--pattern", help="a regular expression for the file's name; its group is the label")
    add("--table", nargs="+", help="a CSV of labels below PATH, or several of them")
    add("--include", help="a regular expression; files whose path does not match are left out")
    for name in ("file", "label", "split", "group"):
        add(f"--{name}-column", help=f"the column of the table that holds the {name}")
    add(
        "--splits",
        nargs="+",
        metavar="WORD=SPLIT",
        help="what folders or cells mean, such as 2021=train 2022=test; none: they are no splits",
    )
    add(
        "--not-missing",
        nargs="+",
        metavar="WORD",
        help="words of the table that are classes, though they often mean no label, such as NA",
    )
    add("--config", help="of a Hub data set: the configuration to use")
    add("--split", help="of a Hub data set: the one to use")
    add("--image-column", help="of a Hub data set: the column that holds the pictures")
    add("--revision", help="of a Hub data set: a commit, a branch or a tag")


def run(arguments: argparse.Namespace) -> None:
    """Look, say what is seen, and write it down. Exits with one line if it is not understood."""
    heard = Heard()
    logging.getLogger().addHandler(heard)
    try:
        print("\n".join(use(arguments, heard)))
    except StageError as error:
        sys.exit(f"pawprint: {with_options(str(error))}")
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS):
            raise
        sys.exit(f"pawprint: {error.filename}: {error.strerror}; give access to it")
    finally:
        logging.getLogger().removeHandler(heard)


class Heard(logging.Handler):
    """Keeps what gather's code says on stderr, for the report."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(record.getMessage())


def use(arguments: argparse.Namespace, heard: Heard) -> list[str]:
    """Return what is to be said; write the source and the params, unless it is a dry run.

    Raises StageError.
    """
    params = load_yaml(Path("params.yaml"))
    if not isinstance(params.get("gather"), dict):
        raise StageError("params.yaml has no section `gather`: restore it with `git checkout`")
    used = open_input(arguments.path, given_values(arguments))
    name, note = source_name(arguments.name, used.stem)
    if used.root is not None:
        refuse_own_folders(used.root)
    lines = [
        with_options(line, r"`([a-z_]+): (.+?)`") if line.startswith("note") else line
        for line in describe(used, name, params, heard.lines)
    ]
    yaml = source_text(used.values, arguments.path)
    target = SOURCES / f"{name}.yaml"
    if target.exists() and target.read_bytes() != yaml.encode():
        note.append(f"name       {target} is there already and is replaced; --name keeps both")
    if arguments.dry_run:
        written = f"not written (--dry-run): {target}"
        return [*lines, *note, written, *yaml.splitlines()[1:]]
    write_bytes(target, yaml.encode())
    path = "" if used.root is None else used.root.as_posix()
    set_params(name, path)
    wrote = f"gather.source: {name}" + (f", gather.path: {path}" if path else "")
    return [*lines, *note, f"wrote      {target}; params.yaml: {wrote}", "next       dvc repro"]


def with_options(message: str, lines: str = r"`([a-z_]+)(?:: (.+?))?`") -> str:
    """Return a message with the options that stand for the lines of yaml that it names.

    lines: a regular expression for them, with groups for the key and the value.
    """
    options: dict[str, None] = {}
    for key, value in re.findall(lines, message):
        if key in OPTIONS:
            with contextlib.suppress(YAMLError):
                options[option_of(key, YAML(typ="safe", pure=True).load(value))] = None
    return f"{message} (as options: {' or '.join(options)})" if options else message


def option_of(key: str, value: Any) -> str:
    """Return the option that stands for a key of the yaml, and for its value unless it is None."""
    words = value if isinstance(value, list) else [] if value is None else [value]
    if isinstance(value, dict):
        words = [f"{word}={split}" for word, split in value.items() if split] or ["none"]
    return " ".join([f"--{key.replace('_', '-')}", *(shlex.quote(str(word)) for word in words)])


def given_values(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the lines of the yaml that the command line gives. Raises StageError for `splits`."""
    values: dict[str, Any] = {key: value for key in OPTIONS if (value := getattr(arguments, key))}
    if isinstance(table := values.get("table"), list) and len(table) == 1:
        values["table"] = table[0]
    if "splits" in values:
        words = values["splits"]
        pairs = {word.rpartition("=")[0]: word.rpartition("=")[2] for word in words}
        if words != ["none"] and not all(key and value for key, value in pairs.items()):
            raise StageError(f"--splits is {' '.join(words)!r}; it should be WORD=SPLIT, or none")
        values["splits"] = {} if words == ["none"] else pairs
    return values


def source_name(wanted: str, stem: str) -> tuple[str, list[str]]:
    """Return the name of the yaml to write, and a line if it is not the one of the path.

    Raises StageError if a yaml of the name is there that this command has not written.
    """
    name = re.sub(r"[^\w-]+", "_", wanted or stem).strip("_-").lower()[:60] or "pictures"
    if not is_foreign(name):
        return name, []
    other = f"my_{name}"
    if wanted or is_foreign(other):
        raise StageError(
            f"{SOURCES / name}.yaml is there, and not written by this command; choose another "
            "name by --name"
        )
    return other, [f"name       {other}, because data/sources/{name}.yaml is there already"]


def is_foreign(name: str) -> bool:
    """Return whether a source of this name was written by somebody else."""
    path = SOURCES / f"{name}.yaml"
    return path.exists() and not path.read_bytes().startswith(MARK.encode())


def source_text(values: dict[str, Any], path: str) -> str:
    """Return the text of the source's yaml."""
    yaml, text = YAML(), io.StringIO()
    yaml.width = 10_000
    yaml.dump(values, text)
    seen = " ".join(path.split())
    return f"{MARK} of {seen}; docs/sources.md says what else it may say.\n{text.getvalue()}"


def set_params(source: str, path: str) -> None:
    """Set `gather.source`, and `gather.path` if it is not "", in params.yaml; all else stays."""
    file, yaml, text = Path("params.yaml"), YAML(), io.StringIO()
    yaml.width, yaml.preserve_quotes = 10_000, True
    content = yaml.load(file.read_text(encoding="utf-8"))
    content["gather"]["source"] = source
    if path:
        content["gather"]["path"] = path
    yaml.dump(content, text)
    write_bytes(file, text.getvalue().encode())
