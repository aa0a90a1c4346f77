"""How the report of `pawprint use` is written."""


def said(word: str, text: str) -> str:
    """Return a line of the report."""
    return f"{word:10} {text}"


def named(names: list[str]) -> str:
    """Return names in one line, the first and the last if they are many."""
    return ", ".join(names if len(names) <= 12 else [*names[:6], "…", *names[-3:]])
