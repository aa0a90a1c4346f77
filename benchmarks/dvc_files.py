"""Measure DVC itself on a folder of very many small files, with every kind of link.

    python -m benchmarks.dvc_files FOLDER                   # 100,000 files of about 100 bytes
    python -m benchmarks.dvc_files FOLDER --files 10000 --links copy hardlink

FOLDER must be on the disk whose links are to be measured. Each kind of link gets a project of its
own in it, which is removed at the end: the files under `dvc add`, a stage that depends on them, and
a folder as remote. A kind that the disk has not is left out, with a word. Analytics and the check
for updates are off, except in the row that says so; seconds are of one run each.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.scale import Figures, run

LINKS = ("copy", "hardlink", "symlink", "reflink")
FOLDERS = 10
COUNT = "cmd: ls files | wc -l > count.txt, deps: [files], outs: [count.txt]"
STAGE = f"stages: {{count: {{{COUNT}}}}}\n"


def main() -> None:
    """Measure every kind of link, and print a row for each command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--links", nargs="+", choices=LINKS, default=LINKS)
    arguments = parser.parse_args()
    results: dict[str, dict[str, Figures]] = {}
    for link in arguments.links:
        home = arguments.folder.resolve() / link
        shutil.rmtree(home, ignore_errors=True)
        make_project(home, link)
        if supports(home, link):
            results[link] = measure(home, arguments.files)
            print(link, json.dumps(results[link]), file=sys.stderr, flush=True)
        else:
            print(f"{link}: this disk does not support it", file=sys.stderr)
        shutil.rmtree(home)
    print(table(results))


def make_project(home: Path, link: str) -> None:
    """Make a DVC project without git, with a folder as its remote and its state in itself."""
    (home / "project/.dvc").mkdir(parents=True)
    (home / "project/.dvc/config").write_text(
        "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"
        f"    remote = near\n    site_cache_dir = {home}/state\n"
        f"[cache]\n    type = {link}\n"
        f"['remote \"near\"']\n    url = {home}/remote\n"
    )


def supports(home: Path, link: str) -> bool:
    """Return whether DVC can make such links in a project."""
    (home / "project/one").write_text("one")
    command = "dvc add one && rm one && dvc checkout one.dvc"
    done = subprocess.run(command, shell=True, cwd=home / "project", capture_output=True)
    return done.returncode == 0


def measure(home: Path, count: int) -> dict[str, Figures]:
    """Return the figures of every command on so many files."""
    project = home / "project"
    files = project / "files"
    for i in range(count):
        path = files / f"{i % FOLDERS}/{i:07}.txt"
        if i < FOLDERS:
            path.parent.mkdir(parents=True)
        path.write_text(f"{i:07} " * 12)
    (project / "dvc.yaml").write_text(STAGE)

    def dvc(*words: str) -> Figures:
        return run("dvc", *words, cwd=project)

    done = {"`dvc add`": dvc("add", "files")}
    dvc("repro")
    done["`dvc add`, nothing changed"] = dvc("add", "files")
    done["`dvc status`, nothing changed"] = dvc("status")
    done["`dvc repro` with nothing to do"] = dvc("repro")
    dvc("config", "core.check_update", "true")
    done["the same with `core.check_update`"] = dvc("repro")
    dvc("config", "core.check_update", "false")
    done["`dvc push` to a folder"] = dvc("push")
    done["`dvc push`, nothing changed"] = dvc("push")
    shutil.rmtree(files)
    done["`dvc checkout` of all files"] = dvc("checkout", "files.dvc")
    done["`dvc checkout`, nothing changed"] = dvc("checkout", "files.dvc")
    shutil.rmtree(files)
    shutil.rmtree(project / ".dvc/cache/files")
    done["`dvc pull` of all files"] = dvc("pull", "files.dvc")
    (files / "0/another.txt").write_text("another")
    done["one file more: `dvc status`"] = dvc("status")
    done["one file more: `dvc add`"] = dvc("add", "files")
    done["one file more: `dvc push`"] = dvc("push", "files.dvc")
    return done


def table(results: dict[str, dict[str, Figures]]) -> str:
    """Return seconds, and CPU seconds in brackets, as a Markdown table."""
    lines = [f"| | {' | '.join(results)} |", "|---" * (len(results) + 1) + "|"]
    for name in next(iter(results.values()), {}):
        cells = [f"{each[name]['seconds']} ({each[name]['cpu']})" for each in results.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    peak = [f"{max(row['mb'] for row in each.values()):.0f}" for each in results.values()]
    return "\n".join([*lines, f"| highest memory, MB | {' | '.join(peak)} |"])


if __name__ == "__main__":
    main()
