"""Make up ratings: users and films, each with a level and a taste of three kinds."""

from collections.abc import Iterator
from random import Random

USERS = FILMS = 100
KINDS = 3


def draw(size: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield ratings.csv. The same size and seed give the same bytes."""
    random = Random(f"films:{seed}")
    users, films = ([taste(random) for _ in range(count)] for count in (USERS, FILMS))
    pairs = [(user, film) for user in range(USERS) for film in range(FILMS)]
    chosen = sorted(random.sample(pairs, min(size, len(pairs))))
    lines = ["userId,movieId,rating,timestamp"]
    for number, (user, film) in enumerate(chosen):
        liking = sum(a * b for a, b in zip(users[user][1:], films[film][1:], strict=True))
        rating = 3.7 + users[user][0] + films[film][0] + 0.5 * liking + random.gauss(0, 0.6)
        halves = min(10, max(1, round(2 * rating)))
        lines.append(f"{user + 1},{film + 1},{halves / 2},{1_000_000_000 + number}")
    yield "ratings.csv", ("\n".join(lines) + "\n").encode()


def taste(random: Random) -> list[float]:
    """Return a level, and how much of each kind."""
    return [random.gauss(0, 0.4), *(random.gauss(0, 0.8) for _ in range(KINDS))]
