"""Rows of parquet shards, a few at a time, as `datasets` and the Hub write them.

A column of pictures is a structure of `bytes` and `path`, or bytes alone. What the numbers of a
column of labels mean is in the schema, under the key `huggingface`, or in the README.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pawprint.params import StageError
from pawprint.sources import Found
from pawprint.sources.hub.labels import (
    IMAGES,
    LABELS,
    Features,
    choose_column,
    credit_in_card,
    features_of_card,
    label_of,
    names_of,
)
from pawprint.sources.hub.options import INSTALL, HubOptions, Repository
from pawprint.sources.licences import find_credit_columns

ROWS = 32  # pictures in memory at a time
BUFFER = 1 << 20  # bytes read from a shard at a time


def read_shards(
    repository: Repository,
    files: list[str],
    split: str,
    card: dict[str, Any],
    options: HubOptions,
    only: Collection[str] | None,
) -> Iterator[Found]:
    """Yield the rows of some shards, one shard after the other; label "" for rows without one.

    split: of all of them. only: the addresses of the only shards to fetch; None: all. Raises
    StageError for a shard that is damaged, and for columns that are absent or not clear.
    """
    for file in files:
        if only is None or repository.address + file in only:
            path = repository.fetch(file)
            where = f"{repository.name}, {file}"
            try:
                yield from read_shard(path, repository.address + file, split, card, options, where)
            except StageError:
                raise
            except Exception as error:  # pyarrow raises its own kinds, and OSError
                if repository.address:
                    path.unlink(missing_ok=True)  # so that the next run fetches it again
                why = " ".join(str(error).split())[:200]
                raise StageError(f"{where}: not readable as parquet ({why})") from None


def read_shard(
    path: Path, address: str, split: str, card: dict[str, Any], options: HubOptions, where: str
) -> Iterator[Found]:
    """Yield the rows of one shard; their urls are its address, # and the row's number."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise StageError(f"kind: hub needs pyarrow: {INSTALL}") from None
    with pyarrow.parquet.ParquetFile(path, buffer_size=BUFFER) as shard:
        schema = shard.schema_arrow
        features = features_of_card(card, options.config) | features_of_schema(schema.metadata)
        image, label = find_columns(schema, features, options, where)
        names = names_of(features, label)
        credits = find_credit_columns(schema.names, (image, label))
        wanted = list(dict.fromkeys([image, label, *credits.names]))
        number = 0
        for batch in shard.iter_batches(ROWS, columns=wanted, use_threads=False):
            for row in batch.to_pylist():
                text = label_of(row[label], names, where)
                found = row_of(f"{address}#{number}", text, row[image], split, options)
                credit = credits.read(with_names(row, features))
                yield replace(found, credit=credit_in_card(credit, card))
                number += 1


def with_names(row: dict[str, Any], features: Features) -> dict[str, Any]:
    """Return a row with names in the place of numbers of classes: a licence may be such a one."""
    row = dict(row)
    for column, value in row.items():
        names = names_of(features, column)
        if value in range(len(names)):
            row[column] = names[value]
    return row


def row_of(url: str, label: str, picture: Any, split: str, options: HubOptions) -> Found:
    """Return one row. picture: its bytes, or a structure that holds them, or nothing."""
    content = picture.get("bytes") if isinstance(picture, dict) else picture
    if not content:
        return Found(url, label, split=split, missing="the row holds no picture")
    if len(content) > options.max_member:
        limit = f"larger than max_member, {options.max_member}"
        return Found(url, label, split=split, missing=limit, status="refused")
    return Found(url, label, partial(bytes, content), split=split)


def features_of_schema(metadata: dict[bytes, bytes] | None) -> Features:
    """Return the features that a schema's metadata describe; none if there are none."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    features = features if isinstance(features, dict) else {}
    return {name: each for name, each in features.items() if isinstance(each, dict)}


def find_columns(
    schema: Any, features: Features, options: HubOptions, where: str
) -> tuple[str, str]:
    """Return the column of pictures and that of labels. Raises StageError if one is not clear."""
    import pyarrow.types as types

    def holds_bytes(kind: Any) -> bool:
        if types.is_struct(kind):
            return kind.get_field_index("bytes") >= 0
        return types.is_binary(kind) or types.is_large_binary(kind)

    def holds_labels(kind: Any) -> bool:
        if types.is_dictionary(kind):
            kind = kind.value_type
        if types.is_list(kind):  # of one label each, if it is the one that is named
            kind = kind.value_type
        text = types.is_string(kind) or types.is_large_string(kind)
        return text or types.is_integer(kind) or types.is_boolean(kind) or types.is_floating(kind)

    kinds = {field.name: field.type for field in schema}
    types_of = {name: features.get(name, {}).get("_type") for name in kinds}
    images = [name for name, kind in kinds.items() if holds_bytes(kind)]
    certain = [name for name in images if types_of[name] == "Image"]
    structures = [name for name in images if types.is_struct(kinds[name])]
    image = choose_column(
        images, certain or structures, IMAGES, "image_column", options.image_column, where
    )
    other = {image, find_credit_columns(kinds).licence} - {options.label_column}
    labels = [name for name, kind in kinds.items() if name not in other and holds_labels(kind)]
    classes = [name for name in labels if types_of[name] == "ClassLabel"]
    label = choose_column(labels, classes, LABELS, "label_column", options.label_column, where)
    return image, label
