"""Reading params.yaml into typed structures, and ending a stage with one clear line.

Every stage describes its section of params.yaml as a `Params` class. pydantic checks it strictly:
an unknown key, a wrong type or an impossible value ends the stage with one line that names the key,
the value and what is allowed.
"""

import copy
import difflib
import errno
import gc
import re
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError


class StageError(Exception):
    """An error that the user can repair. The message names the thing and what to do."""


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return the first `most` names in one line, and how many there are besides."""
    shown = ", ".join(" ".join(name.split()) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


class Params(BaseModel):
    """Base of every section: no unknown keys, no silent conversions, read-only."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


P = TypeVar("P", bound=Params)


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML 1.2 mapping, as DVC does: `2e-3` is a number.

    Raises StageError that names the file.
    """
    try:
        content = copy.deepcopy(parse(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise StageError(f"{path} is missing: restore it with `git checkout {path}`") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise StageError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise StageError(f"{path} must hold keys and values, not {content!r}")
    return content


@lru_cache(maxsize=4)
def parse(text: str) -> Any:
    """Return what YAML says. A stage reads params.yaml once for each section; parsing is slow."""
    return YAML(typ="safe", pure=True).load(text)


def load_params(section: str, cls: type[P], path: Path = Path("params.yaml")) -> P:
    """Read one section of params.yaml.

    Raises StageError naming the key, the value and what is allowed.
    """
    content = load_yaml(path)
    if section not in content:
        raise StageError(
            f"{path} has no section `{section}`; it must hold: {', '.join(cls.model_fields)}"
        )
    return check(content[section], cls, section, path)


def check(values: Any, cls: type[P], section: str, path: Path) -> P:
    """Validate `values` as a `cls`.

    Raises StageError; `section`, which may be "", comes before the key in its message.
    """
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        prefix = f"{section}." if section else ""
        lines = [_explain(detail, cls, prefix) for detail in error.errors()]
        raise StageError(f"{path}: " + "; ".join(dict.fromkeys(lines))) from None


def _explain(detail: ErrorDetails, cls: type[Params], prefix: str) -> str:
    *parents, last = (str(part) for part in detail["loc"]) if detail["loc"] else ("",)
    for name in parents:
        prefix = f"{prefix}{name}."
        field = getattr(cls, "model_fields", {}).get(name)
        cls = field.annotation if field else cls
    key, value = (prefix + last).rstrip("."), detail["input"]
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(last, cls.model_fields, n=1)
        hint = f"did you mean {prefix}{near[0]}? " if near else ""
        return f"unknown key {key} (value {value!r}); {hint}allowed: {', '.join(cls.model_fields)}"
    if detail["type"] == "missing":
        return f"{key} is missing"
    rule = re.sub(r"^Value error, |^\w+ (?=should )", "", detail["msg"])  # "Input should be …"
    return f"{key} is {value!r}; it {rule}" if key else f"it {rule}"


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's `main`. A StageError becomes one line on stderr and exit code 1."""
    name = Path(sys.argv[0]).stem
    if not gc.isenabled():  # as stages/__init__.py says
        gc.freeze()  # what is imported is no garbage
        gc.enable()
    try:
        main()
    except StageError as error:
        sys.exit(f"{name}: {error}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        where = error.filename or "the working folder"
        sys.exit(f"{name}: {error.strerror}: {where}; make room or access, then rerun")
    except KeyboardInterrupt:
        sys.exit(f"{name}: stopped from the keyboard; `dvc repro` starts this stage again")
