"""The front matter of a README.md, which the Hub reads: YAML between two lines of dashes."""

import io
import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pawprint.params import StageError


def split_front(text: str, where: str) -> tuple[dict[str, Any], str]:
    """Return the front matter of a README.md and what follows it.

    Raises StageError, which names `where`, if there is none.
    """
    matter = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    try:
        content = YAML(typ="safe", pure=True).load(matter[1]) if matter else None
    except YAMLError:
        content = None
    if matter is None or not isinstance(content, dict):
        raise StageError(f"{where} has no front matter; `dvc repro export` makes it again")
    return content, text[matter.end() :]


def with_front(content: dict[str, Any], rest: str) -> str:
    """Return a README.md with this front matter, its keys in their order."""
    text, yaml = io.StringIO(), YAML()
    yaml.width = 1000
    yaml.dump(content, text)
    return f"---\n{text.getvalue()}---\n{rest}"
