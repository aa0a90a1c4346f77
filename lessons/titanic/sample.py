"""Make up passengers: the columns of the Titanic's table, and about its odds of survival."""

import math
from collections.abc import Iterator
from random import Random

HEADER = "PassengerId,Survived,Pclass,Sex,Age,SibSp,Parch,Fare,Embarked"
FARES = {1: 65.0, 2: 20.0, 3: 11.0}  # typical, by class
AGES = {1: 38.0, 2: 30.0, 3: 25.0}


def draw(size: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield titanic.csv. The same size and seed give the same bytes."""
    random = Random(f"titanic:{seed}")
    lines = [HEADER, *(passenger(number, random) for number in range(1, size + 1))]
    yield "titanic.csv", ("\n".join(lines) + "\n").encode()


def passenger(number: int, random: Random) -> str:
    """Return one line of the table. One age in five is missing, and a few ports."""
    pclass = random.choices([1, 2, 3], [0.24, 0.21, 0.55])[0]
    male = random.random() < 0.65
    age = max(1.0, random.gauss(AGES[pclass], 13))
    siblings = random.choices([0, 1, 2, 4], [0.68, 0.23, 0.05, 0.04])[0]
    parents = random.choices([0, 1, 2], [0.76, 0.13, 0.11])[0]
    fare = FARES[pclass] * math.exp(random.gauss(0, 0.5))
    port = random.choices(["S", "C", "Q", ""], [0.72, 0.19, 0.087, 0.003])[0]
    odds = 2.6 - 2.6 * male - 1.1 * (pclass - 1) - 0.03 * (age - 30) - 0.35 * siblings
    survived = random.random() < 1 / (1 + math.exp(-odds))
    shown = "" if random.random() < 0.2 else f"{age:.0f}"
    sex = "male" if male else "female"
    cells = (number, int(survived), pclass, sex, shown, siblings, parents, f"{fare:.4f}", port)
    return ",".join(map(str, cells))
