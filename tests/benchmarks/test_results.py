"""A benchmark that was stopped goes on where its file ends, and shows what was asked for alone."""

import pandas as pd

from benchmarks.results import Results

RUNS = [("photos", seed, flip) for seed in (42, 43) for flip in (0.1, 0.2)]
KEYS = ("folder", "seed", "flip")


def rows(run: tuple, wrong: int) -> list[dict]:
    return [dict(zip(KEYS, run, strict=True)) | {"valid": wrong, "test": 2 * wrong}]


def test_runs_of_the_file_are_not_missing_and_others_are(tmp_path):
    path = tmp_path / "kept.csv"
    results = Results(path, KEYS)
    assert results.missing(RUNS) == RUNS
    results.add(rows(RUNS[0], 3))
    results.add(rows(RUNS[2], 4))
    assert Results(path, KEYS).missing(RUNS) == [RUNS[1], RUNS[3]]
    assert Results(path, KEYS).rows == results.rows


def test_without_a_file_rows_are_held_in_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = Results(None, KEYS)
    results.add(rows(RUNS[0], 3))
    assert results.missing(RUNS) == RUNS[1:]
    assert list(tmp_path.iterdir()) == []


def test_rows_of_other_runs_are_not_shown(capsys):
    results = Results(None, KEYS)
    for number, run in enumerate(RUNS):
        results.add(rows(run, number))

    def table(frame: pd.DataFrame, side: str) -> str:
        return f"{frame[side].sum()} in all"

    results.show(table, RUNS[1:3], with_test=False)
    assert capsys.readouterr().out == "wrong pictures of valid\n\n3 in all\n\n"
    results.show(table, RUNS[1:3], with_test=True)
    assert "wrong pictures of test\n\n6 in all" in capsys.readouterr().out
