"""Data sets of the Hub: parquet and pictures, over HTTP from a server that speaks its part."""

import io
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pawprint.params import StageError, check
from pawprint.sources import Found, hub
from tests.support.archives import tarred
from tests.support.hub import Files, Hub, ask_here, commit_of, shard
from tests.support.world import ROOT, World, picture

NAMES = ("cat", "dog")
TOKEN = "hf_0123456789abcdefghij"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A Hub, and a working folder; HF_ENDPOINT names it, here and in processes."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    with Hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.base)
        ask_here(monkeypatch, running.base)
        yield running


def find(**options: object) -> list[Found]:
    checked = check({"kind": "hub", **options}, hub.HubOptions, "", Path("x.yaml"))
    return list(hub.find_pictures(checked, Path("data/own")))


def told(items: list[Found]) -> list[tuple[str, str, str]]:
    """File and row, label and split."""
    return [(item.url.partition("@")[2][41:] or item.url, item.label, item.split) for item in items]


def failing(**options: object) -> str:
    with pytest.raises(StageError) as caught:
        find(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def beans() -> Files:
    """Three splits, one of them in two shards, with the schema that names the classes."""
    return {
        "README.md": b"---\nlicense: mit\n---\n# Beans\n",
        "data/train-00000-of-00002.parquet": shard([0, 1, 0, 1, 0, 1], 0, NAMES),
        "data/train-00001-of-00002.parquet": shard([1, 0], 10, NAMES),
        "data/validation-00000-of-00001.parquet": shard([0, 1], 20, NAMES),
        "data/test-00000-of-00001.parquet": shard([0, 1], 30, NAMES),
    }


def write(root: Path, files: Files) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def zipped(files: Files) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def pictures(*names: str) -> Files:
    return {name: picture(number) for number, name in enumerate(names)}


# --- gather, from a clean folder to the lock ---


def test_gather_keeps_names_and_splits_and_pins_the_commit(server: Hub, tmp_path: Path):
    commit = server.put("lab/beans", beans())
    world = World(tmp_path / "project")
    world.use({"kind": "hub", "dataset": "lab/beans"})
    world.run_here()
    rows = world.table()
    assert [(row["label"], row["split"]) for row in rows[:4]] == [
        ("cat", "test"),
        ("dog", "test"),
        ("cat", "train"),
        ("dog", "train"),
    ]
    assert [row["split"] for row in rows].count("valid") == 2
    prefix = f"hf://datasets/lab/beans@{commit}/data/"
    assert rows[0]["url"] == f"{prefix}test-00000-of-00001.parquet#0"
    assert all(row["url"].startswith(prefix) for row in rows)
    stored = sorted(path.read_bytes() for path in (world.path / "data/raw").rglob("*.jpg"))
    expected = [*range(6), 10, 11, 20, 21, 30, 31]
    assert stored == sorted(picture(number) for number in expected)
    assert not (world.path / "data/gather.partial").exists()

    # the lock is followed, whatever becomes of the main branch
    before = world.files()
    changed = beans() | {"data/test-00000-of-00001.parquet": shard([1, 1, 0], 90, NAMES)}
    later = server.put("lab/beans", changed)
    server.asked.clear()
    world.run_here()
    assert not server.asked
    (world.path / rows[0]["path"]).unlink()
    world.run_here()
    assert server.fetched() == ["README.md", "data/test-00000-of-00001.parquet"]
    assert world.files() == before

    # without the lock the data set is gathered as it is now
    (world.path / "data/gathered.csv").unlink()
    world.run_here()
    assert {row["url"].split("@")[1][:40] for row in world.table()} == {later}
    assert len(world.table()) == 13

    # a commit that is gone is said so, with what to do
    del server.revisions["lab/beans"][later]
    (world.path / world.table()[0]["path"]).unlink()
    assert "delete data/gathered.csv to gather the data set as it is now" in world.refuse()


def test_a_folder_with_the_same_files_gives_the_same_without_a_network(server: Hub, tmp_path: Path):
    server.put("lab/beans", beans())
    from_hub = told(find(dataset="lab/beans"))
    server.asked.clear()
    write(tmp_path / "here", beans())
    write(tmp_path / "data/own", beans())
    assert told(find(path=str(tmp_path / "here"))) == from_hub
    assert told(find()) == from_hub  # the folder gather.path
    assert not server.asked
    assert "'nowhere', which is missing" in failing(path="nowhere")
    assert "neither dataset nor revision" in failing(path="here", dataset="lab/beans")


def test_a_folder_is_read_again_whenever_it_changes(tmp_path: Path):
    world = World(tmp_path / "project")
    write(world.path / "data/own", beans())
    world.use({"kind": "hub"})
    world.run_here()
    assert len(world.table()) == 12
    (world.path / "data/own/data/train-00001-of-00002.parquet").unlink()
    world.run_here()
    assert len(world.table()) == 10


def test_a_killed_run_fetches_no_shard_twice(server: Hub, tmp_path: Path):
    server.put("lab/beans", beans())
    world = World(tmp_path / "project")
    world.use({"kind": "hub", "dataset": "lab/beans"})
    server.stall = "data/validation-00000-of-00001.parquet"
    process = world.start()
    deadline = time.monotonic() + 60
    while not server.stalled.wait(0.05):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (world.path / "data/gathered.csv").exists()
    server.stall = ""
    server.asked.clear()
    world.run()
    assert server.fetched() == ["data/validation-00000-of-00001.parquet"]
    assert len(world.table()) == 12


def test_a_shard_that_breaks_off_goes_on_where_it_stopped(
    server: Hub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    server.put("lab/pets", {"train.parquet": shard([0, 1] * 20, 0, NAMES)})
    server.cut = [9000]
    assert len(find(dataset="lab/pets")) == 40
    assert server.starts == [0, 9000]


def test_a_token_is_sent_and_never_written(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    server.put("lab/beans", beans())
    server.private.add("lab/beans")
    world = World(tmp_path / "project")
    world.use({"kind": "hub", "dataset": "lab/beans"})
    assert "there is no data set lab/beans, or it is private" in world.refuse()
    server.token = TOKEN
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    server.stall = "data/validation-00000-of-00001.parquet"
    process = world.start()
    server.stalled.wait(60)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    process.kill()
    _, errors = process.communicate()
    server.stall = ""
    world.run()
    files += [path for path in tmp_path.rglob("*") if path.is_file()]
    assert f"Bearer {TOKEN}" in server.tokens
    assert TOKEN not in errors
    assert [path for path in files if path.exists() and TOKEN.encode() in path.read_bytes()] == []


# --- which files, configurations and splits ---

CARD = b"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: ["data/test-*", "more/*.parquet"]
---
"""
TWO = b"""---
configs:
- config_name: small
  data_files: small/**
- config_name: large
  data_files: {train: large/train/*.parquet, test: large/test/*.parquet}
---
"""
ONE = shard([0, 1], 0, NAMES)
PARQUET: dict[str, tuple[Files, dict[str, str], list[tuple[str, str]]]] = {
    "shards": (
        {"data/train-00000-of-00001-ab12cd.parquet": ONE, "data/test-00000-of-00001.parquet": ONE},
        {},
        [
            ("data/test-00000-of-00001.parquet#0", "test"),
            ("data/train-00000-of-00001-ab12cd.parquet#0", "train"),
        ],
    ),
    "one file": ({"plain.parquet": ONE}, {}, [("plain.parquet#0", "")]),
    "one split": (
        {"data/train-00000-of-00001.parquet": ONE},
        {},
        [("data/train-00000-of-00001.parquet#0", "")],
    ),
    "names": (
        {"my_train.parquet": ONE, "dev.parquet": ONE},
        {},
        [("dev.parquet#0", "valid"), ("my_train.parquet#0", "train")],
    ),
    "folders": (
        {"training/a.parquet": ONE, "evaluation/b.parquet": ONE},
        {},
        [("evaluation/b.parquet#0", "test"), ("training/a.parquet#0", "train")],
    ),
    "converted": (
        {"default/train/0000.parquet": ONE, "default/val/0000.parquet": ONE},
        {},
        [("default/train/0000.parquet#0", "train"), ("default/val/0000.parquet#0", "valid")],
    ),
    "card": (
        {
            "README.md": CARD,
            "data/train-0.parquet": ONE,
            "data/test-0.parquet": ONE,
            "more/x.parquet": ONE,
            "junk/y.parquet": b"",
        },
        {},
        [
            ("data/train-0.parquet#0", "train"),
            ("data/test-0.parquet#0", "test"),
            ("more/x.parquet#0", "test"),
        ],
    ),
    "configuration": (
        {
            "README.md": TWO,
            "small/x.parquet": b"",
            "large/train/1.parquet": ONE,
            "large/test/1.parquet": ONE,
        },
        {"config": "large"},
        [("large/train/1.parquet#0", "train"), ("large/test/1.parquet#0", "test")],
    ),
    "split": (
        {"data/train-00000-of-00001.parquet": b"", "data/validation-00000-of-00001.parquet": ONE},
        {"split": "validation"},
        [("data/validation-00000-of-00001.parquet#0", "")],
    ),
    "split in our words": (
        {"train.parquet": b"", "val.parquet": ONE},
        {"split": "valid"},
        [("val.parquet#0", "")],
    ),
    "without labels": (
        {"train.parquet": ONE, "unlabeled-00000-of-00001.parquet": b""},
        {},
        [("train.parquet#0", "")],
    ),
    "broken card": (
        {"README.md": b"---\n: [\n---\n", "train.parquet": ONE},
        {},
        [("train.parquet#0", "")],
    ),
}


@pytest.mark.parametrize("name", PARQUET)
def test_parquet_files_belong_to_their_splits_as_the_hub_has_it(tmp_path: Path, name: str):
    files, options, expected = PARQUET[name]
    items = told(find(path=str(write(tmp_path / "set", files)), **options))
    assert [(url, split) for url, _, split in items if url.endswith("#0")] == expected
    assert [label for _, label, _ in items] == list(NAMES) * (len(items) // 2)


def test_what_is_not_clear_is_one_line_with_what_to_write(tmp_path: Path):
    card = write(tmp_path / "two", {"README.md": TWO, "small/x.parquet": ONE})
    assert "several configurations; name one" in failing(path=str(card))
    assert "`config: small`: small, large" in failing(path=str(card))
    assert "set `config` in the source's yaml to one of: small, large" in failing(
        path=str(card), config="medium"
    )
    odd = write(tmp_path / "odd", {"train.parquet": ONE, "night-00000-of-00001.parquet": ONE})
    assert "has the splits night, train; not understood: night" in failing(path=str(odd))
    assert "`split: train`" in failing(path=str(odd))
    assert "has no split 'test'" in failing(path=str(odd), split="test")
    assert len(find(path=str(odd), split="night")) == 2
    empty = write(tmp_path / "empty", {"README.md": b"# nothing"})
    assert "holds neither parquet files nor pictures" in failing(path=str(empty))


# --- which columns ---


def test_pets_has_two_columns_of_labels_and_label_is_the_one(tmp_path: Path):
    features = {"label_cat_dog": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    more = {"image_id": ["a", "b"], "label_cat_dog": [0, 1]}
    content = shard([0, 1], 0, ("abyssinian", "beagle"), more=more, features=features)
    root = str(write(tmp_path / "pets", {"train.parquet": content}))
    assert [item.label for item in find(path=root)] == ["abyssinian", "beagle"]
    assert [item.label for item in find(path=root, label_column="label_cat_dog")] == ["cat", "dog"]
    assert "label_column is 'breed'; it should be one of: label, image_id" in failing(
        path=root, label_column="breed"
    )
    assert "image_column is 'label'; it should be one of: image" in failing(
        path=root, image_column="label"
    )


def test_columns_that_are_not_clear_are_named_with_the_line_to_write(tmp_path: Path):
    features = {"coarse": {"names": ["a", "b"], "_type": "ClassLabel"}}
    content = shard([0, 1], 0, NAMES, label="fine", more={"coarse": [0, 1]}, features=features)
    root = str(write(tmp_path / "cifar", {"train.parquet": content}))
    assert "several columns fit; write into the source's yaml `label_column: fine`" in failing(
        path=root
    )
    captions = shard(["a cat", "a dog"], 0, label="text")
    root = str(write(tmp_path / "captions", {"train.parquet": captions}))
    assert "none of its columns is known to fit" in failing(path=root)
    assert [item.label for item in find(path=root, label_column="text")] == ["a cat", "a dog"]
    table = pa.table({"number": [1, 2], "label": [0, 1]})
    pq.write_table(table, tmp_path / "numbers.parquet")
    root = str(
        write(tmp_path / "numbers", {"x.parquet": (tmp_path / "numbers.parquet").read_bytes()})
    )
    assert "`image_column: NAME`" in failing(path=root)


README_NAMES = b"""---
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': cat/kitten
          '1': dog
---
"""
LABELS = {
    "text": (shard(["cat/kitten", " dog", ""]), {}, ["cat-kitten", "dog"]),
    "numbers without names": (shard([3, 7, None]), {}, ["3", "7"]),
    "truth": (shard([True, False]), {}, ["True", "False"]),
    "lists of one": (shard([[0], [1], []], 0, NAMES), {}, ["cat", "dog"]),
    "minus one": (shard([0, -1, 1], 0, NAMES), {}, ["cat", "dog"]),
    "two of one name": (
        shard([0, 1, 2], 0, ("crane", "cat", "crane")),
        {},
        ["crane (0)", "cat", "crane (2)"],
    ),
    "names of the readme": (shard([0, 1]), {"README.md": README_NAMES}, ["cat-kitten", "dog"]),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_of_every_type_are_text_and_rows_without_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
):
    content, more, expected = LABELS[name]
    root = write(tmp_path / "set", {"train.parquet": content, **more})
    assert [item.label for item in find(path=str(root))] == expected
    left_out = pq.read_metadata(root / "train.parquet").num_rows - len(expected)
    assert (f"have no label: {left_out} in train.parquet" in caplog.text) == bool(left_out)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (shard([0, 5], 0, NAMES), "label 5 has no name; there are 2 names"),
        (shard([[0, 1], [1]], 0, NAMES), "a picture has 2 labels; it should have one"),
        (
            shard([-1, None], 0, NAMES),
            "none of its pictures has a label; in the source's yaml name a column",
        ),
        (ONE[:-100], "train.parquet: not readable as parquet"),
        (ONE[:100] + b"\xff" * 400 + ONE[500:], "train.parquet: not readable as parquet"),
        (b"", "train.parquet: not readable as parquet"),
    ],
)
def test_rows_that_cannot_be_used_are_one_line(tmp_path: Path, content: bytes, message: str):
    root = write(tmp_path / "set", {"train.parquet": content})
    assert message in failing(path=str(root))


def test_a_row_without_a_picture_and_one_too_large_are_rows_of_the_lock(tmp_path: Path):
    structure = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [{"bytes": picture(1)}, {"path": "x.jpg"}, None, {"bytes": bytes(9000)}]
    table = pa.table({"image": pa.array(cells, structure), "label": ["a", "b", "b", "a"]})
    root = tmp_path / "set"
    root.mkdir()
    pq.write_table(table, root / "x.parquet")
    rows = [(item.missing, item.status) for item in find(path=str(root), max_member=5000)]
    assert rows == [
        ("", "failed"),
        ("the row holds no picture", "failed"),
        ("the row holds no picture", "failed"),
        ("larger than max_member, 5000", "refused"),
    ]


def test_pictures_may_be_plain_bytes(tmp_path: Path):
    table = pa.table({"img": [picture(1), picture(2)], "label": ["a", "b"]})
    root = tmp_path / "set"
    root.mkdir()
    pq.write_table(table, root / "x.parquet")
    items = find(path=str(root))
    assert [item.read() for item in items if item.read] == [picture(1), picture(2)]


def test_memory_does_not_grow_with_a_shard(tmp_path: Path):
    """200 MB in one row group, of which 32 rows of 100 kB are held at a time."""
    image = pa.array([os.urandom(100_000) for _ in range(100)] * 20, pa.binary())
    table = pa.table({"image": image, "label": ["a", "b"] * 1000})
    (tmp_path / "set").mkdir()
    pq.write_table(
        table, tmp_path / "set/x.parquet", row_group_size=2000, compression="none",
        use_dictionary=False,
    )  # fmt: skip
    assert (tmp_path / "set/x.parquet").stat().st_size > 190_000_000
    code = """
import resource, sys
from pathlib import Path
import pyarrow.parquet
from pawprint.sources.hub import HubOptions, find_pictures
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before, options = peak(), HubOptions(kind="hub", path=sys.argv[1])
print(sum(len(item.read()) for item in find_pictures(options, Path())), peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "set"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    size, grown = map(int, done.stdout.split())
    assert size == 200_000_000
    assert grown < 80


# --- pictures in folders and archives ---

CARD_OF_FOLDERS = b"""---
configs:
- config_name: a
  data_files:
  - split: train
    path: one/**
  - split: test
    path: two/*/*.jpg
---
"""
TABLE = b"file_name,label\n1.jpg,cat\n2.jpg,dog\n"
NUMBERS = b"file_name,label,split\n1.jpg,0,validation\n2.jpg,1,x\n3.jpg,-1,\n"
LINES = b'{"file_name": "1.jpg", "label": 0}\n{"file_name": "2.jpg", "label": 1}\n'
FOLDERS: dict[str, tuple[Files, list[tuple[str, str, str]]]] = {
    "folders": (
        pictures("train/cat/1.jpg", "train/dog/2.jpg", "test/dog/3.jpg"),
        [
            ("test/dog/3.jpg", "dog", "test"),
            ("train/cat/1.jpg", "cat", "train"),
            ("train/dog/2.jpg", "dog", "train"),
        ],
    ),
    "no splits": (
        pictures("cat/1.jpg", "test tube/2.jpg"),
        [("cat/1.jpg", "cat", ""), ("test tube/2.jpg", "test tube", "")],
    ),
    "deep": (
        pictures("data/training_set/cat/1.jpg", "data/val/dog/2.jpg"),
        [("data/training_set/cat/1.jpg", "cat", "train"), ("data/val/dog/2.jpg", "dog", "valid")],
    ),
    "a zip per split": (
        {
            "data/train.zip": zipped(pictures("cat/1.jpg", "dog/2.jpg", "cat/._1.jpg")),
            "data/test.zip": zipped(pictures("dog/3.jpg")),
        },
        [
            ("data/test.zip#dog/3.jpg", "dog", "test"),
            ("data/train.zip#cat/1.jpg", "cat", "train"),
            ("data/train.zip#dog/2.jpg", "dog", "train"),
        ],
    ),
    "one tar": (
        {"pets.tar.gz": tarred(pictures("train/cat/1.jpg", "valid/dog/2.jpg"))},
        [
            ("pets.tar.gz#train/cat/1.jpg", "cat", "train"),
            ("pets.tar.gz#valid/dog/2.jpg", "dog", "valid"),
        ],
    ),
    "a zip per class": (
        {"cat.zip": zipped(pictures("1.jpg")), "dog.zip": zipped(pictures("2.jpg"))},
        [("cat.zip#1.jpg", "cat", ""), ("dog.zip#2.jpg", "dog", "")],
    ),
    "metadata.csv": (
        {"train/metadata.csv": TABLE, **pictures("train/1.jpg", "train/2.jpg", "train/3.jpg")},
        [("train/1.jpg", "cat", ""), ("train/2.jpg", "dog", "")],
    ),
    "metadata.jsonl": (
        {
            "README.md": README_NAMES,
            "train/metadata.jsonl": LINES,
            "test/metadata.jsonl": LINES,
            **pictures("train/1.jpg", "train/2.jpg", "test/1.jpg"),
        },
        [
            ("test/1.jpg", "cat-kitten", "test"),
            ("train/1.jpg", "cat-kitten", "train"),
            ("train/2.jpg", "dog", "train"),
        ],
    ),
    "numbers in metadata.csv": (
        {
            "README.md": README_NAMES,
            "metadata.csv": NUMBERS,
            **pictures("1.jpg", "2.jpg", "3.jpg"),
        },
        [("1.jpg", "cat-kitten", ""), ("2.jpg", "dog", "")],
    ),
    "words for a missing label in metadata.csv": (
        {
            "metadata.csv": b"file_name,label\n1.jpg,cat\n2.jpg,NaN\n3.jpg,dog\n",
            **pictures("1.jpg", "2.jpg", "3.jpg"),
        },
        [("1.jpg", "cat", ""), ("3.jpg", "dog", "")],
    ),
    "metadata in a zip": (
        {"train.zip": zipped({"metadata.csv": TABLE, **pictures("1.jpg", "2.jpg")})},
        [("train.zip#1.jpg", "cat", ""), ("train.zip#2.jpg", "dog", "")],
    ),
    "metadata of captions": (
        {"metadata.csv": b"file_name,text\ncat/1.jpg,x\n", **pictures("cat/1.jpg", "dog/2.jpg")},
        [("cat/1.jpg", "cat", ""), ("dog/2.jpg", "dog", "")],
    ),
    "unlabelled test": (
        pictures("train/cat/1.jpg", "train/dog/2.jpg", "test/3.jpg"),
        [("train/cat/1.jpg", "cat", "train"), ("train/dog/2.jpg", "dog", "train")],
    ),
    "card": (
        {
            "README.md": CARD_OF_FOLDERS,
            **pictures("one/cat/1.jpg", "two/dog/2.jpg", "three/dog/3.jpg"),
        },
        [("one/cat/1.jpg", "cat", "train"), ("two/dog/2.jpg", "dog", "test")],
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_pictures_in_folders_and_archives_get_their_labels_and_splits(
    server: Hub, tmp_path: Path, name: str
):
    files, expected = FOLDERS[name]
    root = str(write(tmp_path / "set", files))
    assert told(find(path=root)) == expected
    server.put("lab/set", files)
    items = find(dataset="lab/set")
    assert told(items) == expected
    for item, (url, _, _) in zip(items, expected, strict=True):
        held = url.partition("#")[2]
        where = files[url.partition("#")[0]]
        if not held:
            assert item.read is not None
            assert item.read() == where


def test_many_pictures_come_in_order_over_several_pages_and_only_those_with_labels(server: Hub):
    files = pictures(*(f"train/{'ab'[i % 2]}/{i:03}.jpg" for i in range(70)), "test/1.jpg")
    files["train/a/IMG_1.MOV"] = b"a video"
    server.put("lab/many", files)
    items = find(dataset="lab/many")
    assert [item.read() for item in items if item.read] == [
        files[name] for name in sorted(files) if name.endswith(".jpg") and name != "test/1.jpg"
    ]
    assert [item.missing for item in items if item.missing] == ["a video, not a picture"]
    assert not {"test/1.jpg", "train/a/IMG_1.MOV"} & set(server.fetched())


def test_a_webdataset_and_shards_without_labels_do_not_pass_for_classes(tmp_path: Path):
    web = tarred({"0.jpg": picture(0), "0.cls": b"1"})
    root = write(tmp_path / "web", {"train-0000.tar.gz": web})
    assert "is a WebDataset, which is not read" in failing(path=str(root))
    names = ("data/train-00000-of-00002.zip", "data/train-00001-of-00002.zip")
    root = write(tmp_path / "zips", {name: zipped(pictures("1.jpg")) for name in names})
    assert "none of its pictures has a label" in failing(path=str(root))


def test_a_hostile_archive_and_a_hostile_listing_are_refused(server: Hub):
    server.put("lab/evil", {"train.zip": zipped({"../cat/1.jpg": picture(1)})})
    assert "'../cat/1.jpg' leads outside" in failing(dataset="lab/evil")
    server.put("lab/worse", pictures("../../cat/1.jpg", "dog/2.jpg"))
    assert "leads outside" in failing(dataset="lab/worse")


# --- scripts, and what cannot be read ---


def test_a_script_is_never_run_and_the_hubs_conversion_is_read(server: Hub, tmp_path: Path):
    trap = f"open({str(tmp_path / 'ran')!r}, 'w')".encode()
    server.put("lab/old", {"old.py": trap, "old_infos.zip": zipped({"x.txt": b""})})
    assert "none of its pictures has a label; its script old.py is not run" in failing(
        dataset="lab/old"
    )
    converted = {"default/train/0000.parquet": ONE, "default/test/0000.parquet": ONE}
    commit = server.put("lab/old", converted, "refs/convert/parquet")
    items = find(dataset="lab/old")
    assert [(item.label, item.split) for item in items] == [
        ("cat", "test"),
        ("dog", "test"),
        ("cat", "train"),
        ("dog", "train"),
    ]
    assert all(f"@{commit}/" in item.url for item in items)
    assert not (tmp_path / "ran").exists()


def test_what_may_not_be_read_or_is_not_there_is_one_line(
    server: Hub, monkeypatch: pytest.MonkeyPatch
):
    server.put("lab/beans", beans())
    assert "there is no data set lab/peas, or it is private" in failing(dataset="lab/peas")
    assert "has no revision 'v9'; correct `revision`" in failing(dataset="lab/beans", revision="v9")
    server.gated.add("lab/beans")
    line = failing(dataset="lab/beans")
    assert "lab/beans is gated: accept its terms on its page, and set HF_TOKEN" in line
    assert "should be owner/name" in failing(dataset="https://hub.example/lab/beans")
    assert "unknown key datset" in failing(datset="lab/beans")
    ask_here(monkeypatch, "http://127.0.0.1:9")
    line = failing(dataset="lab/beans")
    assert "the Hub cannot be read (" in line
    assert "run again to go on from what is there" in line


def test_a_damaged_shard_is_fetched_again_by_the_next_run(server: Hub):
    files = {"train.parquet": ONE}
    server.put("lab/set", files)
    part = hub.PARTIAL / "hub" / commit_of(files)[:16] / "train.parquet"
    assert len(find(dataset="lab/set")) == 2
    part.write_bytes(ONE[:-50])
    assert "not readable as parquet" in failing(dataset="lab/set")
    assert len(find(dataset="lab/set")) == 2


@pytest.mark.parametrize(
    ("module", "options"),
    [("huggingface_hub", {"dataset": "lab/beans"}), ("pyarrow", {"path": "set"})],
)
def test_a_missing_package_is_one_line_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, options: dict[str, str]
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "set", {"train.parquet": ONE})
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, f"{module}.parquet", None)
    line = failing(**options)
    assert f"kind: hub needs {module}: `pip install huggingface-hub pyarrow` installs it" in line


def test_a_schema_that_describes_something_else_is_no_matter(tmp_path: Path):
    for text in (b"no json", b"[]", b'{"info": 3}', b'{"info": {"features": []}}'):
        table = pa.table({"image": [picture(1)], "label": ["a"]})
        (tmp_path / "set").mkdir(exist_ok=True)
        pq.write_table(
            table.replace_schema_metadata({"huggingface": text}), tmp_path / "set/x.parquet"
        )
        assert [item.label for item in find(path=str(tmp_path / "set"))] == ["a"]
