"""What `pawprint use` says of a data set on the Hub: its listing and its README, no pictures."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pawprint.commands.use.wording import named, said
from pawprint.params import StageError
from pawprint.sources.hub import NoAnswer, converted, open_dataset, script_of
from pawprint.sources.hub.labels import LABELS, features_of_card, info_of_card, names_of
from pawprint.sources.hub.layout import Part, find_parts, read_card, settle_splits
from pawprint.sources.hub.options import HubOptions


def look_at_dataset(options: HubOptions) -> list[str]:
    """Return what is known of a data set before its pictures are here.

    Raises StageError if it is absent, private or gated, or if a line of the yaml is needed.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            repository = open_dataset(options.dataset, options.revision, target=Path(folder))
            card = read_card(repository)
            parts = find_parts(repository.files, card, options.config, repository.name)
            if script_of(options.dataset, repository, parts) and not options.revision:
                repository, parts = converted(options, repository, parts)
        except NoAnswer as error:
            why = str(error).partition("; ")[0]
            return [said("note", f"not looked at yet, gather asks again: {why}")]
    if not parts:
        raise StageError(f"{repository.name}: it holds neither parquet files nor pictures")
    commit = repository.address.rpartition("@")[2][:12]
    count = sum(len(part.files) for part in parts)
    kind = "parquet files" if all(part.is_parquet for part in parts) else "pictures and archives"
    return [
        said("files", f"{count:,} {kind}, at commit {commit}"),
        *class_lines(card, options),
        *split_lines(parts, info_of_card(card, options.config), options, repository.name),
        said("note", "the pictures are looked at when gather has them"),
    ]


def class_lines(card: Mapping[str, Any], options: HubOptions) -> list[str]:
    """Return the classes that the README names, if it does."""
    features = features_of_card(card, options.config)
    known = (options.label_column, *LABELS, *features)
    names = next((found for name in known if (found := names_of(features, name))), [])
    return [said("classes", f"{len(names)}: {named(names)}")] if names else []


def split_lines(
    parts: list[Part], info: Mapping[str, Any], options: HubOptions, name: str
) -> list[str]:
    """Return the splits that the files' names tell, with the README's counts.

    Raises StageError for splits that are not understood.
    """
    words = {part.split for part in parts}
    if not words - {""}:
        return []
    meanings = settle_splits(words, options.split, name)
    counts = {
        str(split.get("name")): split.get("num_examples")
        for split in info.get("splits") or []
        if isinstance(split, dict)
    }
    shown = []
    for word, meaning in sorted(meanings.items()):
        count = counts.get(word)
        rows = f" {count:,}" if isinstance(count, int) else ""
        shown.append(f"{word or 'without a name'}{rows}" + (f" ({meaning})" if meaning else ""))
    drawn = "" if any(meanings.values()) else "; train, valid and test are drawn from it"
    return [said("splits", ", ".join(shown) + drawn)]
