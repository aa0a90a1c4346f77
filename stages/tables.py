"""The tables and figures between stages: CSV and JSON, whole or not at all, the same bytes for the same content."""

import csv
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from stages.params import StageError


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write a file so that a reader, or a killed run, sees either the old content or the new, never half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # which a full disk leaves out
        raise


def write_table(path: Path | str, table: pd.DataFrame) -> None:
    """Write a CSV with `\\n` line ends; floats as the shortest decimal of six significant digits."""
    text = table.to_csv(index=False, lineterminator="\n", float_format="%.6g", quoting=csv.QUOTE_MINIMAL)
    write_bytes(path, text.encode("utf-8"))


def read_table(path: Path | str, **types: Any) -> pd.DataFrame:
    """Read a CSV. Empty cells are empty strings, text stays text; `types` names the columns that are numbers."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        return table.astype(types)
    except FileNotFoundError:
        raise StageError(f"{path} is missing: `dvc repro` makes it") from None
    except (ValueError, KeyError) as error:
        raise StageError(f"{path} is not the table this stage expects: {' '.join(str(error).split())}") from None


def write_json(path: Path | str, content: Mapping[str, Any]) -> None:
    """Write JSON, indented, numbers rounded to six decimals."""
    text = json.dumps(_rounded(content), indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode("utf-8"))


def read_json(path: Path | str) -> dict[str, Any]:
    """Read a JSON file written by another stage."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StageError(f"{path} is missing: `dvc repro` makes it") from None


def counts(values: Iterable[str]) -> dict[str, int]:
    """How often each value occurs, sorted by value."""
    return {str(key): int(n) for key, n in pd.Series(list(values), dtype=object).value_counts().sort_index().items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return round(value, 6) if isinstance(value, float) else value
