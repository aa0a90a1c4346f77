"""The report of the stage interpret: one HTML page that works offline, and the confusion matrix.

The template is report.html.j2 beside this file.
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageOps

from pawprint.judging.correlations import STRONG, Correlation, strongest
from pawprint.judging.errors import BASELINES, NAMES
from pawprint.judging.figures import (
    MATRIX,
    confusion_matrix,
    most_confused,
    not_measured,
    worst_classes,
)
from pawprint.judging.fonts import choose_file
from pawprint.judging.licences import LicenceCount
from pawprint.judging.picture_faults import Fault
from pawprint.pictures.opening import AS_STORED, open_picture
from pawprint.tables import png_of

THUMBNAIL = 160  # pixels a side
SHOWN = 8  # pictures in each of the smaller grids
WORST = 20  # pairs and classes that are listed of more than MATRIX classes


def render(
    figures: dict,
    valid: pd.DataFrame,
    worst: pd.DataFrame,
    looks: list[Image.Image],
    bins: list[dict],
    baselines: dict[str, dict],
    classes: list[str],
    faults: list[Fault],
    correlations: list[Correlation],
    licences: Sequence[LicenceCount] = (),
) -> str:
    """Render the report as one HTML page with its pictures inside.

    figures: from `summarise`; valid: rows of data/predictions.csv; worst: those of the top losses;
    looks: where the model looked, one per row of `worst`; bins: from `reliability`; baselines: the
    errors of the baselines on valid, by name; faults, correlations: of train and valid pictures and
    their labels, as `list_faults` and `find_correlations` give them; licences: of all pictures.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    confusion = confusion_matrix(valid, classes) if len(classes) <= MATRIX else None
    top_losses = [
        (thumbnail(row.path), data_address(look), row)
        for row, look in zip(worst.itertuples(), looks, strict=True)
    ]
    grids = [
        (title, text, [(thumbnail(row.path), row) for row in rows.itertuples()])
        for title, text, rows in galleries(valid, shown_classes(figures, classes))
    ]
    compared = [(NAMES[name], baselines[name]["error_rate"]) for name in BASELINES]
    return environment.get_template("report.html.j2").render(
        figures=figures,
        classes=classes,
        confusion=confusion,
        bins=bins,
        most_confused=most_confused(valid)[:WORST],
        worst_classes=worst_classes(figures)[:WORST],
        not_measured=not_measured(figures),
        worst=top_losses,
        galleries=grids,
        n_valid=figures["pictures"],
        n_wrong=figures["wrong"],
        beside=[*compared, ("this model", figures["error_rate"])],
        faults=worst_of_each(faults),
        correlations=shown_correlations(correlations),
        licences=licences,
    )


def shown_classes(figures: dict, classes: list[str]) -> list[str]:
    """Return the classes that get pictures of their own: all with any, or of many the worst."""
    if len(classes) <= MATRIX:
        return [name for name in classes if figures["classes"][name]["support"]]
    return [name for name, _ in worst_classes(figures)[:WORST]]


def worst_of_each(faults: list[Fault]) -> list[tuple[str, int, list[tuple[str, Fault]]]]:
    """Return each kind of fault, how many pictures have it, and the worst with their thumbnails."""
    by_kind: dict[str, list[Fault]] = {}
    for fault in faults:
        by_kind.setdefault(fault.kind, []).append(fault)
    return [
        (kind, len(found), [(thumbnail(fault.path), fault) for fault in found[:SHOWN]])
        for kind, found in by_kind.items()
    ]


def shown_correlations(correlations: list[Correlation]) -> list[Correlation]:
    """Return the strongest correlation of each trait, and further strong ones, WORST at most."""
    first = strongest(correlations)
    strong = [each for each in correlations if each.strength >= STRONG and each not in first]
    return sorted(first + strong[:WORST], key=lambda each: -each.strength)


