"""The `pawprint` command, also `python -m pawprint`.

Each subcommand is a module of pawprint/commands with `add_arguments(parser)` and `run(arguments)`.
It is imported when it is asked for.
"""

import argparse
import errno
import importlib
import os
import sys

COMMANDS = {
    "use": "look at your pictures, say what they are, and make them the source",
    "predict": "say what the exported model sees in files and folders",
    "serve": "open a page and an interface over HTTP to ask the exported model",
    "drift": "say whether the answers in use are still those of the valid pictures",
    "review": "look through the pictures and keep, delete or relabel them, in a browser",
    "suggest": "rank unlabelled pictures by what they would teach, and label them in a browser",
    "compare": "train or probe several architectures on your pictures: error against speed",
    "publish": "push export/ to the Hugging Face Hub, as a model and as a Space",
    "changes": "say what changed between two commits, as a comment for a pull request",
    "summary": "say in a few lines what the last run gave and where to look",
}


def main(argv: list[str] | None = None) -> None:
    """Run the subcommand that the command line names."""
    parser = argparse.ArgumentParser(
        prog="pawprint", description="What people run by hand around `dvc repro`."
    )
    subparsers = parser.add_subparsers(dest="command", required=True)
    words = sys.argv[1:] if argv is None else argv
    wanted = next((word for word in words if word in COMMANDS), None)
    for name, text in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=text, description=text)
        if name == wanted:
            module = importlib.import_module(f"pawprint.commands.{name}")
            module.add_arguments(subparser)
    arguments = parser.parse_args(argv)
    try:
        try:
            module.run(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # `pawprint predict … | head` has read enough
        drop_output()
        sys.exit(141)  # as a shell says of a program that a closed pipe ended
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        drop_output()
        sys.exit(f"pawprint: {error.filename or 'the output'} cannot be written: {error.strerror}")
    except KeyboardInterrupt:
        sys.exit("pawprint: stopped from the keyboard")


def drop_output() -> None:
    """Let what is still to be written go nowhere: Python would try again at its end, and say so."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
