"""A source's own splits: what it gives stands, and what it lacks is drawn from its train.

Public data sets often have train and test but no valid, or train and valid but no test. Its own
valid and test are what others report errors on, so no picture may move into or out of them.
"""

import sys
from collections.abc import Iterable

import pandas as pd

from pawprint.state import SplitParams
from pawprint.tables import SPLITS


def missing_splits(splits: Iterable[str]) -> tuple[str, ...]:
    """Return the splits that are drawn from train, given the source's own of every picture."""
    given = set(splits)
    if "train" not in given or "" in given:
        return ()
    return tuple(split for split in SPLITS if split not in given)


class OwnSplits:
    """The column `split` of data/images.csv: the source's own, "" for pictures to be drawn.

    drawn: the splits that pictures are drawn into. Without a word of the source's they are all
    three. If every picture has a split of its own, and valid or test is missing, they are train
    and the missing ones.
    """

    def __init__(self, splits: pd.Series) -> None:
        missing = missing_splits(splits)
        self.splits = splits
        self.drawn = ("train", *missing) if missing else SPLITS
        self.freed = (splits == "train") & bool(missing)

    def before_settling(self) -> pd.Series:
        """Return the splits with the pictures to be drawn as ""."""
        return self.splits.mask(self.freed, "")

    def after_settling(self, splits: list[str]) -> pd.Series:
        """Return the splits; a picture of train that would follow its near ones stays there.

        splits: of every picture, "" if it is still to be drawn. Only then could it get a side that
        the source has given to others.
        """
        settled = pd.Series(splits, index=self.splits.index)
        return settled.mask(self.freed & ~settled.isin(["", *self.drawn]), "train")

    def say(self, splits: pd.Series, params: SplitParams) -> None:
        """Say on stderr what was drawn from train. splits: of the pictures that are kept."""
        missing = self.drawn[1:] if self.freed.any() else ()
        if not missing:
            return
        given = " and ".join(split for split in SPLITS if (self.splits == split).any())
        counts = " and ".join(
            f"{(splits == split).sum()} pictures for {split} "
            f"(split.{split}_pct is {getattr(params, f'{split}_pct')})"
            for split in missing
        )
        print(
            f"split: the source gives {given} but no {' or '.join(missing)}; drawn from train: "
            f"{counts}",
            file=sys.stderr,
        )