def galleries(valid: pd.DataFrame, classes: list[str]) -> list[tuple[str, str, pd.DataFrame]]:
    """Return the report's smaller grids: title, what it shows, and its rows of `valid`."""
    wrong = valid["label"] != valid["prediction"]
    unsure = valid.sort_values(["probability", "path"])
    rng = np.random.default_rng(0)
    mixed = valid.iloc[rng.permutation(len(valid))]
    is_wrong = wrong.loc[mixed.index]
    grids = [
        ("Least sure", "The model hesitates most here.", unsure),
        ("Right, at random", "What it gets right, not picked.", mixed[~is_wrong]),
        ("Wrong, at random", "What it gets wrong, not picked.", mixed[is_wrong]),
    ]
    for name in classes:
        of_class = valid[valid["label"] == name].sort_values(["loss", "path"])
        missed = of_class["label"] != of_class["prediction"]
        grids.append((f"{name}: most correct", "Surest and right.", of_class[~missed]))
        grids.append((f"{name}: most incorrect", "Surest and wrong.", of_class[missed][::-1]))
    return [(title, text, rows.head(SHOWN)) for title, text, rows in grids]


def draw_confusion(valid: pd.DataFrame, classes: list[str]) -> bytes:
    """Draw as a PNG how often classes are confused; the same input gives the same bytes.

    Up to MATRIX classes it is the whole matrix, darker for a larger share of its row; above that,
    the most confused pairs as bars.
    """
    figure = Figure(layout="constrained")
    if len(classes) <= MATRIX:
        draw_matrix(figure, confusion_matrix(valid, classes))
    else:
        draw_pairs(figure, most_confused(valid)[:WORST])
    return png_of(figure, dpi=110)


def draw_matrix(figure: Figure, confusion: pd.DataFrame) -> None:
    """Draw the confusion matrix into a figure."""
    side = 2.2 + 0.7 * len(confusion)
    figure.set_size_inches(side, side)
    axes = figure.add_subplot(xlabel="predicted", ylabel="actual")
    share = confusion.to_numpy() / confusion.sum(axis=1).clip(lower=1).to_numpy()[:, None]
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    name_ticks(axes.xaxis, list(confusion.columns), rotation=45, ha="right")
    name_ticks(axes.yaxis, list(confusion.index))
    for (row, column), part in np.ndenumerate(share):
        colour = "white" if part > 0.5 else "black"
        count = str(confusion.iloc[row, column])
        axes.text(column, row, count, ha="center", va="center", color=colour)


def draw_pairs(figure: Figure, pairs: list[tuple[str, str, int]]) -> None:
    """Draw confused pairs as bars into a figure, the most frequent on top."""
    figure.set_size_inches(8, 1.2 + 0.32 * max(1, len(pairs)))
    axes = figure.add_subplot(xlabel="pictures", title="actual as predicted")
    axes.barh(range(len(pairs)), [count for _, _, count in pairs], color="#a3521d")
    name_ticks(axes.yaxis, [f"{actual} as {predicted}" for actual, predicted, _ in pairs])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.invert_yaxis()


def name_ticks(axis: Axis, names: list[str], **options: Any) -> None:
    """Name the ticks 0, 1, 2 … of an axis, each in a font that has its characters."""
    chosen = [choose_file(name) for name in names]
    axis.set_ticks(range(len(names)), [text for _, text in chosen], **options)
    for label, (path, _) in zip(axis.get_ticklabels(), chosen, strict=True):
        label.set_parse_math(False)  # `$` would begin a formula
        if path:
            label.set_fontproperties(FontProperties(fname=path, size=label.get_fontsize()))


def captions(rows: pd.DataFrame) -> list[str]:
    """Return the captions of pictures: prediction / label, loss / probability."""
    return [
        f"{r.prediction} / {r.label}\n{r.loss:.2f} / {r.probability:.2f}" for r in rows.itertuples()
    ]


def thumbnail(path: str) -> str:
    """Return a small square of a picture as a data: address."""
    return data_address(ImageOps.fit(open_picture(path, AS_STORED), (THUMBNAIL, THUMBNAIL)))


def data_address(image: Image.Image) -> str:
    """Return a picture as a data: address, about 5 kB."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
