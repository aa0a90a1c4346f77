"""The exact versions that an exported page needs, taken from requirements.lock."""

import importlib.metadata
import re
import sys
from pathlib import Path

from packaging.requirements import Requirement

from pawprint.params import StageError

LOCK = Path("requirements.lock")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"  # with which the lock was installed
SPACE = {  # the machine that a Space runs on, as markers name it
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_system": "Linux",
    "python_full_version": f"{PYTHON}.0",
    "python_version": PYTHON,
    "sys_platform": "linux",
}


def pin(requirements: str) -> tuple[str, dict[str, str]]:
    """Return the lines of a requirements.txt with exact versions, and the versions by name.

    requirements: one package per line, with lower bounds; comments stay. A package that the lock
    does not name gets the version that is installed here. Raises StageError if there is neither.
    """
    locked = read_lock()
    lines, versions = [], {}
    for line in requirements.splitlines():
        text, _, comment = line.partition("#")
        if not text.strip():
            continue
        name = Requirement(text.strip()).name
        versions[name] = locked.get(name) or installed(name)
        lines.append(f"{name}=={versions[name]}" + (f"  # {comment.strip()}" if comment else ""))
    return "\n".join(lines) + "\n", versions


def read_lock() -> dict[str, str]:
    """Return the versions of requirements.lock that a Space would install, by package."""
    versions = {}
    for line in LOCK.read_text(encoding="utf-8").splitlines() if LOCK.is_file() else []:
        if re.match(r"[A-Za-z0-9][\w.-]*==", line):
            requirement = Requirement(line.partition(" #")[0].strip().removesuffix("\\").strip())
            if requirement.marker is None or requirement.marker.evaluate(SPACE):
                versions[requirement.name] = str(requirement.specifier).removeprefix("==")
    return versions


def installed(name: str) -> str:
    """Return the version of an installed package. Raises StageError if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        raise StageError(
            f"requirements.lock does not name {name}, which export/ needs, and it is not "
            f"installed; `pip install {name}`, or `make lock`"
        ) from None
