"""Figures of a model's answers: errors, losses, calibration, and how often classes are confused."""

from collections import Counter

import numpy as np
import pandas as pd

from pawprint.judging.errors import error_of

MATRIX = 30  # classes up to which a confusion matrix is shown whole
OTHERS = "(other classes)"


def tabulate(table: pd.DataFrame, probabilities: np.ndarray, classes: list[str]) -> pd.DataFrame:
    """Return data/predictions.csv, one row per picture.

    table: columns path, label and split; probabilities: (N, classes).
    Columns: path, label, split, prediction, probability, loss (-log of the label's probability),
    margin (the label's probability less the best other's), and p_CLASS for every class.
    """
    target = table["label"].map(classes.index).to_numpy()
    rows = np.arange(len(table))
    of_label = probabilities[rows, target]
    others = probabilities.copy()
    others[rows, target] = -1
    best = probabilities.argmax(axis=1)
    answers = table[["path", "label", "split"]].assign(
        prediction=np.array(classes, dtype=object)[best],
        probability=probabilities[rows, best],
        loss=-np.log(np.maximum(of_label, 1e-12)),
        margin=of_label - others.max(axis=1),
    )
    names = [f"p_{name}" for name in classes]
    chances = pd.DataFrame(probabilities, index=answers.index, columns=names)
    return pd.concat([answers, chances], axis=1)


def summarise(answers: pd.DataFrame, classes: list[str]) -> dict[str, object]:
    """Return the error and its interval, mean loss, calibration error, and figures per class.

    The recall of a class without a picture is not measured: None, and so is its precision unless
    other pictures are taken for it.
    """
    wrong = (answers["label"] != answers["prediction"]).to_numpy()
    columns = (answers["label"], answers["prediction"], answers["label"][~wrong])
    support, taken, right = (Counter(column) for column in columns)
    per_class: dict[str, dict[str, float | None]] = {}
    for name in classes:
        n, as_it, both = support[name], taken[name], right[name]
        precision = both / as_it if as_it else 0.0 if n else None
        recall = both / n if n else None
        per_class[name] = {"precision": precision, "recall": recall, "support": n}
    return {
        **error_of(wrong),
        "loss": float(answers["loss"].mean()),
        "calibration_error": calibration_error(answers["probability"].to_numpy(), ~wrong),
        "classes": per_class,
    }


def calibration_error(probability: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Return the expected calibration error, over equal-width bins of confidence.

    It is how far confidence and accuracy lie apart, on average over the pictures.
    probability: (N,) of the predicted class; right: bool (N,).
    Source: Guo et al., "On calibration of modern neural networks", arXiv:1706.04599.
    """
    rows = reliability(probability, right, bins)
    return sum(abs(row["sure"] - row["right"]) * row["pictures"] for row in rows) / len(probability)


def reliability(
    probability: np.ndarray, right: np.ndarray, bins: int = 10
) -> list[dict[str, float | int]]:
    """Return how often the model is right at each confidence, one row per bin that holds pictures.

    probability, right: as in `calibration_error`.
    """
    index = np.minimum((probability * bins).astype(int), bins - 1)
    return [
        {
            "from": b / bins,
            "to": (b + 1) / bins,
            "pictures": int((index == b).sum()),
            "sure": float(probability[index == b].mean()),
            "right": float(right[index == b].mean()),
        }
        for b in sorted(set(index.tolist()))
    ]


def confusion_matrix(valid: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Return how often each class (row) is taken for each (column). It grows with their square."""
    counts = pd.crosstab(valid["label"], valid["prediction"])
    return counts.reindex(index=classes, columns=classes, fill_value=0)


def confusion_table(answers: pd.DataFrame) -> pd.DataFrame:
    """Return metrics/confusion.csv for DVC's confusion matrix: columns actual and predicted.

    answers: columns label and prediction. Above MATRIX classes, the most confused keep their names
    and the others are OTHERS, so that the matrix stays legible.
    """
    pairs = answers[["label", "prediction"]].set_axis(["actual", "predicted"], axis=1)
    classes = set(pairs["actual"]) | set(pairs["predicted"])
    if len(classes) <= MATRIX:
        return pairs
    confused = [
        name for actual, predicted, _ in most_confused(answers) for name in (actual, predicted)
    ]
    named = list(dict.fromkeys(confused))[: MATRIX - 1]
    return pairs.where(pairs.isin(named), OTHERS)


def most_confused(valid: pd.DataFrame) -> list[tuple[str, str, int]]:
    """Return (actual, predicted, pictures) of the confused pairs, the most frequent first."""
    wrong = valid[valid["label"] != valid["prediction"]]
    counts = wrong.groupby(["label", "prediction"]).size()
    pairs = [(actual, predicted, int(n)) for (actual, predicted), n in counts.items()]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))


def worst_classes(figures: dict) -> list[tuple[str, dict]]:
    """Return the classes and their figures, from `summarise`, the lowest recall first.

    Of equal ones, those with more pictures come first. Classes without a picture are left out.
    """
    measured = [(name, of) for name, of in figures["classes"].items() if of["support"]]
    return sorted(measured, key=lambda item: (item[1]["recall"], -item[1]["support"], item[0]))


def not_measured(figures: dict) -> list[str]:
    """Return the classes without a picture, from `summarise`: they have no error of their own."""
    return [name for name, of in figures["classes"].items() if not of["support"]]
