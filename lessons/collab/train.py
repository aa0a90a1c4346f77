"""Who likes which film? A user and a film are each a list of numbers, and their match a product.

Reads data/raw/ratings.csv (userId, movieId, rating). Writes metrics/collab.json and
metrics/curve.csv (mean squared errors), data/films.csv (each film's bias: how much it is liked
apart from taste) and data/nearest.csv (the films whose numbers point the same way).
Source: Koren, Bell and Volinsky, "Matrix factorization techniques for recommender systems",
Computer 42, 2009; Howard and Gugger, "Deep Learning for Coders with fastai and PyTorch", chapter 8.
"""

import math

import numpy as np
import pandas as pd
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn.functional import mse_loss, normalize

from pawprint.params import Params, StageError, load_params, run_stage
from pawprint.tables import read_table, require_columns, write_json, write_table
from pawprint.training.device import ComputeParams, start
from pawprint.training.schedule import one_cycle

TABLE = "data/raw/ratings.csv"
NEAREST = 5  # films listed for each film


class FitParams(Params):
    """The section `fit` of params.yaml."""

    seed: int = Field(ge=0, lt=2**32)
    valid_pct: float = Field(gt=0, lt=0.9)
    factors: int = Field(ge=1, le=1000)
    y_range: list[float] = Field(min_length=2, max_length=2)
    epochs: int = Field(ge=1, le=1000)
    batch_size: int = Field(ge=1)
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)

    @field_validator("y_range")
    @classmethod
    def _rises(cls, value: list[float]) -> list[float]:
        if not -math.inf < value[0] < value[1] < math.inf:
            raise ValueError("should be [lowest, highest]")
        return value


class Match(nn.Module):
    """How well users and films match: the product of their numbers, plus a bias for each."""

    def __init__(self, users: int, films: int, factors: int, y_range: list[float]) -> None:
        super().__init__()
        self.users, self.films = nn.Embedding(users, factors), nn.Embedding(films, factors)
        self.user_bias, self.film_bias = nn.Embedding(users, 1), nn.Embedding(films, 1)
        for embedding in (self.users, self.films, self.user_bias, self.film_bias):
            nn.init.trunc_normal_(embedding.weight, std=0.01)
        self.low, self.high = y_range

    def forward(self, pairs: Tensor) -> Tensor:
        """Return ratings, (N,), for pairs of user and film, (N, 2)."""
        user, film = pairs[:, 0], pairs[:, 1]
        product = (self.users(user) * self.films(film)).sum(dim=1)
        match = product + self.user_bias(user)[:, 0] + self.film_bias(film)[:, 0]
        return self.low + (self.high - self.low) * match.sigmoid()


