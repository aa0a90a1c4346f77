"""Which files of a data set belong to which configuration and split.

The rules are those of `datasets` (its documentation: "Structure your repository", "File names and
splits"): the README's front matter wins; else shards named SPLIT-00000-of-00002; else words such as
train, validation and test in the names of folders, then of files; else all is one split.
"""

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pawprint.params import StageError
from pawprint.pictures.formats import looks_like_picture
from pawprint.sources.hub.options import Repository
from pawprint.sources.names import is_other_picture, is_video_name

CONVERTED = "refs/convert/parquet"  # the branch with the Hub's own conversion
WORDS = {
    "train": "train",
    "training": "train",
    "validation": "valid",
    "valid": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
DRESS = ("set", "seg", "data", "dataset", "split", "folder", "images", "imgs", "pictures", "of")
UNLABELLED = re.compile(r"unlabell?ed|unsupervised")  # as a split is called
SHARD = re.compile(r"(\w[\w.-]*?)-\d{5}-of-\d{5}")
CONVERTED_FILE = re.compile(r"([^/]+)/([^/]+)/\d{4}\.parquet")
ARCHIVES = re.compile(r".+\.(zip|tar|tgz|tar\.gz)", re.IGNORECASE)
METADATA = re.compile(r"(.*/)?metadata\.(csv|jsonl|parquet)")


@dataclass(frozen=True)
class Part:
    """Files of one kind that belong together. split: as the data set calls it, "" if not known."""

    files: list[str]
    is_parquet: bool
    split: str = ""


def read_card(repository: Repository) -> dict[str, Any]:
    """Return the front matter of README.md; nothing if there is none that can be read."""
    if "README.md" not in repository.files:
        return {}
    text = repository.fetch("README.md").read_text(encoding="utf-8", errors="replace")
    matter = re.match(r"\ufeff?---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    try:
        content = YAML(typ="safe", pure=True).load(matter[1]) if matter else {}
    except (YAMLError, ValueError):
        logging.warning("README.md: its front matter is not readable YAML, so left out")
        return {}
    return content if isinstance(content, dict) else {}


def find_parts(files: list[str], card: dict[str, Any], config: str, name: str) -> list[Part]:
    """Return the files of a configuration by split, in the order of their names.

    files: all files, sorted. config: "" for the default. name: how messages call the data set.
    Raises StageError for a configuration that is not there, or if one must be named.
    """
    patterns = configurations(card)
    by_folder = {match[1] for file in files if (match := CONVERTED_FILE.fullmatch(file))}
    if patterns:
        chosen = choose_config(list(patterns), defaults_of(card), config, name)
        named = [(split, matching(files, globs)) for split, globs in patterns[chosen]]
    elif by_folder:
        chosen = choose_config(sorted(by_folder), set(), config, name)
        named = [("", [file for file in files if file.startswith(f"{chosen}/")])]
    else:
        inside = [file for file in files if not config or file.startswith(f"{config}/")]
        if not inside:
            raise StageError(f"{name} has no configuration {config!r}; correct `config`")
        named = [("", inside)]
    return [part for split, group in named for part in parts_of(split, group)]


def parts_of(split: str, files: list[str]) -> list[Part]:
    """Return the parts of some files: of shards one per split, else one of pictures."""
    shards = [file for file in files if file.endswith(".parquet") and not METADATA.fullmatch(file)]
    if not shards:
        kept = [
            file
            for file in files
            if looks_like_picture(file)
            or is_other_picture(file)
            or is_video_name(file)
            or ARCHIVES.fullmatch(file)
            or METADATA.fullmatch(file)
        ]
        pictures = any(not METADATA.fullmatch(file) for file in kept)
        return [Part(kept, False, split)] if pictures else []
    by_split: dict[str, list[str]] = {}
    for file in shards:
        by_split.setdefault(split or split_of_shard(file), []).append(file)
    if by_split.keys() - {""}:  # as `datasets` does: then files without a split are something else
        by_split.pop("", None)
    return [Part(group, True, word) for word, group in by_split.items()]


def configurations(card: dict[str, Any]) -> dict[str, list[tuple[str, list[str]]]]:
    """Return the configurations of a README: for each the splits with their patterns of files."""
    found: dict[str, list[tuple[str, list[str]]]] = {}
    for entry in card.get("configs") or []:
        if not isinstance(entry, dict):
            continue
        files = entry.get("data_files")
        folder = str(entry.get("data_dir") or "").strip("/")
        if isinstance(files, (str, list, dict)):
            splits = list(split_patterns(files))
        elif folder:
            splits = [("", ["**"])]
        else:
            continue
        prefix = f"{folder}/" if folder else ""
        found[str(entry.get("config_name", "default"))] = [
            (split, [prefix + pattern for pattern in patterns]) for split, patterns in splits
        ]
    return found


def split_patterns(files: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield splits and patterns of `data_files`, in any of its shapes."""
    if isinstance(files, str):
        yield "", [files]
    elif isinstance(files, dict):
        for split, paths in files.items():
            yield str(split), [str(path) for path in as_list(paths)]
    elif all(isinstance(each, str) for each in files):
        yield "", list(files)
    else:
        for each in files:
            if isinstance(each, dict):
                paths = [str(path) for path in as_list(each.get("path"))]
                yield str(each.get("split", "")), paths


def as_list(value: Any) -> list[Any]:
    """Return a list as it is, a single value as a list of one, None as an empty list."""
    return value if isinstance(value, list) else [] if value is None else [value]


def defaults_of(card: dict[str, Any]) -> set[str]:
    """Return the names of the configurations that a README calls the default."""
    entries = [entry for entry in card.get("configs") or [] if isinstance(entry, dict)]
    return {str(entry.get("config_name", "default")) for entry in entries if entry.get("default")}


def choose_config(names: list[str], defaults: set[str], wanted: str, name: str) -> str:
    """Return the configuration to read. Raises StageError if it is absent or not clear."""
    if wanted and wanted not in names:
        raise StageError(
            f"{name} has no configuration {wanted!r}; set `config` in the source's yaml to one of: "
            f"{', '.join(names)}"
        )
    for choice in (wanted, *sorted(defaults), "default"):
        if choice in names:
            return choice
    if len(names) > 1:
        raise StageError(
            f"{name} has several configurations; name one in the source's yaml, such as `config: "
            f"{names[0]}`: {', '.join(names)}"
        )
    return names[0]


def matching(files: list[str], patterns: Iterable[str]) -> list[str]:
    """Return the files that one of some patterns names: * within a folder, ** through folders."""
    regexes = [re.compile(regex_of(pattern.removeprefix("./"))) for pattern in patterns]
    return [file for file in files if any(regex.fullmatch(file) for regex in regexes)]


def regex_of(pattern: str) -> str:
    """Return a glob as a regular expression."""
    pieces = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])", pattern)
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        known.get(piece)
        or (piece.replace("[!", "[^") if piece.startswith("[") else re.escape(piece))
        for piece in pieces
    )


# --- splits ---


def word_in(name: str) -> str:
    """Return the word for a split in a name, such as `training` in seg_training; "" if none."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((word for word in words if word in WORDS), "")


def is_split_folder(name: str) -> bool:
    """Return whether a folder's name is that of a split alone: test_set, but not test tube."""
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    return bool(word_in(name)) and all(word in WORDS or word in DRESS for word in words)


def split_in_folders(folders: Iterable[str]) -> str:
    """Return the word for a split in the names of folders, the outermost first; "" if none."""
    return next((word for folder in folders if (word := word_in(folder))), "")


def split_of_shard(file: str) -> str:
    """Return the split of a parquet file by its name and its folders, "" if they name none."""
    path = PurePosixPath(file)
    if match := SHARD.match(path.name):
        return match[1]
    return split_in_folders(path.parts[:-1]) or word_in(path.stem)


def settle_splits(words: set[str], wanted: str, name: str) -> dict[str, str]:
    """Return which of a data set's splits are read, and what pawprint calls each.

    words: the splits that are there, "" for pictures without one. wanted: the only one to read. One
    split alone is called "": its pictures are divided by the stage split. Splits without labels are
    left out. Raises StageError if the wanted one is absent, or if several have odd names.
    """
    listed = ", ".join(sorted(words - {""})) or "none"
    if wanted:
        chosen = {word for word in words if word and wanted in (word, WORDS.get(word))}
        if not chosen:
            raise StageError(f"{name} has no split {wanted!r}; correct `split`; it has: {listed}")
        return dict.fromkeys(chosen, "")
    if left_out := sorted(word for word in words if UNLABELLED.search(word)):
        logging.warning("%s: left out, the split without labels: %s", name, ", ".join(left_out))
        words = words - set(left_out)
    if len(words - {""}) < 2:
        return dict.fromkeys(words, "")
    odd = sorted(word for word in words - {""} if word not in WORDS)
    if odd:
        known = sorted(words - {"", *odd}) or odd
        raise StageError(
            f"{name} has the splits {listed}; not understood: {', '.join(odd)}; read one split "
            f"alone, such as `split: {known[0]}` in the source's yaml"
        )
    return {word: WORDS.get(word, "") for word in words}
