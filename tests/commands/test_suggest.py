"""pawprint suggest ranks what is new, and what is labelled on its page joins the next run."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from starlette.testclient import TestClient

from pawprint.commands.review.api import create_app
from pawprint.commands.suggest import list_candidates, prepare
from pawprint.commands.suggest.looking import Candidates
from pawprint.commands.suggest.shelf import SuggestShelf
from pawprint.judging.baselines import fit_linear_head
from pawprint.judging.suggestions import choose_to_label, drop_copies, novelty, unsureness
from pawprint.params import StageError, load_params
from pawprint.pictures.batches import load_pictures
from pawprint.pictures.hashing import perceptual_hash
from pawprint.state import read_decisions
from pawprint.tables import read_table, write_table
from pawprint.training.features import KINDS, hash_rows, write_features
from pawprint.training.stored import BODY, hash_body, write_linear
from stages.gather import main as gather
from tests.support.commands import pawprint
from tests.support.project import ROOT, TINY, edit_yaml, make_pictures


def blobs(centres: list[int], count: int, seed: int) -> np.ndarray:
    """Features of `count` pictures around each of some corners of a space of eight directions."""
    rng = np.random.default_rng(seed)
    return np.concatenate([np.eye(8)[c] + rng.normal(0, 0.02, (count, 8)) for c in centres])


def test_one_of_each_kind_that_has_no_label_is_chosen_the_unsure_kinds_first():
    unlabelled = blobs([0, 1, 2, 3, 4], 10, 1)
    labelled = blobs([0, 1], 1, 2)
    kind = np.repeat([0, 1, 2, 3, 4], 10)
    top = np.array([0.6, 0.6, 0.99, 0.7, 0.85])[kind]
    chosen = choose_to_label(unlabelled, np.stack([top, 1 - top], axis=1), labelled, 3)
    assert kind[chosen].tolist() == [3, 4, 2]
    every = choose_to_label(unlabelled, np.stack([top, 1 - top], axis=1), labelled, 1000)
    assert sorted(every) == list(range(50)), "more than there are: all, each once"
    assert len(choose_to_label(unlabelled[:0], top[:0, None], labelled, 3)) == 0


def test_unsure_is_a_small_margin_and_unlike_is_far_from_every_labelled_one():
    said = np.array([[0.5, 0.5, 0], [0.4, 0.3, 0.3], [1, 0, 0]])
    assert unsureness(said) == pytest.approx([1, 0.9, 0])
    assert novelty(np.eye(3), np.eye(3)[:2]) == pytest.approx([0, 0, 1])
    assert (novelty(np.eye(3), np.empty((0, 3))) == 2).all()


def test_copies_of_known_pictures_and_of_each_other_are_dropped():
    known = ["00000000000000ff"]
    new = ["00000000000000fe", "ff00000000000000", "ff00000000000001", "0f0f0f0f0f0f0f0f"]
    assert list(drop_copies(new, known, 2)) == [True, False, True, False]
    assert list(drop_copies(new, [], 0)) == [False] * 4


# --- the page ---


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SuggestShelf:
    """Three pictures that the model takes for cat, cat and dog."""
    monkeypatch.chdir(tmp_path)
    names = [f"{i:016x}" for i in range(3)]
    files = [f"new/{i}.JPG" for i in range(3)]
    os.mkdir("new")
    for i, file in enumerate(files):
        Image.new("RGB", (60, 40), (80 * i, 90, 90)).save(file)
    some = np.array([0.5, 0.6, 0.9])
    found = Candidates(
        *(files, names, ["cat", "cat", "dog"], some, 1 - some, some / 2, np.eye(3)),
        classes=["cat", "dog", "eel"],
        seen=3,
        left_out=Counter(),
    )
    return SuggestShelf(found, Path("data/added"))


def added() -> list[str]:
    return sorted(path.as_posix() for path in Path("data/added").rglob("*"))


def test_what_is_kept_or_relabelled_lies_in_the_folder_of_its_label_and_an_undo_takes_it_out(
    shelf: SuggestShelf,
):
    client = TestClient(create_app(shelf, by="ada"), base_url="http://localhost")
    header = {"x-pawprint": "review"}

    def decide(i: int, action: str, label: str = "") -> dict:
        body = {"images": [f"{i:016x}"], "action": action, "label": label}
        answer = client.post("/api/decide", json=body, headers=header)
        assert answer.status_code == 200, answer.text
        return answer.json()

    shown = client.get("/api/pictures", params={"order": "rank"}).json()["pictures"]
    assert [(each["label"], each["figure"]) for each in shown] == [
        ("cat", "sure 0.50"), ("cat", "sure 0.60"), ("dog", "sure 0.90"),
    ]  # fmt: skip
    first = decide(0, "keep")
    assert added() == ["data/added/cat", f"data/added/cat/{0:016x}.jpg"]
    assert Path(added()[1]).read_bytes() == Path("new/0.JPG").read_bytes()
    second = decide(0, "relabel", "eel")["status"]
    assert added() == ["data/added/eel", f"data/added/eel/{0:016x}.jpg"]
    assert second["next"].startswith("1 picture labelled, now in data/added; the last model agrees")
    assert (second["command"], "0 of 1 decision" in second["next"]) == ("dvc repro", True)
    decide(1, "delete")
    assert len(added()) == 2
    decided = read_decisions(Path("data/suggested.csv"))
    assert [each["label"] for each in decided.values()] == ["eel", ""]
    back = decide(0, "keep")
    undo = {key: back[key] for key in ("images", "before", "now")}
    assert client.post("/api/undo", json=undo, headers=header).status_code == 200
    assert added() == ["data/added/eel", f"data/added/eel/{0:016x}.jpg"]
    decide(0, "")
    assert added() == [], "gather refuses the folder of a class that is empty"
    refused = client.post("/api/decide", json={"images": ["x"], "action": "keep"}, headers=header)
    assert "not in the suggested pictures" in refused.json()["error"]
    assert first["now"][f"{0:016x}"]["label"] == "cat", "what keep meant stays, whatever comes"


# --- the command, from pictures to a gathered source ---


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of 24 pictures with what features and baseline write, of a tiny random body."""
    import torch

    from pawprint.training.inference import describe_pictures
    from pawprint.training.model import create_model, save_body
    from pawprint.training.recipe import BodyParams

    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "data/sources/folder.yaml"):
        Path(name).parent.mkdir(exist_ok=True, parents=True)
        Path(name).write_bytes((ROOT / name).read_bytes())
    edit_yaml(Path("params.yaml"), **TINY, **{"train.weights": "data/sources"})
    make_pictures(Path("data/own"), {"red": 12, "green": 12})
    paths = sorted(path.as_posix() for path in Path("data/own").rglob("*.jpg"))
    labels = [Path(path).parent.name for path in paths]
    hashes = [perceptual_hash(Image.open(path)) for path in paths]
    write_table("data/images.csv", pd.DataFrame({"path": paths, "phash": hashes}))
    sides = ["train", "valid", "test"] * 8
    write_table("data/split.csv", pd.DataFrame({"path": paths, "label": labels, "split": sides}))
    torch.manual_seed(0)
    model, config = create_model(load_params("train", BodyParams), ["any"])
    save_body(BODY, model, config)
    pictures = load_pictures(paths, config.size, config.resize, config.interpolation)
    found = describe_pictures(model, pictures, config, torch.device("cpu"))
    rows = {kind: part.numpy() for kind, part in zip(KINDS, found, strict=True)}
    write_features(len(paths), [rows], {"rows": hash_rows(paths), "body": hash_body()})
    classes, target = np.unique(labels, return_inverse=True)
    weight, bias = fit_linear_head(rows["features"], target)
    write_linear(Path("models/linear.safetensors"), classes.tolist(), weight, bias)
    return tmp_path


