"""What `pawprint publish` sends: the files of export/, as a model and as a Space.

export/ must be what dvc.lock records, byte for byte, so nothing that was put there by hand goes up.
Hidden files and compiled Python are no part of it. The README.md of each repository has the keys
that the Hub reads there.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pawprint.exporting.front import split_front, with_front
from pawprint.exporting.hashes import dvc_hash, hash_of_files
from pawprint.params import StageError, load_yaml
from pawprint.tables import read_json

EXPORT = Path("export")
BROWSER = "browser/"  # the static Space, in export/
FIGURES = Path("metrics/export.json")
OF_SPACE = (
    *("title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version"),
    *("app_file", "pinned"),
)
OF_BOTH = ("license",)
TOKEN = re.compile(rb"hf_[A-Za-z0-9]{30,}")


@dataclass(frozen=True)
class Upload:
    """The files of one repository by name. kind: `model` or `space`; sdk: of a Space, or ""."""

    kind: str
    files: dict[str, bytes]
    sdk: str = ""


@dataclass(frozen=True)
class About:
    """What is published. model: its name; test: its error; commit: of the project, "" if none."""

    model: str
    test: dict[str, Any]
    commit: str = ""


def read_export() -> dict[str, Path]:
    """Return the files of export/ by name.

    Raises StageError if the folder is missing, or is not what dvc.lock records.
    """
    if not EXPORT.is_dir():
        raise StageError("export/ is missing: `dvc repro` makes it, or `dvc pull` fetches it")
    recorded = recorded_hashes()
    files = {
        path.relative_to(EXPORT).as_posix(): path
        for path in EXPORT.rglob("*")
        if path.is_file() and not is_litter(path.relative_to(EXPORT))
    }
    if hash_of_files(files) != recorded.get("export"):
        raise StageError(
            "export/ is not what dvc.lock records: `dvc repro` makes it again, or `dvc checkout "
            "export` restores it"
        )
    if FIGURES.is_file() and dvc_hash(FIGURES) != recorded.get(FIGURES.as_posix()):
        raise StageError(f"{FIGURES} is not what dvc.lock records: `dvc repro` makes it again")
    return files


def recorded_hashes() -> dict[str, str]:
    """Return what dvc.lock says of the outputs of the stage export, by path."""
    lock = load_yaml(Path("dvc.lock"))
    try:
        return {out["path"]: out["md5"] for out in lock["stages"]["export"]["outs"]}
    except (KeyError, TypeError):
        raise StageError("dvc.lock does not know the stage export: run `dvc repro`") from None


def is_litter(path: Path) -> bool:
    """Return whether a file in export/ is no part of it: hidden, or compiled Python."""
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def read_about() -> About:
    """Return what metrics/export.json and git say of the model. Raises StageError if it is gone."""
    figures = read_json(FIGURES)
    try:
        return About(figures["model"], figures["test"], git_commit())
    except KeyError as error:
        raise StageError(f"{FIGURES} has no {error}: `dvc repro` makes it again") from None


def git_commit() -> str:
    """Return the commit of the project, and whether there are changes since; "" without git."""

    def git(*words: str) -> str:
        try:
            done = subprocess.run(["git", *words], capture_output=True, text=True)
        except OSError:
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "HEAD")
    changed = bool(commit and git("status", "--porcelain", "--untracked-files=no"))
    return f"{commit} with changes that are not committed" if changed else commit


def choose_space(wanted: str, files: dict[str, Path]) -> str:
    """Return which Space to publish: gradio, browser or none.

    wanted: one of these, or auto: the static one if it is there, because it costs nothing. Raises
    StageError if export/ does not hold the one that is wanted.
    """
    there = {"browser": f"{BROWSER}index.html" in files, "gradio": "app.py" in files}
    if wanted == "auto":
        return next((name for name, is_there in there.items() if is_there), "none")
    if wanted != "none" and not there[wanted]:
        raise StageError(
            f"--space {wanted}: export/ holds no such page; set export.page in params.yaml and run "
            "`dvc repro`, or use --space none"
        )
    return wanted


def uploads_of(files: dict[str, Path], space: str, repo: str) -> list[Upload]:
    """Return what goes into the repositories. space: from `choose_space`; repo: of the model."""
    content = {name: path.read_bytes() for name, path in files.items()}
    front, rest = split_front(content["README.md"].decode("utf-8"), "export/README.md")
    plain = {name: each for name, each in content.items() if not name.startswith(BROWSER)}
    card = {key: value for key, value in front.items() if key not in OF_SPACE}
    uploads = [Upload("model", plain | {"README.md": with_front(card, rest).encode("utf-8")})]
    keys = {key: front[key] for key in (*OF_SPACE, *OF_BOTH) if key in front}
    if space == "gradio":
        readme = with_front(keys | {"models": [repo]}, rest)
        uploads.append(Upload("space", plain | {"README.md": readme.encode("utf-8")}, "gradio"))
    elif space == "browser":
        page = {
            name.removeprefix(BROWSER): each
            for name, each in content.items()
            if name.startswith(BROWSER)
        }
        readme = static_readme(page.get("README.md", b"").decode("utf-8"), keys, repo)
        uploads.append(Upload("space", page | {"README.md": readme.encode("utf-8")}, "static"))
    return uploads


def static_readme(own: str, keys: dict[str, Any], repo: str) -> str:
    """Return the README.md of a static Space. own: the one it has, "" if none.

    keys: of the model's card, whose licence it has, and whose title and colours if it has none.
    """
    if own:
        front, rest = split_front(own, f"export/{BROWSER}README.md")
    else:
        front = {k: v for k, v in keys.items() if k not in ("sdk_version", "python_version")}
        rest = f"\n# {keys.get('title', repo)}\n\nThe model is [{repo}](/{repo}).\n"
    front.pop("license", None)
    front |= {key: keys[key] for key in OF_BOTH if key in keys}
    front |= {"sdk": "static", "app_file": "index.html", "models": [repo]}
    return with_front(front, rest)


def refuse_secrets(uploads: list[Upload], token: str) -> None:
    """Raise StageError if a file holds a token of the Hub. token: the one in use, or ""."""
    for upload in uploads:
        for name, content in upload.files.items():
            if (token and token.encode() in content) or TOKEN.search(content):
                raise StageError(f"export/{name} holds a token of the Hub; it is not published")
