"""What a gathering has downloaded so far, so that a killed run goes on where it stopped.

A download is done when its line is in data/gather.partial/journal.jsonl. Before that its bytes are
in a `.part` file that nobody reads. After that the file is installed under data/raw, whole, by a
rename. A run that is killed between the two installs it the next time. Half a line at the end, or a
file whose hash is not the one noted, counts as not there.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from pawprint.sources import PARTIAL
from pawprint.sources.download import Result
from pawprint.tables import write_bytes

PATH = PARTIAL / "journal.jsonl"


class Journal:
    """The results of this gathering, by address.

    key: names the source and the lock. What failed under another key is tried again.
    """

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
        self._rewrite()

    def add(self, url: str, result: Result) -> None:
        """Note how an address ended."""
        self.results[url] = result
        with PATH.open("ab") as file:
            file.write(self._line(url, result))

    def forget_failures(self) -> None:
        """Let the next run ask again for what failed."""
        self.results = {
            url: result for url, result in self.results.items() if result.status == "ok"
        }
        self._rewrite()

    def _rewrite(self) -> None:
        write_bytes(PATH, b"".join(self._line(url, result) for url, result in self.results.items()))

    def _line(self, url: str, result: Result) -> bytes:
        return json.dumps({"url": url, "key": self.key, **asdict(result)}).encode() + b"\n"


def part_of(url: str) -> Path:
    """Return the file that an address is downloaded to."""
    return PARTIAL / "files" / f"{hashlib.sha256(url.encode()).hexdigest()[:24]}.part"
