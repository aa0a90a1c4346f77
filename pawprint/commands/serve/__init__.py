"""`pawprint serve`: a page and an interface over HTTP to ask the exported model about a picture.

Nothing that a client sends is run or shown back; what is too large is refused before it is decoded.
Nothing is written to disk but what --log and --keep-images ask for.
"""

import argparse
import re
from pathlib import Path

from pawprint.commands.answers import Keeper, Log, model_id
from pawprint.commands.exported import add_runtime, load
from pawprint.commands.nearest import find_known
from pawprint.commands.serve.app import Limits, Record, make_app
from pawprint.commands.web import Access, add_server_arguments, between, is_loopback, run_server

PROBES = frozenset({"/healthz", "/metrics"})  # asked by machines, under names we cannot know
HINT = "ask it as localhost or by its IP address, or start it with --allow-host NAME"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `pawprint serve`."""
    parser.add_argument(
        "export", type=Path, nargs="?", default=Path("export"), help="the exported folder"
    )
    add_server_arguments(parser, port=8000)
    add_runtime(parser)
    parser.add_argument(
        "--allow-host",
        type=name_of_host,
        action="append",
        default=[],
        metavar="NAME",
        help="a further name under which the server is asked, as by a proxy; may be repeated",
    )
    parser.add_argument(
        "--max-megabytes",
        type=between(float, 0.001, 1000),
        default=10,
        help="a larger body is refused with 413",
    )
    parser.add_argument(
        "--max-megapixels",
        type=between(float, 0.001, 1000),
        default=50,
        help="a larger picture is refused with 422",
    )
    parser.add_argument(
        "--log", type=Path, help="append a line for each answer to this CSV, for `pawprint drift`"
    )
    parser.add_argument(
        "--keep-images",
        type=Path,
        metavar="DIR",
        help="keep the pictures too, in DIR/sure/LABEL/ and DIR/unsure/LABEL/",
    )
    parser.add_argument(
        "--queue",
        type=between(int, 1, 10_000),
        default=32,
        help="pictures that may wait; more are refused with 503",
    )


def name_of_host(text: str) -> str:
    """Return the name that --allow-host gives, in lower case."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", text):
        raise argparse.ArgumentTypeError(f"{text} should be a name such as bears.example.org")
    return text.lower()


def run(arguments: argparse.Namespace) -> None:
    """Serve until stopped; requests under way are finished first."""
    # one core per picture: the server asks about several at a time
    classifier = load(arguments.export, threads=1, runtime=arguments.runtime)
    records: list[Record] = []
    if arguments.log:
        log = Log(arguments.log, model_id(arguments.export))
        records.append(lambda content, sha256, suffix, answer: log.add(sha256, answer))
    if arguments.keep_images:
        records.append(Keeper(arguments.keep_images, arguments.export).keep)
    limits = Limits(
        content=int(arguments.max_megabytes * 1e6),
        pixels=int(arguments.max_megapixels * 1e6),
        queue=arguments.queue,
    )
    access = Access(
        loopback=is_loopback(arguments.host),
        names=frozenset(arguments.allow_host),
        probes=PROBES,
        hint=HINT,
    )
    card = arguments.export / "README.md"
    about = {
        "card": card.read_text(encoding="utf-8", errors="replace") if card.is_file() else "",
        "keeps_pictures": bool(arguments.keep_images),
    }
    known = find_known(classifier, arguments.export)
    app = make_app(classifier, limits, access, records, about, known)
    run_server(app, "serve", arguments.host, arguments.port)
