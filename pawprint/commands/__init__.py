"""Commands: one module for each `pawprint` subcommand, for people; stages do not use them."""
