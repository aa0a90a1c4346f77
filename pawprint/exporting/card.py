"""The model card: README.md of the exported folder, with the front matter of a Space."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pawprint.exporting.shipped.predict import title_of
from pawprint.params import load_yaml
from pawprint.training.recipe import TrainParams
from pawprint.training.stored import ModelConfig

SHIPPED = Path("pawprint/exporting/shipped")
NAMED = 30  # classes up to which the card names all in its first lines
PAIRS = 20  # confused pairs that it lists at most


def model_card(
    config: ModelConfig, params: TrainParams, split: pd.DataFrame, **figures: Any
) -> str:
    """Render the model card.

    split: data/split.csv, for the counts. figures: model (its name), source, baseline, test,
    confusions, difference, stranger, int8 and page, as the template README.md.j2 uses them.
    """
    environment = Environment(
        loader=FileSystemLoader(SHIPPED),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    counts = pd.crosstab(split["label"], split["split"]).to_dict("index")
    return environment.get_template("README.md.j2").render(
        title=title_of(config.classes),
        named=NAMED,
        pairs=PAIRS,
        classes=config.classes,
        config=asdict(config),
        params=params,
        pictures=split["split"].value_counts().to_dict(),
        counts=counts,
        not_tested=[name for name in config.classes if not counts[name]["test"]],
        hashes=dependencies(),
        **figures,
    )


def dependencies() -> dict[str, str]:
    """Return the DVC hash of everything that dvc.yaml names as a dependency of the stage export."""
    paths = load_yaml(Path("dvc.yaml"))["stages"]["export"]["deps"]
    return {path: dvc_hash(Path(path)) for path in paths if "$" not in path}


def dvc_hash(path: Path) -> str:
    """Return DVC's hash of a file or a folder, as dvc.lock has it.

    A file's is its md5. A folder's is the md5 of the list of its files and their hashes as JSON,
    followed by `.dir`.
    """
    if path.is_file():
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    files = [each for each in path.rglob("*") if each.is_file() and "__pycache__" not in each.parts]
    entries = [
        {"md5": dvc_hash(each), "relpath": each.relative_to(path).as_posix()} for each in files
    ]
    entries.sort(key=lambda entry: entry["relpath"])
    return hashlib.md5(json.dumps(entries).encode(), usedforsecurity=False).hexdigest() + ".dir"
