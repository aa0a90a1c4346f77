"""`pawprint suggest FOLDER`: rank unlabelled pictures by what they would teach, and label them.

The pictures that the model is unsure about and that are unlike those it has learned from come
first, one of each kind; see pawprint/judging/suggestions.py. Near duplicates of known pictures are
left out. `pawprint review`'s page shows the first ones with the model's proposal. What is kept or
relabelled there is copied into the folder `gather.added`, which gather reads beside any source, so
that the next `dvc repro` trains with it. Every decision is in data/suggested.csv.
"""

import argparse
import sys
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from pawprint.commands.review import serve_page
from pawprint.commands.suggest.looking import Candidates, look_through
from pawprint.commands.suggest.shelf import SUGGESTED, SuggestShelf
from pawprint.commands.web import add_server_arguments
from pawprint.params import Params, StageError, check, load_yaml
from pawprint.pictures.storing import VerifyParams
from pawprint.sources.names import check_path_text
from pawprint.state import SplitParams
from pawprint.tables import to_csv

PARAMS = Path("params.yaml")
COLUMNS = ("file", "image", "proposal", "probability", "unsure", "distance")


class AddedParams(Params):
    """What suggest reads of the section `gather` of params.yaml."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)
    added: Annotated[str, AfterValidator(check_path_text)] = Field()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `pawprint suggest`."""
    parser.add_argument("folder", type=Path, help="unlabelled pictures, in any folders")
    parser.add_argument("--count", type=int, default=40, help="pictures to label, 40 unless given")
    parser.add_argument("--by", default="", help="your name, written beside every decision")
    parser.add_argument(
        "--list", action="store_true", help="print the ranking as CSV; open no page"
    )
    add_server_arguments(parser, port=8009)


def run(arguments: argparse.Namespace) -> None:
    """Rank the pictures, then serve the page until stopped from the keyboard."""
    try:
        shelf = prepare(arguments.folder, arguments.count)
    except StageError as error:
        sys.exit(f"pawprint: {error}")
    if arguments.list:
        sys.stdout.write(list_candidates(shelf.candidates).decode())
        return
    serve_page(arguments, "suggest", Path(), shelf)


def prepare(folder: Path, count: int) -> SuggestShelf:
    """Return the shelf of the pictures in a folder that are worth a label.

    Raises StageError without a model, an unknown folder, or a folder without new pictures.
    """
    if not folder.is_dir():
        raise StageError(f"{folder} is not a folder; name one that holds unlabelled pictures")
    if count < 1:
        raise StageError(f"--count is {count}; it should be 1 or more")
    params = load_yaml(PARAMS)
    added = check(params.get("gather"), AddedParams, "gather", PARAMS).added
    verify = check(params.get("verify"), VerifyParams, "verify", PARAMS)
    split = check(params.get("split"), SplitParams, "split", PARAMS)
    candidates = look_through(
        folder, count, verify.preparation({}), split.near_duplicates, SUGGESTED
    )
    say(candidates)
    return SuggestShelf(candidates, Path(added))


def say(candidates: Candidates) -> None:
    """Say on stderr what was looked at and what was left out."""
    parts = [f"{candidates.seen:,} pictures"]
    for reason, count in candidates.left_out.items():
        parts.append(f"{count:,} {reason}")
    parts.append(f"{len(candidates.files)} to look at")
    print(f"suggest: {', '.join(parts)}", file=sys.stderr)


def list_candidates(candidates: Candidates) -> bytes:
    """Return the ranking as CSV, the picture that would teach most first."""
    rows = [
        (
            file,
            candidates.names[i],
            candidates.proposals[i],
            f"{candidates.probability[i]:.4f}",
            f"{candidates.unsure[i]:.4f}",
            f"{candidates.distance[i]:.4f}",
        )
        for i, file in enumerate(candidates.files)
    ]
    return to_csv(COLUMNS, rows)
