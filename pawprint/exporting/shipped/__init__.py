"""The files of export/ that are the same for every model. The library imports predict.py too.

page/ is the page of `pawprint serve` and of the static Space; the script ask.js, which asks the
model, is another in each. browser/ has that of the static Space, and what it needs beside it.
"""

from pathlib import Path

PAGE = Path(__file__).parent / "page"
