"""Write the computation of train.py as a spreadsheet in which every result is a live formula.

Reads data/passengers.csv and data/start.csv. Writes titanic.xlsx with the sheets `passengers` (and
what each model says of them in the end), `features`, `linear` and `net`. In the last two a column
is a step: the weights, their gradients, and the losses and accuracies with these weights. The next
column's weights are these, less the learning rate times the gradients. Change a number, and all
that follows from it changes. X, Y and X_valid, Y_valid name the features and survivals of a split.
"""

import datetime
import io
import re
import zipfile
from collections.abc import Callable

import pandas as pd

from pawprint.params import Params, load_params, run_stage
from pawprint.tables import read_table, write_bytes

try:
    from openpyxl import Workbook
    from openpyxl.utils import get_column_letter
    from openpyxl.workbook.defined_name import DefinedName
    from openpyxl.worksheet.worksheet import Worksheet
except ImportError as error:
    raise SystemExit(f"sheet: {error}: run `pip install openpyxl`, or `make`") from None

# the file's own dates, so that its bytes are always the same
EPOCH, TODAY = datetime.datetime(1980, 1, 1), b"1980-01-01T00:00:00Z"
FEATURES = 10
TOP = 3  # the row of the first weight, in the sheets of the models


class FitParams(Params):
    """The section `fit` of params.yaml, which train.py has checked."""

    seed: int
    valid_pct: float
    hidden: int
    lr: float
    steps: int


def main() -> None:
    params = load_params("fit", FitParams)
    table, start = read_table("data/passengers.csv"), read_table("data/start.csv")
    book = Workbook()

    # the passengers, and what the models see of them
    passengers, features = book.active, book.create_sheet("features")
    passengers.title = "passengers"
    count = int((table["split"] == "train").sum())
    write_passengers(passengers, table)
    write_features(features, count, len(table))
    for name, first, last in (("", 2, count + 1), ("_valid", count + 2, len(table) + 1)):
        names = {"X": f"features!$A${first}:$J${last}", "Y": f"passengers!$A${first}:$A${last}"}
        for letter, block in names.items():
            book.defined_names[letter + name] = DefinedName(letter + name, attr_text=block)

    # both models, step by step
    labels, units = start["weight of"].tolist(), list(start.columns[2:])
    linear = [(labels[i], start["linear"][i]) for i in range(FEATURES)]
    net = [(f"{unit}: {labels[i]}", start[unit][i]) for unit in units for i in range(FEATURES)]
    net += [(f"second layer: {unit}", start[unit][FEATURES]) for unit in units]
    net += [("second layer: constant", "0")]
    write_steps(book.create_sheet("linear"), linear, params, linear_answer, linear_gradients)
    write_steps(book.create_sheet("net"), net, params, net_answer, net_gradients)

    # what each says of every passenger in the end
    for place, name, answer in ((10, "linear", linear_answer), (11, "net", net_answer)):
        passengers.cell(1, place, name)
        cells = Cells(params.steps, params.hidden, f"{name}!")
        for row in range(2, len(table) + 2):
            text = answer(f"features!$A{row}:$J{row}", cells)
            passengers.cell(row, place, f"=SUMPRODUCT({text})")
    write_bytes("titanic.xlsx", to_bytes(book))


class Cells:
    """Where the weights of a step are. sheet: comes before each address."""

    def __init__(self, step: int, hidden: int, sheet: str = "") -> None:
        self.column, self.hidden, self.sheet = get_column_letter(step + 2), hidden, sheet

    def unit(self, number: int) -> str:
        """Return the ten weights of a unit of the first layer; the linear model is one unit."""
        first = TOP + FEATURES * number
        return f"{self.sheet}{self.column}${first}:{self.column}${first + FEATURES - 1}"

    def second(self, number: int) -> str:
        """Return a weight of the second layer; the last one is its constant."""
        return f"{self.sheet}{self.column}${TOP + FEATURES * self.hidden + number}"


def linear_answer(x: str, cells: Cells) -> str:
    """Return the formula of the linear model's answers for the features `x`."""
    return f"MMULT({x},{cells.unit(0)})"


def linear_gradients(cells: Cells) -> list[str]:
    """Return a formula for each weight's gradient of the mean squared error."""
    error = f"({linear_answer('X', cells)}-Y)"
    return [f"2*SUMPRODUCT(INDEX(X,0,{i + 1})*{error})/ROWS(Y)" for i in range(FEATURES)]


