"""`pawprint review`: look through the pictures and keep, delete or relabel them, in a browser.

Every decision is written at once to data/decisions.csv, from which `dvc repro` applies it. Nothing
is kept in the page or in this process: after a reload, in a second tab, and in a second server the
same file counts. The pictures are those of data/split.csv; the orders to look through them come
from the tables of interpret and clean.
"""

import argparse
import getpass
import secrets
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from pawprint.commands.review.api import create_app
from pawprint.commands.review.shelf import ProjectShelf, Shelf, state_of
from pawprint.commands.web import add_server_arguments, is_loopback, run_server
from pawprint.params import StageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `pawprint review`."""
    parser.add_argument("root", nargs="?", type=Path, default=Path(), help="the project's folder")
    add_server_arguments(parser, port=8008)
    parser.add_argument("--by", default="", help="your name, written beside every decision")


def run(arguments: argparse.Namespace) -> None:
    """Serve the page until stopped from the keyboard."""
    split = arguments.root / "data/split.csv"
    if not split.is_file():
        sys.exit(f"pawprint: {split} is missing: `dvc repro split` makes it")
    serve_page(arguments, "review", arguments.root)


def serve_page(
    arguments: argparse.Namespace, name: str, root: Path, shelf: Shelf | None = None
) -> None:
    """Serve the page of a command over the project in `root` until stopped.

    shelf: other pictures than those of the project.
    """
    # whoever can reach another address than loopback must know a secret
    token = "" if is_loopback(arguments.host) else secrets.token_urlsafe(16)
    shelf = shelf or ProjectShelf(root)
    app = create_app(shelf, token, arguments.by or user_name())
    # read the tables while the browser starts
    threading.Thread(target=read_ahead, args=(shelf,), daemon=True).start()
    query = f"?token={token}" if token else ""
    quiet: dict[str, Any] = {"log_level": "warning", "access_log": False}
    run_server(app, name, arguments.host, arguments.port, query, **quiet)


def read_ahead(shelf: Shelf) -> None:
    """Read what the first page needs; what is not understood is told by the page."""
    with suppress(StageError, OSError):
        catalogue = shelf.read()[1]
        catalogue.arrange(next(iter(catalogue.orders)))
        state_of(shelf)
        shelf.features(catalogue)


def user_name() -> str:
    """Return the name of this process's user, or "" if it has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
