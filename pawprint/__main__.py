"""The `pawprint` command, also `python -m pawprint`.

Each subcommand is a module of pawprint/commands with `add_arguments(parser)` and `run(arguments)`.
It is imported when it is asked for.
"""

import argparse
import importlib
import sys

COMMANDS = {
    "predict": "say what the exported model sees in files and folders",
    "serve": "open a page and an interface over HTTP to ask the exported model",
    "drift": "say whether the answers in use are still those of the valid pictures",
    "review": "look through the pictures and keep, delete or relabel them, in a browser",
    "compare": "train several architectures on your pictures: error against speed",
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
    module.run(arguments)


if __name__ == "__main__":
    main()
