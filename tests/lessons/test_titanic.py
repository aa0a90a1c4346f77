"""The Titanic in numpy and as a spreadsheet."""

import csv
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pawprint.tables import read_json


@pytest.fixture
def titanic(lesson):
    return lesson("titanic")


def steps_of(titanic) -> list[dict[str, str]]:
    with (titanic.path / "metrics/steps.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_spreadsheet_recomputed_by_libreoffice_gives_the_numbers_of_numpy(
    titanic, tmp_path: Path
):
    openpyxl = pytest.importorskip("openpyxl", reason="the extra `lessons` is not installed")
    soffice = shutil.which("soffice")
    if soffice is None:
        pytest.skip("LibreOffice is not installed: install Debian's libreoffice-calc-nogui")
    titanic.run()
    command = [soffice, f"-env:UserInstallation=file://{tmp_path}/profile", "--headless"]
    command += ["--convert-to", "xlsx", "--outdir", str(tmp_path), "titanic.xlsx"]
    subprocess.run(command, cwd=titanic.path, check=True, capture_output=True, timeout=300)
    book = openpyxl.load_workbook(tmp_path / "titanic.xlsx", data_only=True)
    for model in ("linear", "net"):
        rows = {row[0].value: row[1:] for row in book[model].iter_rows()}
        for figure in ("loss", "accuracy", "valid loss", "valid accuracy"):
            column = f"{model}_{figure}".replace(" ", "_")
            numpy = [float(row[column]) for row in steps_of(titanic)]
            sheet = [cell.value for cell in rows[figure]]
            assert sheet == pytest.approx(numpy, abs=1e-6), (model, figure)
    # what the models say of each passenger gives the accuracy once more
    passengers = [row for row in book["passengers"].iter_rows(values_only=True)][1:]
    valid = [row for row in passengers if row[8] == "valid"]
    right = np.mean([(row[10] > 0.5) == (row[0] > 0.5) for row in valid])
    assert right == pytest.approx(float(steps_of(titanic)[-1]["net_valid_accuracy"]), abs=1e-6)


def test_every_result_in_the_spreadsheet_is_a_formula(titanic):
    openpyxl = pytest.importorskip("openpyxl", reason="the extra `lessons` is not installed")
    titanic.run()
    book = openpyxl.load_workbook(titanic.path / "titanic.xlsx")
    later = [cell.value for row in book["net"].iter_rows(min_row=3, min_col=3) for cell in row]
    assert all(str(value).startswith("=") for value in later)


def test_the_gradients_are_those_of_small_differences(titanic):
    functions = titanic.functions("train.py")
    random = np.random.default_rng(0)
    side = functions["Side"](random.normal(size=(30, 10)), random.integers(0, 2, 30).astype(float))
    net = functions["Net"](random.normal(size=(10, 3)), random.normal(size=3), np.array(0.1))

    def loss(net) -> float:
        return functions["judge"]("", functions["answer"](side.x, net), side.y)["loss"]

    gradients = functions["net_gradients"](side, net)
    for layer in range(3):
        for place in np.ndindex(net[layer].shape):
            moved = [weights.copy() for weights in net]
            moved[layer][place] += 1e-6
            slope = (loss(functions["Net"](*moved)) - loss(net)) / 1e-6
            assert gradients[layer][place] == pytest.approx(slope, abs=1e-4)


def test_both_models_learn_and_are_held_against_what_they_must_beat(titanic):
    titanic.edit(**{"gather.size": 400, "fit.steps": 100, "fit.hidden": 4})
    titanic.run("gather", "train")
    steps = steps_of(titanic)
    for model in ("linear", "net"):
        assert float(steps[-1][f"{model}_loss"]) < 0.75 * float(steps[0][f"{model}_loss"])
    valid = read_json(titanic.path / "metrics/titanic.json")["valid"]
    assert set(valid) == {"nobody survives", "women survive", "linear", "net"}
    assert valid["linear"]["accuracy"] > valid["nobody survives"]["accuracy"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("male", "man", "row 1: Sex is"),
        (",Fare,", ",Price,", "has no column 'Fare'; it has PassengerId"),
        (",S\n", ",2nd\n", "Embarked is '2nd'; it should be S, C, Q or empty"),
        ("\n1,", "\n1,maybe", "Survived is 'maybe"),
    ],
)
def test_a_table_that_is_not_the_passengers_is_one_line(titanic, old, new, expected):
    titanic.run("gather")
    table = titanic.path / "data/raw/titanic.csv"
    table.write_text(table.read_text().replace(old, new))
    assert expected in titanic.fail("train")


def test_a_class_written_as_1_0_is_the_class_1_as_in_the_spreadsheet(titanic):
    titanic.run("gather", "train")
    before = (titanic.path / "metrics/steps.csv").read_bytes()
    table = titanic.path / "data/raw/titanic.csv"
    text = table.read_text()
    assert ",1,male" in text
    table.write_text(text.replace(",1,male", ",1.0,male").replace(",2,female", ",2.0,female"))
    titanic.run("train")
    assert (titanic.path / "metrics/steps.csv").read_bytes() == before


def test_steps_that_are_too_long_are_one_line_that_names_the_rate(titanic):
    titanic.edit(**{"fit.lr": 50.0, "fit.steps": 300})
    titanic.run("gather")
    assert "lower fit.lr" in titanic.fail("train")
