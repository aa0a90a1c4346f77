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
from pathlib import Path

from pawprint.commands.review.api import create_app
from pawprint.commands.web import add_server_arguments, is_loopback, run_server


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
    # whoever can reach another address than loopback must know a secret
    token = "" if is_loopback(arguments.host) else secrets.token_urlsafe(16)
    app = create_app(arguments.root, token, arguments.by or user_name())
    query = f"?token={token}" if token else ""
    quiet = {"log_level": "warning", "access_log": False}
    run_server(app, "review", arguments.host, arguments.port, query, **quiet)


def user_name() -> str:
    """Return the name of this process's user, or "" if it has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
