"""Is a review positive or negative? Which terms it holds, weighed by logistic regression.

Reads data/raw/texts.csv (label, text, is_valid). Writes metrics/baseline.json, metrics/choice.csv
(what each setting reached on folds of the train split), data/terms.csv (the terms that speak most
for either side) and data/answers.csv (the table with the answers, for the transformer to compare).
The settings are chosen on folds of the train split; the test split, where is_valid is True, is
asked once.
Source: Wang and Manning, "Baselines and bigrams", ACL 2012.
"""

import itertools
import re
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline

from pawprint.judging.errors import wilson
from pawprint.params import Params, StageError, load_params, run_stage
from pawprint.tables import read_table, require_columns, write_json, write_table

TABLE = "data/raw/texts.csv"
SHOWN = 20  # terms for each side in data/terms.csv


class BaselineParams(Params):
    """The section `baseline` of params.yaml."""

    words: list[Annotated[int, Field(ge=1, le=5)]] = Field(min_length=1)
    min_reviews: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    inverse_penalty: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)
    folds: int = Field(ge=2, le=20)
    seed: int = Field(ge=0, lt=2**32)


def main() -> None:
    params = load_params("baseline", BaselineParams)
    table = read_reviews(params.folds)
    is_test = (table["is_valid"] == "True").to_numpy()
    train, test = table[~is_test], table[is_test]
    y = (train["label"] == "positive").to_numpy()
    folds = StratifiedKFold(params.folds, shuffle=True, random_state=params.seed)

    # the settings that do best on folds of the train split
    choice = []
    for words, min_reviews, c in itertools.product(
        params.words, params.min_reviews, params.inverse_penalty
    ):
        said = ask_by_folds(make_model(words, min_reviews, c), train["text"], y, folds)
        row = {"words": words, "min_reviews": min_reviews, "inverse_penalty": c}
        choice.append(row | {"log_loss": log_loss(y, said), "accuracy": ((said > 0.5) == y).mean()})
    write_table("metrics/choice.csv", pd.DataFrame(choice))
    best = min(choice, key=lambda row: row["log_loss"])

    # on the test split, beside the more frequent label
    chosen = {key: best[key] for key in ("words", "min_reviews", "inverse_penalty")}
    model = make_model(*chosen.values()).fit(train["text"], y)
    said = model.predict_proba(test["text"])[:, 1]
    wanted = (test["label"] == "positive").to_numpy()
    figures = {
        "majority": judge(np.full(len(wanted), y.mean()), wanted),
        "tfidf": judge(said, wanted),
    }
    write_json("metrics/baseline.json", {"reviews": len(test), "chosen": chosen, "test": figures})
    write_table("data/terms.csv", telling_terms(model))
    table.loc[is_test, "p_positive"] = said
    write_table("data/answers.csv", table)


def read_reviews(folds: int) -> pd.DataFrame:
    """Return the reviews. Raises StageError for a table without its columns, or an odd cell."""
    table = read_table(TABLE)
    require_columns(table, ("label", "text", "is_valid"), TABLE)
    for name, allowed in (("label", ["negative", "positive"]), ("is_valid", ["False", "True"])):
        for row in table.index[~table[name].isin(allowed)]:
            cell = table.loc[row, name]
            raise StageError(
                f"{TABLE}, row {row + 1}: {name} is {cell[:80]!r}; it should be "
                f"{' or '.join(allowed)}"
            )
    counts = table.groupby(["is_valid", "label"]).size()
    if len(counts) < 4 or counts.min() < folds:
        raise StageError(
            f"{TABLE}: needs {folds} reviews of each label to train on, for as many folds, and as "
            "many for the test"
        )
    return table


def ask_by_folds(
    model: Pipeline, texts: pd.Series, y: np.ndarray, folds: StratifiedKFold
) -> np.ndarray:
    """Return the probability of positive for each review, by a model that has not seen it.

    Raises StageError if no term is in enough reviews.
    """
    try:
        return cross_val_predict(model, texts, y, cv=folds, method="predict_proba")[:, 1]
    except ValueError as error:
        if not re.search("no terms remain|vocabulary|min_df", str(error)):
            raise
        raise StageError(
            f"{TABLE}: {error}; give more words, or lower baseline.min_reviews"
        ) from None


def make_model(words: int, min_reviews: int, inverse_penalty: float) -> Pipeline:
    """Return TF-IDF of runs of words, with the counts' logarithms, and logistic regression."""
    terms = TfidfVectorizer(ngram_range=(1, words), min_df=min_reviews, sublinear_tf=True)
    return make_pipeline(terms, LogisticRegression(C=inverse_penalty, solver="liblinear"))


def judge(said: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """Return accuracy with its 95 % interval, and log loss. said: probability of positive."""
    right = int(((said > 0.5) == wanted).sum())
    low, high = wilson(right, len(wanted))
    accuracy = {"accuracy": right / len(wanted), "low": low, "high": high}
    return accuracy | {"log_loss": log_loss(wanted, said, labels=[False, True])}


def telling_terms(model: Pipeline) -> pd.DataFrame:
    """Return the terms with the lowest and the highest weights: term, weight."""
    terms, weights = model[0].get_feature_names_out(), model[1].coef_[0]
    table = pd.DataFrame({"term": terms, "weight": weights}).sort_values(["weight", "term"])
    return pd.concat([table[:SHOWN], table[max(SHOWN, len(table) - SHOWN) :]])


if __name__ == "__main__":
    run_stage(main)
