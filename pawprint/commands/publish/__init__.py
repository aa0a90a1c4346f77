"""`pawprint publish`: push export/ to the Hub, as a model repository and as a Space.

A repository is created private, unless --public says otherwise. A second publication is one commit
that says what changed. A token comes from HF_TOKEN or from `hf auth login`, by the library
huggingface_hub; it is never written or printed. HF_ENDPOINT names another server.
"""

import argparse
import sys
from pathlib import Path

from pawprint.commands.publish.folder import (
    Upload,
    choose_space,
    read_about,
    read_export,
    refuse_secrets,
    uploads_of,
)
from pawprint.commands.publish.hub import Change, check_name, compare, open_hub, publish
from pawprint.exporting.front import split_front
from pawprint.params import StageError, load_yaml


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `pawprint publish`."""
    add = parser.add_argument
    add("--repo", default="", help="OWNER/NAME, or NAME of yours; default: that of gather.source")
    add(
        "--space",
        choices=("auto", "gradio", "browser", "none"),
        default="auto",
        help="the page to publish beside the model; auto: browser if it is there, else gradio",
    )
    add("--public", action="store_true", help="let everybody see it; without it, only you")
    add("--dry-run", action="store_true", help="show the files, and ask or send nothing")


def run(arguments: argparse.Namespace) -> None:
    """Publish, and print a line per repository. Exits with one line if it cannot be done."""
    try:
        push(arguments)
    except StageError as error:
        sys.exit(f"pawprint: {error}")


def push(arguments: argparse.Namespace) -> None:
    """Publish, or show what would be. Raises StageError if it cannot be done."""
    files, about = read_export(), read_about()
    space = choose_space(arguments.space, files)
    repo = arguments.repo or str(load_yaml(Path("params.yaml"))["gather"]["source"])
    check_name(repo)
    if arguments.dry_run:
        uploads = uploads_of(files, space, repo)
        refuse_secrets(uploads, "")
        for upload in uploads:
            show(upload, repo if "/" in repo else f"USER/{repo}", arguments.public)
        return
    api, user, token = open_hub()
    repo = repo if "/" in repo else f"{user}/{repo}"
    uploads = uploads_of(files, space, repo)
    refuse_secrets(uploads, token)
    changes = [compare(api, upload, repo, arguments.public) for upload in uploads]
    for change in changes:
        place = f"{api.endpoint}/{'spaces/' if change.upload.kind == 'space' else ''}{repo}"
        if change.is_empty:
            print(f"nothing to publish: {change.upload.kind} {repo} is at {change.head} ({place})")
            continue
        commit = publish(api, change, about, arguments.public)
        print(f"published {change.upload.kind} {repo}: {said(change)}, commit {commit} ({place})")
    say_licence(uploads[0])


def said(change: Change) -> str:
    """Return how many files were added, changed and deleted."""
    counts = {"added": change.added, "changed": change.changed, "deleted": change.deleted}
    return ", ".join(f"{len(names)} {word}" for word, names in counts.items() if names)


def show(upload: Upload, repo: str, is_public: bool) -> None:
    """Print the files of a repository with their sizes."""
    seen = "public" if is_public else "private"
    print(f"{upload.kind} {repo} ({seen}{f', {upload.sdk}' if upload.sdk else ''})")
    for name, content in sorted(upload.files.items()):
        print(f"{len(content):>12,}  {name}")


def say_licence(model: Upload) -> None:
    """Say on stderr if the model states no licence."""
    front, _ = split_front(model.files["README.md"].decode("utf-8"), "README.md")
    if "license" not in front:
        print(
            "the model states no licence; export.licence in params.yaml is for it", file=sys.stderr
        )
