"""Make up film reviews: sentences with an opinion, some against the review's own."""

from collections.abc import Iterator
from random import Random

THINGS = ["plot", "acting", "music", "ending", "dialogue", "camera", "pace", "cast", "script"]
GOOD = ["moving", "clever", "a delight", "first rate", "memorable", "never dull", "warm", "superb"]
BAD = ["a mess", "wooden", "tedious", "not good", "forgettable", "a bore", "never funny", "cheap"]
PLAIN = [
    "I saw it on a Sunday.",
    "It runs for two hours.",
    "It was filmed in Spain.",
    "My brother came along.",
    "There is a sequel.",
]


def draw(size: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield texts.csv; one review in five is for the test. The same seed gives the same bytes."""
    random = Random(f"reviews:{seed}")
    lines = ["label,text,is_valid"]
    for number in range(size):
        positive = random.random() < 0.5
        label = "positive" if positive else "negative"
        lines.append(f'{label},"{review(positive, random)}",{number % 5 == 4}')
    yield "texts.csv", ("\n".join(lines) + "\n").encode()


def review(positive: bool, random: Random) -> str:
    """Return a review of a few sentences. One opinion in four is against it."""
    sentences = []
    for thing in random.sample(THINGS, random.randint(2, 5)):
        words = GOOD if positive == (random.random() < 0.75) else BAD
        sentences.append(f"The {thing} is {random.choice(words)}.")
    sentences += random.sample(PLAIN, random.randint(1, 3))
    random.shuffle(sentences)
    return " ".join(sentences)