def net_answer(x: str, cells: Cells) -> str:
    """Return the formula of the net's answers: what is below 0 in the hidden layer becomes 0."""
    units = [f"{relu(x, cells, i)}*{cells.second(i)}" for i in range(cells.hidden)]
    return "+".join([*units, cells.second(cells.hidden)])


def relu(x: str, cells: Cells, unit: int) -> str:
    """Return the formula of a unit of the hidden layer."""
    return f"(MMULT({x},{cells.unit(unit)})>0)*MMULT({x},{cells.unit(unit)})"


def net_gradients(cells: Cells) -> list[str]:
    """Return a formula for each weight's gradient, the second layer's last."""
    error = f"({net_answer('X', cells)}-Y)"
    factors = []
    for unit in range(cells.hidden):
        passes = f"(MMULT(X,{cells.unit(unit)})>0)*{cells.second(unit)}"
        factors += [f"INDEX(X,0,{i + 1})*{passes}*" for i in range(FEATURES)]
    factors += [f"{relu('X', cells, unit)}*" for unit in range(cells.hidden)]
    return [f"2*SUMPRODUCT({factor}{error})/ROWS(Y)" for factor in [*factors, ""]]


def write_steps(
    sheet: Worksheet,
    start: list[tuple[str, str]],
    params: FitParams,
    answer: Callable[[str, Cells], str],
    gradients: Callable[[Cells], list[str]],
) -> None:
    """Write a model: a column for each step. start: the name and first value of each weight."""
    size = len(start)
    labels = ["learning rate", "step", *(label for label, _ in start)]
    labels += [f"gradient, {label}" for label, _ in start]
    labels += ["loss", "accuracy", "valid loss", "valid accuracy"]
    for row, label in enumerate(labels, start=1):
        sheet.cell(row, 1, label)
    sheet["B1"] = params.lr
    for step in range(params.steps + 1):
        cells = Cells(step, params.hidden)
        before = get_column_letter(step + 1)
        column: list[object] = [step]
        for i, (_, value) in enumerate(start):
            row = TOP + i
            column.append(f"={before}{row}-$B$1*{before}{row + size}" if step else float(value))
        column += [f"={formula}" for formula in gradients(cells)]
        for x, y in (("X", "Y"), ("X_valid", "Y_valid")):
            text = answer(x, cells)
            column.append(f"=SUMPRODUCT(({text}-{y})^2)/ROWS({y})")
            column.append(f"=SUMPRODUCT((({text}>0.5)=({y}>0.5))*1)/ROWS({y})")
        for row, cell in enumerate(column, start=2):
            sheet.cell(row, step + 2, cell)


def write_passengers(sheet: Worksheet, table: pd.DataFrame) -> None:
    """Write the table; numbers as numbers, what is missing as an empty cell."""
    sheet.append(list(table.columns))
    for cells in table.itertuples(index=False):
        sheet.append([float(cell) if cell[:1].isdigit() else cell or None for cell in cells])


def write_features(sheet: Worksheet, count: int, total: int) -> None:
    """Write what the models see of each passenger. count: passengers of the train split."""
    ages = f"passengers!$E$2:$E${count + 1}"
    header = ["siblings", "parents", "age", "log fare", "class 1", "class 2", "from S", "from C"]
    header += ["male", "one", "", "median age", f"=MEDIAN({ages})", "largest age", f"=MAX({ages})"]
    sheet.append(header)
    for row in range(2, total + 2):
        sex, port, pclass, age, siblings, parents, fare = (
            f"passengers!{letter}{row}" for letter in "BCDEFGH"
        )
        is_one = (f"{pclass}=1", f"{pclass}=2", f'{port}="S"', f'{port}="C"', f'{sex}="male"')
        cells: list[str | int] = [f"={siblings}", f"={parents}", f'=IF({age}="",$M$1,{age})/$O$1']
        cells += [f"=LOG10({fare}+1)", *(f"=IF({condition},1,0)" for condition in is_one), 1]
        sheet.append(cells)


def to_bytes(book: Workbook) -> bytes:
    """Return the file. The same content gives the same bytes: no date in it is today's."""
    written, buffer = io.BytesIO(), io.BytesIO()
    book.properties.created = EPOCH
    book.save(written)
    with zipfile.ZipFile(written) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>" + TODAY, content)
            info = zipfile.ZipInfo(name, EPOCH.timetuple()[:6])
            new.writestr(info, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


if __name__ == "__main__":
    run_stage(main)