def test_pictures_are_ranked_and_the_labelled_ones_join_the_next_gathering(trained: Path):
    make_pictures(Path("new"), {"what": 18})  # the first twelve are those of red again
    Path("new/broken.jpg").write_bytes(b"no picture")
    for i, colour in enumerate([(250, 240, 10), (20, 20, 220)]):  # unlike all others
        noise = np.random.default_rng(i).integers(0, 60, (90, 90, 3), dtype=np.uint8)
        Image.fromarray(np.clip(noise + np.array(colour), 0, 255).astype(np.uint8)).save(
            f"new/{i}.png"
        )
    found = prepare(Path("new"), 5).candidates
    assert (found.seen, len(found.files), found.classes) == (21, 5, ["green", "red"])
    assert found.left_out["not a picture"] == 1
    assert found.left_out["near duplicates of known pictures or of each other"] >= 12
    assert not {f"new/what/{i:03}.jpg" for i in range(12)} & set(found.files)
    assert {"new/0.png", "new/1.png"} <= set(found.files)
    assert len(list_candidates(found).decode().splitlines()) == 6

    # two decisions, and gather
    shelf = prepare(Path("new"), 5)
    body = {"images": found.names[:2], "action": "relabel", "label": "red"}
    client = TestClient(create_app(shelf), base_url="http://localhost")
    assert client.post("/api/decide", json=body, headers={"x-pawprint": "review"}).is_success
    again = prepare(Path("new"), 5).candidates
    assert set(again.names[-2:]) == set(found.names[:2]), "decided ones come last"
    assert again.left_out["decided before"] == 2
    gather()
    gathered = read_table("data/gathered.csv")
    joined = gathered[gathered["source"].str.startswith("gather.added:")]
    assert (len(gathered), len(joined), set(joined["label"])) == (26, 2, {"red"})
    assert {Path(path).stem for path in joined["path"]} == set(found.names[:2])
    gather()  # the lock with rows of two sources is read
    assert read_table("data/gathered.csv").equals(gathered)
    Path("data/added/empty").mkdir()
    with pytest.raises(StageError, match=r"gather\.added: 'data/added/empty' is empty"):
        gather()
    edit_yaml(Path("params.yaml"), **{"gather.added": "data/raw/red"})
    with pytest.raises(StageError, match=r"gather\.added is 'data/raw/red', but data/raw"):
        gather()


def test_what_is_missing_is_one_line(trained: Path):
    done = pawprint("suggest", trained / "gone", "--list")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"pawprint: {trained}/gone is not a folder; name one that holds " + (
        "unlabelled pictures\n"
    )
    for folder, count, reason in (
        ("data/sources", 5, "data/sources holds no pictures"),
        ("data/own", 0, "--count is 0; it should be 1 or more"),
        ("data/own", 5, "data/own holds no picture that is new: 24 near duplicates"),
    ):
        with pytest.raises(StageError, match=reason):
            prepare(Path(folder), count)
    Path("models/linear.safetensors").unlink()
    with pytest.raises(StageError, match=r"linear.safetensors is missing: `dvc repro` makes it"):
        prepare(Path("data/own"), 5)
