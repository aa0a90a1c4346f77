"""Opening a source: its yaml, its options, and the module that finds its pictures."""

import hashlib
import importlib
import json
import os
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pawprint.params import StageError, check, load_yaml
from pawprint.pictures.formats import looks_like_picture
from pawprint.sources import PARTIAL, Found
from pawprint.sources.download import Downloader
from pawprint.sources.lock import ADDED, RAW
from pawprint.sources.names import check_label

SOURCES = Path("data/sources")
KINDS = {  # the module in pawprint/sources, and its class of options
    "sample": "SampleOptions",
    "folder": "FolderOptions",
    "archive": "ArchiveOptions",
    "urls": "UrlsOptions",
    "search": "SearchOptions",
    "hub": "HubOptions",
}


@dataclass(frozen=True)
class Source:
    """An opened data/sources/NAME.yaml.

    key: its name, and a hash of all that decides what it finds. root: `gather.path`.
    """

    kind: str
    module: ModuleType
    options: Any
    root: Path
    key: str

    @property
    def is_remote(self) -> bool:
        """Whether it gives addresses to download; the others give bytes."""
        return self.kind in ("urls", "search")

    @property
    def reads_path(self) -> bool:
        """Whether it reads `gather.path`."""
        here = self.kind == "hub" and not (self.options.dataset or self.options.path)
        return self.kind in ("folder", "urls") or here

    @property
    def is_local(self) -> bool:
        """Whether its pictures are on this machine, so that it is always read again."""
        return self.kind in ("sample", "folder") or (
            self.kind == "hub" and not self.options.dataset
        )

    def find_pictures(
        self, downloader: Downloader, wanted: Collection[str] | None = None
    ) -> Iterator[Found]:
        """Yield what the source finds. Raises StageError for a label that cannot name a folder.

        wanted: the addresses that the lock lists, if it is followed.
        """
        more: dict[str, Any] = {"archive": (downloader,), "hub": (wanted,)}
        try:
            for item in self.module.find_pictures(
                self.options, self.root, *more.get(self.kind, ())
            ):
                check_label(item.label)
                yield item
        except StageError as error:
            if not self.key.startswith(f"{ADDED}:"):
                raise
            raise StageError(str(error).replace("gather.path", ADDED)) from None


def open_source(name: str, root: Path) -> Source:
    """Read data/sources/NAME.yaml and find its module. root: `gather.path`.

    Raises StageError for a source without a yaml, and for a yaml with unknown keys or values.
    """
    yaml = SOURCES / f"{name}.yaml"
    known = sorted(path.stem for path in SOURCES.glob("*.yaml"))
    if name not in known and not yaml.is_file():
        raise StageError(
            f"gather.source is {name!r}, but there is no {yaml}; there are: {', '.join(known)}"
        )
    values = load_yaml(yaml)
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise StageError(f"{yaml}: kind is {kind!r}; it should be one of {', '.join(KINDS)}")
    module = importlib.import_module(f"pawprint.sources.{kind}")
    options = check(values, getattr(module, KINDS[kind]), "", yaml)
    if kind in ("folder", "urls"):
        refuse_own_folders(root)
    if kind == "hub" and not options.dataset:
        refuse_own_folders(Path(options.path) if options.path else root)
    content = json.dumps(options.model_dump())
    if hasattr(module, "fingerprint"):
        content += module.fingerprint(options, root)
    key = f"{name}:{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    return Source(kind, module, options, root, key)


def open_added(root: Path) -> Source | None:
    """Return the source of the labelled pictures of `gather.added`; None if there are none.

    root: a folder with a folder per class, whatever its name.
    Raises StageError if it holds what the pipeline writes.
    """
    if not root.is_dir():
        return None
    refuse_own_folders(root, "gather.added")
    if not any(each.is_dir() for each in root.iterdir()):
        return None
    module = importlib.import_module("pawprint.sources.folder")
    options = module.FolderOptions(kind="folder", labels="parent", splits={})
    key = hashlib.sha256(json.dumps(options.model_dump()).encode()).hexdigest()[:12]
    return Source("folder", module, options, root, f"{ADDED}:{key}")


def refuse_own_folders(root: Path, key: str = "gather.path") -> None:
    """Raise StageError if a folder holds what the pipeline writes, or lies inside it.

    key: of params.yaml, which names the folder.
    """
    real = Path(os.path.realpath(root))
    for folder in (RAW, PARTIAL, Path("data/images")):
        own = Path(os.path.realpath(folder))
        if real == own or real in own.parents or own in real.parents:
            raise StageError(
                f"{key} is '{root}', but {folder}, which the pipeline writes, lies on that "
                "path; put your pictures into a folder of their own, such as data/own"
            )


def say_unused_pictures(folder: Path, name: str) -> None:
    """Say on stderr if pictures are waiting in `gather.path` that this source does not read."""
    if not folder.is_dir():
        return
    waiting = sum(looks_like_picture(path.name) for path in folder.rglob("*"))
    if waiting:
        print(
            f"gather: {folder} holds {waiting} pictures, which the source {name!r} does not read; "
            f"to use them, run `pawprint use {folder}`",
            file=sys.stderr,
        )
