"""What a gathering has downloaded so far, so that one that was killed goes on where it stopped.

A download is done at the moment when its line stands in data/gather.partial/journal.jsonl. Before that its bytes are in
a `.part` file that nobody reads; after that the file is installed under data/raw, whole, by a rename. A run that is
killed between the two installs it the next time. Half a line at the end, or a file whose hash is not the one noted,
counts as not there.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from pawprint.sources import PARTIAL
from pawprint.sources.content import digest
from pawprint.sources.download import Result
from pawprint.tables import write_bytes

PATH = PARTIAL / "journal.jsonl"


class Journal:
    """The results of this gathering, by address. What failed under another `key` (source, lock) is tried again."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.results: dict[str, Result] = {}
        for line in PATH.read_bytes().splitlines() if PATH.is_file() else []:
            try:
                entry = json.loads(line)
                url, same_run = entry.pop("url"), entry.pop("key") == key
                result = Result(**entry)
            except (ValueError, TypeError, KeyError, AttributeError):
                continue
            if same_run or result.status == "ok":
                self.results[url] = result
        self.rewrite()

    def rewrite(self) -> None:
        write_bytes(PATH, b"".join(self._line(url, result) for url, result in self.results.items()))

    def add(self, url: str, result: Result) -> None:
        self.results[url] = result
        with PATH.open("ab") as file:
            file.write(self._line(url, result))

    def forget_failures(self) -> None:
        """So that the next run asks again."""
        self.results = {
            url: result for url, result in self.results.items() if result.status == "ok"
        }
        self.rewrite()

    def _line(self, url: str, result: Result) -> bytes:
        return json.dumps({"url": url, "key": self.key, **asdict(result)}).encode() + b"\n"


def part_of(url: str) -> Path:
    """Where an address is downloaded to."""
    return PARTIAL / "files" / f"{hashlib.sha256(url.encode()).hexdigest()[:24]}.part"


def install(part: Path, paths: Iterable[Path]) -> None:
    """Copy a whole download to where it belongs, each copy appearing at once, and remove it from here."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.partial")
        shutil.copyfile(part, temporary)
        os.replace(temporary, path)
    part.unlink()


def holds(path: Path, sha256: str) -> bool:
    """Whether a file is there and has this hash."""
    try:
        with path.open("rb") as file:
            return digest(file, "sha256") == sha256
    except (FileNotFoundError, IsADirectoryError):
        return False
