"""The page of `pawprint predict --explain`: each picture, the answer, and why the model gave it.

One HTML file with its pictures inside, so that it works offline and can be sent on.
"""

import base64
import io
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from pawprint.commands.nearest import find_known, thumbnail
from pawprint.exporting.shipped.predict import SHOWN, Classifier, Picture, overlay, title_of
from pawprint.pictures.opening import Unusable

PAGES = Path(__file__).parent / "pages"
THEME = Path(__file__).parents[1] / "judging/theme.css"
SIDE = 224  # pixels a side of a picture on the page

Row = dict[str, Any]  # as `pawprint predict` writes it; here with its pictures too


class Explanations:
    """Asks a model about pictures, and collects what the page shows of the answers."""

    def __init__(self, classifier: Classifier, export: Path, folder: Path) -> None:
        """export: the model's folder; folder: where index.html is written.

        Exits with one line if the model does not explain itself, or the folder cannot be made.
        """
        if not classifier.explains:
            sys.exit(
                f"pawprint: --explain: the model in {export} does not explain itself; "
                "set export.explain: true and run `dvc repro export`"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            sys.exit(f"pawprint: --explain {folder} cannot be made: {error.strerror}")
        self.classifier, self.file = classifier, folder / "index.html"
        self.known = find_known(classifier, export)
        self.small: dict[str, str] = {}  # thumbnails by name
        self.shown: list[Row] = []

    def ask(self, picture: Picture) -> Row:
        """Return the answer about a picture, with its reasons and the pictures of the page."""
        prepared = self.classifier.prepare(picture)
        (answer,) = self.classifier.classify([prepared], explain=True)
        pictures = [Image.fromarray(prepared)]
        if "heat" in answer:
            pictures.append(overlay(prepared, answer["heat"]))
        return {**answer, "pictures": [data_address(each) for each in pictures]}

    def collect(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows without their pictures, and keep what the page shows of them."""
        for row in rows:
            self.shown.append(
                {
                    **row,
                    "ranked": sorted(
                        row.get("probabilities", {}).items(), key=lambda pair: -pair[1]
                    )[:SHOWN],
                    "near": [
                        {**each, "thumbnail": self.thumbnail(each["picture"])}
                        for each in row.get("nearest", [])
                    ],
                }
            )
            yield {name: value for name, value in row.items() if name != "pictures"}

    def thumbnail(self, name: str) -> str:
        """Return the data: address of a training picture, "" if it is not at hand."""
        if name not in self.small:
            try:
                content = thumbnail(self.known[name])
                self.small[name] = address_of(content)
            except (KeyError, Unusable):
                self.small[name] = ""
        return self.small[name]

    def write(self) -> None:
        """Write the page. Exits with one line if it cannot be written."""
        from jinja2 import Environment, FileSystemLoader, StrictUndefined  # nothing else needs it

        environment = Environment(
            loader=FileSystemLoader(PAGES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        text = environment.get_template("explain.html.j2").render(
            title=title_of(self.classifier.config["classes"]),
            rows=self.shown,
            maps="maps" in self.classifier.explains,
            theme=THEME.read_text(encoding="utf-8"),
        )
        partial = self.file.with_name(".index.html.partial")
        try:
            partial.write_bytes(text.encode("utf-8", "backslashreplace"))
            partial.replace(self.file)
        except OSError as error:
            sys.exit(f"pawprint: {self.file} cannot be written: {error.strerror}")
        print(f"pawprint: {self.file} says why", file=sys.stderr)


def data_address(image: Image.Image) -> str:
    """Return a picture as the data: address of a JPEG of SIDE pixels a side."""
    buffer = io.BytesIO()
    image.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
    return address_of(buffer.getvalue())


def address_of(jpeg: bytes) -> str:
    """Return the data: address of a JPEG."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
