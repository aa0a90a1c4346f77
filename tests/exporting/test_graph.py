"""The exported graph: which training pictures it compares a picture with."""

import numpy as np

from pawprint.exporting.graph import BANK, bank_rows


def test_few_training_pictures_are_all_compared_with():
    assert bank_rows(["a", "b"] * 20).tolist() == list(range(40))


def test_a_rare_class_is_compared_with_however_many_pictures_others_have():
    labels = np.array(["common"] * 20_000, dtype=object)
    assert len(bank_rows(labels)) == BANK
    rare = np.flatnonzero(~np.isin(np.arange(20_000), bank_rows(labels)))[:1000]
    labels[rare] = [f"class {i}" for i in range(1000)]
    rows = bank_rows(labels)
    assert set(labels[rows]) == set(labels)
    assert len(rows) == BANK + 1000
    assert (np.diff(rows) > 0).all()
