"""`python -m pawprint` is the `pawprint` command."""

from pawprint.cli import main

main()
