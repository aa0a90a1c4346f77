"""The columns of a data set's tables: which holds labels, and what its numbers are called."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pawprint.params import StageError
from pawprint.sources import Credit
from pawprint.sources.licences import normal_licence

IMAGES = ("image", "img", "picture", "photo", "pixel_values", "image_bytes", "bytes")
LABELS = ("label", "labels", "class", "category", "target", "label_name", "class_name")
Features = dict[str, dict[str, Any]]  # by column, as the schema of `datasets` describes them


def info_of_card(card: Mapping[str, Any], config: str) -> dict[str, Any]:
    """Return what a README's front matter says of a configuration (`dataset_info`).

    config: "" for the default, or else the first one.
    """
    infos = card.get("dataset_info") or []
    infos = infos if isinstance(infos, list) else [infos]
    infos = [info for info in infos if isinstance(info, dict)]
    named = [
        info for info in infos if str(info.get("config_name", "default")) == (config or "default")
    ]
    return dict((named or infos or [{}])[0])


def features_of_card(card: Mapping[str, Any], config: str) -> Features:
    """Return the features that a README's front matter describes, by column; see info_of_card."""
    features: Features = {}
    for feature in info_of_card(card, config).get("features") or []:
        if isinstance(feature, dict) and "name" in feature:
            kind = feature.get("dtype")
            features[str(feature["name"])] = {"_type": "Image"} if kind == "image" else {}
            if isinstance(kind, dict) and isinstance(kind.get("class_label"), dict):
                names = kind["class_label"].get("names")
                listed = list(names.values()) if isinstance(names, dict) else names
                label = {"_type": "ClassLabel", "names": listed or []}
                features[str(feature["name"])] = label
    return features


def names_of(features: Features, column: str) -> list[str]:
    """Return the names of a column's classes in the order of their numbers; none if not known.

    A slash in a name becomes a dash, because labels are names of folders. Classes of one name, such
    as the two cranes of ImageNet, get their numbers behind it.
    """
    names = [str(name) for name in features.get(column, {}).get("names") or []]
    safe = [safe_label(name) for name in names]
    counted = Counter(safe)
    return [f"{name} ({number})" if counted[name] > 1 else name for number, name in enumerate(safe)]


def safe_label(name: str) -> str:
    """Return a class's name as it can name a folder: without slashes, and no dot in front."""
    return re.sub(r"[/\\]+", "-", name).strip().lstrip(".").strip()


def label_of(value: Any, names: list[str], where: str) -> str:
    """Return the label that a cell holds; "" for none: null, -1 or an empty text.

    names: of the classes by number. Raises StageError for a number without a name, and for a list
    with several labels.
    """
    if isinstance(value, list):
        if len(value) > 1:
            raise StageError(f"{where}: a picture has {len(value)} labels; it should have one")
        value = value[0] if value else None
    if value is None or value == -1 or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, str) and not (names and value.strip().lstrip("-").isdigit()):
        return safe_label(value)
    if isinstance(value, str):  # a number of a CSV
        return label_of(int(value), names, where)
    if not names or isinstance(value, bool):
        return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)
    if not 0 <= int(value) < len(names):
        raise StageError(f"{where}: label {value} has no name; there are {len(names)} names")
    return names[int(value)]


def credit_in_card(credit: Credit, card: Mapping[str, Any]) -> Credit:
    """Return a row's credit; its licence is that of the data set, if the row states none.

    card: the front matter of README.md, where `license: other` is explained by `license_name`.
    """
    if credit.licence:
        return credit
    stated = card.get("license")
    if isinstance(stated, list):
        stated = stated[0] if len(stated) == 1 else ""  # which of several is not said
    if stated == "other":
        stated = card.get("license_name") or stated
    return replace(credit, licence=normal_licence(stated if isinstance(stated, str) else ""))


def choose_column(
    columns: list[str], certain: list[str], known: tuple[str, ...], key: str, wanted: str, name: str
) -> str:
    """Return the column of pictures or of labels.

    columns: those that may hold it; certain: those that the features name as such; known: usual
    names, the likeliest first. key: of the source's yaml, whose value is `wanted`. name: how
    messages call the data set. Raises StageError if the wanted one is absent, or none or several
    fit; its advice names the line to write.
    """
    if wanted:
        if wanted not in columns:
            raise StageError(
                f"{name}: {key} is {wanted!r}; it should be one of: {', '.join(columns) or 'none'}"
            )
        return wanted
    for choice in known:
        if choice in certain:
            return choice
    if len(certain) == 1:
        return certain[0]
    by_name = {column.lower(): column for column in reversed(columns)}
    for choice in () if certain else known:
        if choice in by_name:
            return by_name[choice]
    what = "several columns fit" if certain else "none of its columns is known to fit"
    offered = certain or columns
    raise StageError(
        f"{name}: {what}; write into the source's yaml `{key}: {offered[0] if offered else 'NAME'}`"
        f", or another of: {', '.join(offered) or 'none'}"
    )
