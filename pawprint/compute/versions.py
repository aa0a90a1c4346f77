"""What a machine has installed that decides the bytes of a result.

Pickled by value, so that it runs on a worker without pawprint too: it imports the standard library
alone.
"""

import hashlib
import importlib.util
import platform
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "timm", "pillow", "numpy")


def installed() -> dict[str, str]:
    """Return the versions of Python, of pawprint's own code, and of PACKAGES; "none" if missing.

    The part of a version after a plus, such as that of a torch for CUDA, does not count.
    """
    found = {"python": platform.python_version(), "pawprint": code_of("pawprint")}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def code_of(package: str) -> str:
    """Return a hash of a package's modules: two checkouts of one version may differ."""
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        return "none"
    digest = hashlib.sha256()
    for path in sorted(Path(places[0]).rglob("*.py")):
        digest.update(path.relative_to(places[0]).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
