"""What the lessons' models reach, on what they draw and on real data."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pawprint.tables import read_json
from tests.support.project import PHOTOS

REAL = PHOTOS / "lessons"


def use_real(lesson, name: str) -> None:
    """Gather from the real data of this kind; skip where it is not."""
    if not (REAL / name).exists():
        pytest.skip(f"there is no {REAL.name}/{name}")
    lesson.edit(**{"gather.source": str(REAL / name)})


def test_sgd_ends_at_the_least_squares(lesson):
    sgd = lesson("sgd")
    sgd.edit(**{"fit.steps": 300, "fit.stop_below": 0})
    sgd.run()
    found = read_json(sgd.path / "metrics/fit.json")
    assert found["loss"] == pytest.approx(found["loss_of_least_squares"], rel=1e-5)
    assert found["loss"] < 0.1 * found["loss_of_the_mean"]
    losses = pd.read_csv(sgd.path / "metrics/steps.csv")["loss"]
    assert len(losses) == 301
    assert (losses.diff().dropna() <= 1e-9).all()


def test_sgd_says_that_the_rate_is_too_high(lesson):
    sgd = lesson("sgd")
    sgd.edit(**{"fit.lr": 100.0, "fit.steps": 2000})
    assert "lower fit.lr" in sgd.fail()


def test_mnist_by_hand_and_with_modules_is_the_same_training(lesson):
    mnist = lesson("mnist")
    mnist.edit(**{"gather.size": 300, "fit.epochs": 20})
    mnist.run()
    losses = pd.read_csv(mnist.path / "metrics/loss.csv")
    for model in ("linear", "net"):
        by_hand, module = losses[f"{model}_by_hand"], losses[f"{model}_module"]
        assert by_hand.to_numpy() == pytest.approx(module.to_numpy(), rel=1e-4)
        assert by_hand.iloc[-1] < 0.5 * by_hand.iloc[0]
    valid = read_json(mnist.path / "metrics/mnist.json")["valid"]
    assert min(figures["accuracy"] for figures in valid.values()) > 0.9


@pytest.mark.slow
def test_mnist_reaches_the_chapters_figures_on_real_digits(lesson):
    mnist = lesson("mnist")
    use_real(mnist, "mnist_sample")
    mnist.edit(**{"fit.epochs": 40})
    mnist.run()
    valid = read_json(mnist.path / "metrics/mnist.json")["valid"]
    wanted = {"similarity_l1": 0.951, "linear_by_hand": 0.968, "net_by_hand": 0.982}
    for model, figure in wanted.items():  # with a fifteenth of the chapter's pictures
        assert valid[model]["accuracy"] >= figure - 0.02
        assert valid[model]["high"] >= figure


def test_adults_with_missing_values_and_unseen_categories_are_understood(lesson):
    tabular = lesson("tabular")
    tabular.run("gather")
    path = tabular.path / "data/raw/adult.csv"
    table = pd.read_csv(path, dtype=str)
    table.loc[::7, "age"] = ""
    table.loc[::5, "workclass"] = "?"
    table["native-country"] = [f"country {i}" for i in range(len(table))]  # each once: all unseen
    table.to_csv(path, index=False)
    tabular.run("train")
    answers = pd.read_csv(tabular.path / "data/answers.csv")
    assert answers[["logistic", "trees", "embeddings"]].notna().all().all()
    encode, params = (tabular.functions("train.py")[name] for name in ("encode", "TableParams"))
    section = {"target": "y", "positive": "1", "categories": ["a"], "numbers": ["b"]}
    given = params(**section, missing="?", valid_pct=0.5, seed=0)
    rows = pd.DataFrame({"a": ["x", "", "z"], "b": ["1", "3", ""], "y": ["1", "0", "1"]})
    train, valid, sizes = encode(rows, np.array([False, False, True]), given)
    assert sizes == [2]
    assert train.categories[:, 0].tolist() == [1, 0]
    assert valid.categories.tolist() == [[0]]  # "z" is in no row to train on
    assert valid.numbers.tolist() == [[0, 1]]  # the median is the mean here, and a mark: missing


@pytest.mark.parametrize("without", ["categories", "numbers"])
def test_adults_may_have_categories_or_numbers_alone(lesson, without):
    tabular = lesson("tabular")
    tabular.edit(**{f"table.{without}": []})
    tabular.run()
    assert len(read_json(tabular.path / "metrics/tabular.json")["valid"]) == 4


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"table.target": "wage"}, "no column 'wage'"),
        ({"table.positive": "rich"}, "table.positive, 'rich'"),
        ({"table.numbers": ["sex"], "table.categories": ["race"]}, "row 1: sex is"),
        ({"table.numbers": ["age", "age"]}, "no column twice"),
        ({"net.lr": 1.0e12}, "lower net.lr"),
    ],
)
def test_adults_that_do_not_fit_the_params_are_one_line(lesson, changes, expected):
    tabular = lesson("tabular")
    tabular.edit(**changes)
    tabular.run("gather")
    assert expected in tabular.fail("train")


@pytest.mark.slow
def test_adults_reach_the_lessons_accuracy_with_all_three_models(lesson):
    tabular = lesson("tabular")
    use_real(tabular, "adult.csv")
    tabular.edit(**{"net.epochs": 4})
    tabular.run()
    valid = read_json(tabular.path / "metrics/tabular.json")["valid"]
    for model in ("logistic", "trees", "embeddings"):
        assert valid[model]["accuracy"] >= 0.83
        assert valid[model]["low"] > valid["majority"]["high"]
        assert valid[model]["calibration_error"] < 0.05


@pytest.mark.parametrize("source", ["sample", "movielens.csv"])
@pytest.mark.slow
def test_films_are_rated_better_than_by_the_means_of_user_and_film(lesson, source):
    collab = lesson("collab")
    collab.edit(**{"gather.size": 6000, "fit.epochs": 10})
    if source != "sample":
        use_real(collab, source)
    collab.run()
    valid = read_json(collab.path / "metrics/collab.json")["valid"]
    found = valid["embeddings"]["mean_squared_error"]
    assert found <= 0.66
    assert found < valid["mean of user and film"]["mean_squared_error"]
    films = pd.read_csv(collab.path / "data/films.csv")
    assert films["bias"].is_monotonic_decreasing
    nearest = pd.read_csv(collab.path / "data/nearest.csv")
    assert (nearest.groupby("movieId").size() == 5).all()
    assert (nearest["movieId"] != nearest["nearest"]).all()


def test_a_film_and_a_user_that_only_the_held_out_ratings_have_are_answered(lesson):
    collab = lesson("collab")
    collab.edit(**{"gather.size": 60})  # of 10,000 pairs: most users and films come once
    collab.run()
    assert (pd.read_csv(collab.path / "data/films.csv")["ratings"] == 0).any()


@pytest.mark.parametrize(
    ("y_range", "expected"),
    [
        ([0.5, 3.0], "it should lie within fit.y_range"),
        ([5.5, 0.5], "it should be [lowest, highest]"),
        ([0.5, float("inf")], "it should be [lowest, highest]"),
        ([0.5, float("nan")], "it should be [lowest, highest]"),
    ],
)
def test_a_range_that_the_ratings_do_not_fit_is_one_line(lesson, y_range, expected):
    collab = lesson("collab")
    collab.edit(**{"fit.y_range": y_range})
    collab.run("gather")
    assert expected in collab.fail("train")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (",", ";", "has no column 'userId'; it has userId;movieId;rating"),
        ("\n1,", "\n,", "row 1: userId is empty"),
    ],
)
def test_ratings_that_are_not_understood_are_one_line(lesson, old, new, expected):
    collab = lesson("collab")
    collab.run("gather")
    table = collab.path / "data/raw/ratings.csv"
    table.write_text(table.read_text().replace(old, new))
    assert expected in collab.fail("train")


@pytest.mark.slow
def test_reviews_reach_the_lessons_accuracy_without_a_network(lesson):
    text = lesson("text")
    use_real(text, "imdb.csv")
    text.edit(**{"baseline.words": [2], "baseline.min_reviews": [2]})
    text.edit(**{"baseline.inverse_penalty": [100]})
    text.run("gather", "baseline")
    found = read_json(text.path / "metrics/baseline.json")["test"]
    assert found["tfidf"]["accuracy"] >= 0.845
    assert found["tfidf"]["low"] > found["majority"]["high"]


def test_the_settings_for_reviews_are_chosen_without_the_test_split(lesson):
    text = lesson("text")
    text.run("gather", "baseline")
    chosen = (text.path / "metrics/choice.csv").read_bytes()
    path = text.path / "data/raw/texts.csv"
    table = pd.read_csv(path)
    table.loc[table["is_valid"], "text"] = "nothing that any other review says"
    table.to_csv(path, index=False)
    text.run("baseline")
    assert (text.path / "metrics/choice.csv").read_bytes() == chosen


def test_a_transformer_is_fine_tuned_from_a_local_folder_twice_the_same(lesson, monkeypatch):
    transformers = pytest.importorskip("transformers", reason="the extra is not installed")
    text = lesson("text")
    text.run("gather", "baseline")
    words = sorted({word for review in text.sample().values() for word in review.decode().split()})
    letters = sorted(set("".join(words).lower()))
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    folder = text.path / "weights"
    (folder / "vocab.txt").write_text("\n".join([*vocabulary, *(f"##{c}" for c in letters)]))
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=200, intermediate_size=32, **sizes)
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    text.edit(**{"transformer.max_tokens": 32, "transformer.epochs": 1})
    text.run("transformer")
    found = read_json(text.path / "metrics/transformer.json")
    assert 0 <= found["test"]["accuracy"] <= 1
    before = text.outs()
    text.run("transformer")
    assert text.outs() == before
    (folder / "model.safetensors").write_bytes(b"damaged")
    assert "no transformer can be loaded from 'weights'" in text.fail("transformer")
    (folder / "config.json").unlink()
    assert "no transformer can be loaded from 'weights'" in text.fail("transformer")
    for path in folder.iterdir():
        path.unlink()
    text.edit(**{"transformer.hub": "nobody/nothing"})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "no transformer can be loaded from 'nobody/nothing'" in text.fail("transformer")


def test_segmentation_leaves_void_out(lesson):
    pytest.importorskip("segmentation_models_pytorch", reason="the extra is not installed")
    functions = lesson("segmentation").functions("train.py")
    classes = torch.tensor([[[0, 0], [1, 2]]])
    answers = torch.tensor([[[0, 1], [1, 1]]])
    found = functions["judge"](answers, classes, ["a", "b", "Void"], void=2)
    assert found["pixel_accuracy"] == pytest.approx(2 / 3)
    assert found["classes"] == pytest.approx({"a": 1 / 2, "b": 1 / 2})


def test_the_masks_of_the_drawn_bears_are_exact(lesson):
    """A bear's pixels, painted over, are all that a picture without it lacks."""
    segmentation = lesson("segmentation")
    functions = segmentation.functions("sample.py")
    random = functions["Random"]
    for number in range(6):
        picture, is_bear = functions["draw_bear"]("black", random(str(number)))
        share = np.asarray(is_bear).mean() / 255
        assert picture.size == (128, 96)
        assert 0.05 < share < 0.95
        assert set(np.unique(np.asarray(is_bear))) <= {0, 255}


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (lambda raw: (raw / "labels/0001_P.png").unlink(), "0001_P.png is missing"),
        (lambda raw: Image.new("L", (96, 128)).save(raw / "labels/0001_P.png"), "(96, 128) pixels"),
        (lambda raw: (raw / "codes.txt").write_text("background\nVoid\n"), "codes.txt names 2"),
        (
            lambda raw: (raw / "codes.txt").write_text("a\nb\nc\nd\n"),
            "fit.void is 'Void'; it should",
        ),
        (lambda raw: (raw / "images/0001.png").write_bytes(b""), "cannot be read"),
    ],
)
def test_pictures_without_their_masks_are_one_line(lesson, break_it, expected):
    pytest.importorskip("segmentation_models_pytorch", reason="the extra is not installed")
    segmentation = lesson("segmentation")
    segmentation.run("gather")
    break_it(segmentation.path / "data/raw")
    assert expected in segmentation.fail("train")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"baseline.min_reviews": [500]}, "lower baseline.min_reviews"),
        ({"baseline.words": [0]}, "baseline.words.0"),
        ({"baseline.inverse_penalty": [-1.0]}, "baseline.inverse_penalty.0"),
        ({"baseline.folds": 20, "gather.size": 60}, "needs 20 reviews"),
    ],
)
def test_settings_that_no_review_can_meet_are_one_line(lesson, changes, expected):
    text = lesson("text")
    text.edit(**changes)
    text.run("gather")
    assert expected in text.fail("baseline")