def main() -> None:
    params = load_params("fit", FitParams)
    start(ComputeParams(device="cpu", threads=1), params.seed)

    # ratings to train on, and ratings held out
    table = read_ratings(params.y_range)
    users, films = (sorted(set(table[name])) for name in ("userId", "movieId"))
    codes = [table["userId"].map(users.index), table["movieId"].map(films.index)]
    pairs = torch.from_numpy(np.stack(codes, axis=1))
    ratings = torch.tensor(table["rating"].to_numpy(np.float32))
    generator = torch.Generator().manual_seed(params.seed)
    order = torch.randperm(len(ratings), generator=generator)
    count = max(1, round(params.valid_pct * len(order)))
    valid, train = order[:count], order[count:]

    # what the model must beat: the mean, moved by how the user's and the film's differ from it
    known, unknown = table.iloc[train.numpy()], table.iloc[valid.numpy()]
    mean = known["rating"].mean()
    baseline = np.full(len(unknown), mean)
    for name in ("userId", "movieId"):
        differs = known.groupby(name)["rating"].mean() - mean
        baseline += unknown[name].map(differs).fillna(0).to_numpy()
    wanted = unknown["rating"].to_numpy()
    to_beat = ((baseline - wanted) ** 2).mean()

    # train
    model = Match(len(users), len(films), params.factors, params.y_range)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=params.weight_decay, eps=1e-5)
    curve, done = [], 0.0
    for epoch in range(1, params.epochs + 1):
        total = 0.0
        batches = train[torch.randperm(len(train), generator=generator)].split(params.batch_size)
        for batch in batches:
            # the learning rate and momentum of this step
            factor, momentum = one_cycle(done, pct_start=0.25, div=25.0)
            for group in optimizer.param_groups:
                group["lr"], group["betas"] = params.lr * factor, (momentum, 0.99)
            done += 1 / (params.epochs * len(batches))
            # forward, backward, update
            loss = mse_loss(model(pairs[batch]), ratings[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        if not np.isfinite(total):
            raise StageError(f"the loss of epoch {epoch} is not a number: lower fit.lr")
        with torch.no_grad():
            answers = model(pairs[valid]).double().numpy()
        losses = {"train_loss": total / len(train), "valid_loss": ((answers - wanted) ** 2).mean()}
        curve.append({"epoch": epoch, **losses, "baseline": to_beat})

    # side by side on the held-out ratings; the films, the best liked first
    said = {"mean": np.full(count, mean), "mean of user and film": baseline, "embeddings": answers}
    figures = {name: judge(each, wanted) for name, each in said.items()}
    write_json("metrics/collab.json", {"ratings": count, "valid": figures})
    write_table("metrics/curve.csv", pd.DataFrame(curve))
    write_table("data/films.csv", list_films(model, films, known))
    write_table("data/nearest.csv", list_nearest(model, films))


def read_ratings(y_range: list[float]) -> pd.DataFrame:
    """Return the ratings; users and films are text.

    Raises StageError for a table without its columns or with an empty cell in them, and for a
    rating outside y_range.
    """
    table = read_table(TABLE)
    columns = ("userId", "movieId", "rating")
    require_columns(table, columns, TABLE)
    for name in columns:
        for row in table.index[table[name] == ""]:
            raise StageError(f"{TABLE}, row {row + 1}: {name} is empty")
    if len(table) < 10:
        raise StageError(f"{TABLE} has {len(table)} ratings; a training needs 10 or more")
    ratings = pd.to_numeric(table["rating"], errors="coerce")
    for row in table.index[~ratings.between(*y_range)]:
        cell = table.loc[row, "rating"]
        raise StageError(
            f"{TABLE}, row {row + 1}: rating is {cell!r}; it should lie within fit.y_range, "
            f"{y_range[0]} to {y_range[1]}"
        )
    return table.assign(rating=ratings)


def judge(answers: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """Return the mean squared error and its 95 % interval, by the normal approximation."""
    squares = (answers - wanted) ** 2
    error = float(squares.mean())
    half = 1.96 * float(squares.std()) / len(squares) ** 0.5
    return {"mean_squared_error": error, "low": error - half, "high": error + half}


def list_films(model: Match, films: list[str], known: pd.DataFrame) -> pd.DataFrame:
    """Return movieId, ratings (in the train split), mean and bias, the highest bias first."""
    ratings = known.groupby("movieId")["rating"].agg(["count", "mean"]).reindex(films)
    table = pd.DataFrame(
        {
            "movieId": films,
            "ratings": ratings["count"].fillna(0).astype(int).to_numpy(),
            "mean": ratings["mean"].to_numpy(),
            "bias": model.film_bias.weight.detach()[:, 0].numpy(),
        }
    )
    return table.sort_values(["bias", "movieId"], ascending=[False, True])


def list_nearest(model: Match, films: list[str]) -> pd.DataFrame:
    """Return movieId, nearest and cosine: for each film, those that point most nearly its way."""
    directions = normalize(model.films.weight.detach(), dim=1)
    cosines = directions @ directions.T - 2 * torch.eye(len(films))  # no film is its own neighbour
    values, places = cosines.topk(min(NEAREST, len(films) - 1), dim=1)
    rows = [
        {"movieId": films[i], "nearest": films[j], "cosine": value}
        for i in range(len(films))
        for value, j in zip(values[i].tolist(), places[i].tolist(), strict=True)
    ]
    return pd.DataFrame(rows, columns=["movieId", "nearest", "cosine"])


if __name__ == "__main__":
    run_stage(main)
