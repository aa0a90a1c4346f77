"""Make up adults: the columns of the census table, and about its odds of a high salary."""

import math
from collections.abc import Iterator
from random import Random

HEADER = (
    "age,workclass,fnlwgt,education,education-num,marital-status,occupation,relationship,race,sex,"
    "capital-gain,capital-loss,hours-per-week,native-country,salary"
)
EDUCATIONS = {"11th": 7, "HS-grad": 9, "Some-college": 10, "Bachelors": 13, "Masters": 14}
# occupations, and what each adds to the odds
WORK = {"Craft-repair": 0.0, "Adm-clerical": -0.3, "Exec-managerial": 1.1, "Other-service": -1.4}
WORK |= {"Prof-specialty": 0.8, "Sales": 0.3, "?": -0.8}
EMPLOYERS = ["Private"] * 7 + ["Local-gov", "Self-emp-inc"]
COUNTRIES = ["United-States"] * 30 + ["Mexico", "India", "Germany", "?"]


def draw(size: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield adult.csv. The same size and seed give the same bytes."""
    random = Random(f"adults:{seed}")
    lines = [HEADER, *(adult(random) for _ in range(size))]
    yield "adult.csv", ("\n".join(lines) + "\n").encode()


def adult(random: Random) -> str:
    """Return one line of the table; some cells are missing, as in the census."""
    age, hours = random.randint(18, 75), max(5, round(random.gauss(40, 11)))
    education = random.choices(list(EDUCATIONS), [0.12, 0.33, 0.25, 0.2, 0.1])[0]
    years, occupation = EDUCATIONS[education], random.choice(list(WORK))
    married, male = random.random() < 0.47, random.random() < 0.67
    gain = random.choice([5178, 7688, 15024]) if random.random() < 0.06 else 0
    odds = 0.35 * (years - 10) + WORK[occupation] + 0.03 * (hours - 40) - 0.0025 * (age - 50) ** 2
    odds += (0.6 if married else -2.6) + 0.2 * male + (2.5 if gain else 0.0)
    high = random.random() < 1 / (1 + math.exp(-1.3 * odds))
    partner = "Husband" if male else "Wife"
    cells = (
        age,
        "?" if occupation == "?" else random.choice(EMPLOYERS),
        random.randint(20_000, 400_000),
        education,
        years,
        "Married-civ-spouse" if married else random.choice(["Never-married", "Divorced"]),
        occupation,
        partner if married else random.choice(["Not-in-family", "Own-child", "Unmarried"]),
        random.choices(["White", "Black", "Asian-Pac-Islander"], [0.85, 0.1, 0.05])[0],
        "Male" if male else "Female",
        gain,
        random.choice([1902, 1977]) if random.random() < 0.04 else 0,
        hours,
        random.choice(COUNTRIES),
        ">=50k" if high else "<50k",
    )
    return ",".join(map(str, cells))
