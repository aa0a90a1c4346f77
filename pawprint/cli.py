"""The `pawprint` command: a module of this package for each subcommand, imported when it is asked for."""

import argparse
import importlib
import sys

COMMANDS = {
    "predict": "say what the exported model sees in files and folders",
    "serve": "open a page and an interface over HTTP to ask the exported model",
    "drift": "say whether the answers in use are still those of the valid pictures",
    "review": "look through the pictures and keep, delete or relabel them, in a browser",
    "compare": "train several architectures on your pictures: error against speed, as a table and a plot",
    "summary": "say in a few lines what the last run gave and where to look",
}


def main(argv: list[str] | None = None) -> None:
    """Run the subcommand that the command line names; its module gives `add_arguments(parser)` and `run(arguments)`."""
    parser = argparse.ArgumentParser(prog="pawprint", description="What people run by hand around `dvc repro`.")
    subparsers = parser.add_subparsers(dest="command", required=True)
    wanted = next((word for word in (sys.argv[1:] if argv is None else argv) if word in COMMANDS), None)
    for name, help in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=help, description=help)
        if name == wanted:
            module = importlib.import_module(f"pawprint.{name}")
            module.add_arguments(subparser)
    arguments = parser.parse_args(argv)
    module.run(arguments)
