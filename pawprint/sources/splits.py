"""What a word means as a split, whoever wrote it: the name of a folder or a table, or a cell.

Case and dress do not matter: `train`, `Training`, `training_set`, `trn`, `seg_train`, `trainLabels`
and `Train-Images 2` are all the same split. A word with anything else in it (`train_station`) means
none. The words are those of the public data sets: fast.ai's train and valid, Keras's and
TensorFlow's validation, Hugging Face's dev, Intel's seg_train, seg_test and seg_pred.
"""

import re

UNLABELLED = "unlabelled"  # pictures to ask a model about, not to teach it with
CORES = {
    "train": "train|training|trn|trainval",
    "valid": "valid|validation|validate|val|dev|development",
    "test": "test|testing|tst",
    UNLABELLED: "pred|predict|prediction|predictions|unlabelled|unlabeled|unlabel|unsupervised",
}
PICTURES = "images?|imgs?|pictures?|pics?|photos?|jpe?gs?|pngs?"
DRESS = (
    f"{PICTURES}|sets?|seg|data|datasets?|splits?|folders?|dir|files?|labels?|labell?ed"
    "|class(?:es)?|annotations?|list|csv|resized|cropped|public|private|full|small|original|raw|final|new|my|the"
)
CORE = {
    meaning: re.compile(rf"(?:{words})(?:s|{DRESS})?|seg(?:{words})")
    for meaning, words in CORES.items()
}
WORN = re.compile(rf"{DRESS}|x|y|[0-9]+")
CONTAINER = re.compile(rf"(?:jpe?g|png)?(?:{PICTURES}|data)")
# `trainLabels` is two words, and so is `Train2017`.
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W_a-zA-Z0-9]+")
TRUTH = dict.fromkeys(("true", "t", "yes", "y", "1", "1.0"), True)
TRUTH |= dict.fromkeys(("false", "f", "no", "n", "0", "0.0"), False)


def meaning_of(word: str) -> str:
    """Return train, valid, test or UNLABELLED; "" if a word is no split."""
    found = set()
    for part in (part.lower() for part in WORDS.findall(word)):
        meanings = [meaning for meaning, core in CORE.items() if core.fullmatch(part)]
        if not meanings and not WORN.fullmatch(part):
            return ""
        found.update(meanings)
    if UNLABELLED in found:
        return UNLABELLED
    if found == {"train", "valid"}:  # `train_val`: all but what is held out for the test
        return "train"
    return found.pop() if len(found) == 1 else ""


def split_of(word: str) -> str:
    """Return the split that a word means: train, valid, test, or ""."""
    meaning = meaning_of(word)
    return "" if meaning == UNLABELLED else meaning


def is_container(word: str) -> bool:
    """Return whether a folder's name says that it holds pictures, but not of what: `images`."""
    return bool(CONTAINER.fullmatch(word.lower()))


def flag_of(column: str) -> str:
    """Return the split that a column of yes and no is about: `is_valid`; "" for other columns."""
    first, _, rest = " ".join(WORDS.findall(column)).partition(" ")
    return split_of(rest) if first.lower() == "is" else ""


def split_of_flag(flag: str, cell: str) -> str:
    """Return the split that yes or no in a column means; "" if it is neither.

    flag: what `flag_of` returns for the column.

    Not valid, and not test, is train. Not train is test, as in the tables of CUB-200.
    """
    truth = TRUTH.get(cell.lower())
    if not flag or truth is None:
        return ""
    return flag if truth else "test" if flag == "train" else "train"
