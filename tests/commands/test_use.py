"""`pawprint use`: what it says is what gather does, and it changes two lines of params.yaml."""

import difflib
import io
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from pawprint.__main__ import main
from pawprint.params import load_yaml
from pawprint.tables import read_json, read_table
from stages import gather
from tests.support.hub import Hub, ask_here, shard
from tests.support.phone import heic, movie
from tests.support.project import ROOT
from tests.support.world import fill, picture

PARAMS = (ROOT / "params.yaml").read_text()


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without stages, in the working folder."""
    here = tmp_path / "project"
    (here / "data/own").mkdir(parents=True)
    shutil.copytree(ROOT / "data/sources", here / "data/sources")
    (here / "params.yaml").write_text(PARAMS)
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def use(capsys: pytest.CaptureFixture[str]):
    """Runs the command; what it prints."""

    def run(*words: object) -> str:
        main(["use", *map(str, words)])
        return capsys.readouterr().out

    return run


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str]):
    """Runs the command, which must end with one line; the line."""

    def run(*words: object) -> str:
        with pytest.raises(SystemExit) as caught:
            main(["use", *map(str, words)])
        assert "\n" not in str(caught.value)
        assert Path("params.yaml").read_text() == PARAMS
        return str(caught.value)

    return run


def changed() -> list[str]:
    """The lines of params.yaml that are new."""
    lines = difflib.ndiff(PARAMS.splitlines(), Path("params.yaml").read_text().splitlines())
    return [line[2:].strip() for line in lines if line.startswith("+ ")]


def pets(root: Path) -> Path:
    """Kaggle's layout: a table, pictures without a suffix in it, and a test without labels."""
    fill(root, *(f"train/{i}.jpg" for i in range(8)), "test/8.jpg")
    rows = [f"{i},{'boxer' if i % 2 else 'pug'}" for i in range(8)]
    (root / "labels.csv").write_text("\n".join(["id,breed", *rows, "99,pug"]) + "\n")
    return root


def zipped(root: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as file:
        for path in sorted(path for path in root.rglob("*") if path.is_file()):
            file.write(path, path.relative_to(root.parent))
    return target


def test_a_table_is_described_and_becomes_the_source(tmp_path: Path, use):
    said = use(pets(tmp_path / "Dog Breeds"))
    assert "labels     the table labels.csv: column breed, for the file in column id" in said
    assert "classes    2: boxer 4, pug 4" in said
    assert "splits     train 8; valid (0.2 of it) and test (0.2 of it) will be drawn from" in said
    assert "formats    jpeg 8" in said
    assert "sizes      64 x 64 to 64 x 64 pixels" in said
    assert "refused    none" in said
    assert "1 of 9 rows have no file that fits, so left out: 99" in said
    assert "pictures without a label in test, left out: 1; ask" in said
    assert said.splitlines()[-1] == "next       dvc repro"
    assert load_yaml(Path("data/sources/dog_breeds.yaml")) == {
        "kind": "folder",
        "labels": "table",
        "table": "labels.csv",
    }


def test_only_two_lines_of_params_change_and_comments_and_order_stay(tmp_path: Path, use):
    use(pets(tmp_path / "pets_of_mine"))
    source, path = changed()
    assert source.startswith("source: pets_of_mine")
    assert source.endswith(
        "# a name in data/sources: sample (drawn bears), folder (yours), bears, pets, …"
    )
    assert path.startswith(f"path: {tmp_path}/pets_of_mine # for folder and urls")


@pytest.mark.parametrize("form", ["folder", "zip", "table"])
def test_what_it_says_is_what_gather_does(tmp_path: Path, form: str, use):
    root = pets(tmp_path / "breeds")
    given = {
        "folder": root,
        "zip": zipped(root, tmp_path / "breeds.zip"),
        "table": root / "labels.csv",
    }
    said = use(given[form])
    gather.main()
    rows = read_table("data/gathered.csv")
    have = rows[rows["status"] == "ok"]
    counts = ", ".join(f"{label} {n}" for label, n in sorted(Counter(have["label"]).items()))
    assert f"classes    2: {counts}" in said
    assert set(have["split"]) == {"train"}
    assert read_json("metrics/gather.json")["pictures"] == 8


def test_a_dry_run_writes_nothing_and_shows_the_yaml(tmp_path: Path, use, project: Path):
    before = sorted(project.rglob("*"))
    said = use(pets(tmp_path / "breeds"), "--dry-run")
    assert said.endswith(
        "not written (--dry-run): data/sources/breeds.yaml\n"
        "kind: folder\nlabels: table\ntable: labels.csv\n"
    )
    assert sorted(project.rglob("*")) == before
    assert Path("params.yaml").read_text() == PARAMS


def test_a_source_of_somebody_else_is_not_written_over(tmp_path: Path, use, refuse):
    root = fill(tmp_path / "bears", "black/1.jpg", "teddy/2.jpg")
    before = Path("data/sources/bears.yaml").read_bytes()
    assert "is there, and not written by this command" in refuse(root, "--name", "pets")
    assert "my_bears, because data/sources/bears.yaml is there already" in use(root)
    assert Path("data/sources/bears.yaml").read_bytes() == before
    assert "my_bears" in use(root), "its own it writes again"


def test_what_will_be_refused_is_named_with_its_reason(tmp_path: Path, use):
    root = fill(tmp_path / "pets", "cat/1.jpg", "cat/2.jpg", "dog/3.jpg", "dog/4.jpg")
    (root / "cat/5.jpg").write_bytes(b"<html>not found</html>")
    (root / "dog/6.jpg").write_bytes(picture(6, 16))
    (root / "dog/7.jpg").write_bytes(picture(7)[:-200])
    (root / "cat/8.jpg").write_bytes((root / "dog/3.jpg").read_bytes())
    (root / "dog/9.jpg").write_bytes((root / "dog/4.jpg").read_bytes())
    wide = io.BytesIO()
    Image.new("RGB", (200, 50)).save(wide, "PNG")
    (root / "dog/10.jpg").write_bytes(wide.getvalue())
    said = use(root)
    assert "refused    1 broken: dog/7.jpg" in said
    assert "refused    1 not a picture: cat/5.jpg (begins with b'<html>" in said
    assert "refused    1 too small: dog/6.jpg (16 x 16; verify.min_size is 32)" in said
    assert "png 1" in said
    assert "repeated   same bytes as another: 1, kept once; under two labels: 2, not kept" in said
    assert "sizes      64 x 64 to 200 x 50 pixels" in said


def test_a_phones_pictures_are_pictures_and_its_videos_are_counted(tmp_path: Path, use):
    for label, colour in (("cat", "red"), ("dog", "blue")):
        (tmp_path / "phone" / label).mkdir(parents=True)
        content = heic(Image.new("RGB", (320, 240), colour), 6)
        (tmp_path / "phone" / label / "IMG_1.HEIC").write_bytes(content)
        (tmp_path / "phone" / label / "IMG_1.MOV").write_bytes(movie())
    said = use(tmp_path / "phone", "--dry-run")
    assert "formats    heic 2" in said
    assert "240 x 320" in said
    assert "left out   2: a video, not a picture" in said


@pytest.mark.parametrize("packed", [False, True])
def test_pictures_are_not_said_to_be_left_out(tmp_path: Path, packed: bool, use):
    names = (f"{label}_{i}.jpg" for label in ("cat", "dog") for i in range(3))
    root = fill(tmp_path / "pets", *names)
    said = use(zipped(root, tmp_path / "pets.zip") if packed else root)
    assert "classes    2: cat 3, dog 3" in said
    assert "left out" not in said


def test_what_is_said_of_files_beside_a_list_of_addresses_is_not_about_it(tmp_path: Path, use):
    (tmp_path / "loop").symlink_to(tmp_path)
    path = tmp_path / "fish.csv"
    path.write_text("url,label\nhttps://a.example/1.jpg,carp\nhttps://a.example/2.jpg,pike\n")
    assert "leads back" not in use(path)


def test_a_table_may_be_a_text(tmp_path: Path, use):
    root = fill(tmp_path / "pets", *(f"{i}.jpg" for i in range(4)))
    rows = "".join(f"{i}.jpg\t{'cat' if i % 2 else 'dog'}\n" for i in range(4))
    (root / "labels.txt").write_text("file\tlabel\n" + rows)
    assert "classes    2: cat 2, dog 2" in use(root / "labels.txt")


def test_rare_classes_are_named(tmp_path: Path, use):
    root = fill(tmp_path / "few", *(f"cat/{i}.jpg" for i in range(4)), "dog/8.jpg", "fox/9.jpg")
    assert "cannot be in every split: fox 1, dog 1" in use(root)


def test_classes_that_never_train_are_named(tmp_path: Path, use):
    root = fill(tmp_path / "pets", *(f"train/{c}/1.jpg" for c in ("cat", "dog")), "val/fox/2.jpg")
    assert "no train   classes without a picture in train, left out: fox" in use(root)


def test_classes_of_nearly_the_same_name_are_named(tmp_path: Path, use):
    root = fill(tmp_path / "pets", "train/Cat/1.jpg", "train/dog/2.jpg", "val/cat/3.jpg")
    assert "differ only in case, spaces or signs: Cat, cat; rename one if they are" in use(root)


def test_options_say_what_cannot_be_guessed(tmp_path: Path, use, refuse):
    root = fill(tmp_path / "years", "A/cat/1.jpg", "A/dog/2.jpg", "B/cat/3.jpg", "B/dog/4.jpg")
    said = refuse(root)
    assert "write `splits: {A: train, B: test}`" in said
    assert said.endswith(
        "(as options: --splits A=train B=test or --include '^A/' or --splits none)"
    ), "nobody has written a yaml yet"
    assert "splits     train 2, test 2; valid" in use(root, "--splits", "A=train", "B=test")
    assert load_yaml(Path("data/sources/years.yaml"))["splits"] == {"A": "train", "B": "test"}
    assert "splits     none of its own" in use(root, "--splits", "none")
    assert load_yaml(Path("data/sources/years.yaml"))["splits"] == {}


def test_a_class_that_is_called_as_a_missing_label_is_named_by_an_option(tmp_path, use, refuse):
    root = fill(tmp_path / "regions", "1.jpg", "2.jpg", "3.jpg", "4.jpg")
    (root / "t.csv").write_text("file,label\n1,EU\n2,NA\n3,EU\n4,NA\n")
    assert "line 3: label is 'NA', which usually means" in (said := refuse(root))
    assert "(as options: --not-missing NA)" in said
    assert "classes    2: EU 2, NA 2" in use(root, "--not-missing", "NA")
    assert load_yaml(Path("data/sources/regions.yaml"))["not_missing"] == ["NA"]


def test_columns_are_named_by_options(tmp_path: Path, use, refuse):
    root = fill(tmp_path / "slides", "1.jpg", "2.jpg", "3.jpg", "4.jpg")
    (root / "t.csv").write_text("slide;a;b\n1;x;k\n2;y;l\n3;x;k\n4;y;l\n")
    said = refuse(root)
    assert "which one holds the" in said
    assert "(as options: --label-column b)" in said
    said = use(root, "--file-column", "slide", "--label-column", "b")
    assert "classes    2: k 2, l 2" in said
    assert load_yaml(Path("data/sources/slides.yaml"))["label_column"] == "b"


def test_a_list_of_addresses_is_counted(tmp_path: Path, use):
    path = tmp_path / "fish.csv"
    path.write_text("url,label\nhttps://a.example/1.jpg,carp\nhttps://a.example/2.jpg,pike\n")
    said = use(path)
    assert "fish: 2 addresses; the pictures are looked at when gather has them" in said
    assert "classes    2: carp 1, pike 1" in said
    assert load_yaml(Path("data/sources/fish.yaml")) == {"kind": "urls"}
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "carp.txt").write_text("https://a.example/1.jpg\n")
    (folder / "pike.txt").write_text("https://a.example/2.jpg\n")
    assert "classes    2: carp 1, pike 1" in use(folder)


CARD = """---
dataset_info:
  features:
  - {name: image, dtype: image}
  - name: label
    dtype: {class_label: {names: {'0': cat, '1': dog}}}
  splits:
  - {name: train, num_bytes: 1, num_examples: 3680}
  - {name: test, num_bytes: 1, num_examples: 3669}
---
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    """A Hub that huggingface_hub asks."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with Hub() as running:
        ask_here(monkeypatch, running.base)
        yield running


def shards() -> dict[str, bytes]:
    """A data set with train and test."""
    return {
        "README.md": CARD.encode(),
        "data/train-00000-of-00001.parquet": shard([0, 1, 0, 1, 1], 0, ("cat", "dog")),
        "data/test-00000-of-00001.parquet": shard([0, 1], 9, ("cat", "dog")),
    }


def test_a_data_set_of_the_hub_is_known_by_its_listing_and_readme(server: Hub, project: Path, use):
    commit = server.put("someone/beans", shards())
    before = sorted(project.rglob("*"))
    said = use("someone/beans", "--dry-run")
    assert sorted(project.rglob("*")) == before
    assert "a data set of the Hub, as no folder has this name" in said
    assert f"files      2 parquet files, at commit {commit[:12]}" in said
    assert "classes    2: cat, dog" in said
    assert "splits     test 3,669 (test), train 3,680 (train)" in said
    assert server.fetched() == ["README.md"], "no pictures"
    said = use("someone/beans", "--split", "train")
    assert "splits     train 3,680; train, valid and test are drawn from it" in said
    assert load_yaml(Path("data/sources/beans.yaml")) == {
        "kind": "hub",
        "dataset": "someone/beans",
        "split": "train",
    }
    assert len(changed()) == 1, "gather.path is not read"


def test_a_data_set_that_cannot_be_read_is_one_line(server: Hub, refuse):
    assert "--table is not for a data set of the Hub" in refuse("a/b", "--table", "x.csv")
    assert "there is no data set a/b, or it is private" in refuse("a/b")
    server.put("a/odd", {f"data/{name}-00000-of-00001.parquet": b"" for name in ("x", "y")})
    said = refuse("a/odd")
    assert "such as `split: x` in the source's yaml (as options: --split x)" in said


def test_a_hub_that_does_not_answer_leaves_it_to_gather(server: Hub, monkeypatch, use):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "not looked at yet, gather asks again: data set a/b" in use("a/b")
    assert load_yaml(Path("data/sources/b.yaml")) == {"kind": "hub", "dataset": "a/b"}


def test_a_folder_of_parquet_files_is_looked_at(tmp_path: Path, use):
    for name, content in shards().items():
        (tmp_path / "rows" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "rows" / name).write_bytes(content)
    said = use(tmp_path / "rows")
    assert "rows: a folder of parquet files" in said
    assert "classes    2: dog 4, cat 3" in said
    assert "splits     train 5, test 2; valid (0.2 of it) will be drawn from train" in said
    assert "formats    jpeg 7" in said
    assert load_yaml(Path("data/sources/rows.yaml")) == {"kind": "hub"}


def test_params_without_a_section_gather_are_one_line(tmp_path: Path, refuse, monkeypatch):
    root = fill(tmp_path / "zoo", "cat/1.jpg", "dog/2.jpg")
    Path("params.yaml").write_text("split: {}\n")
    monkeypatch.setattr("tests.commands.test_use.PARAMS", "split: {}\n")
    assert "params.yaml has no section `gather`" in refuse(root)


def test_pictures_whose_names_do_not_say_so_are_classes_beside_a_text(tmp_path: Path, use):
    root = fill(tmp_path / "zoo", "cat/1", "cat/2", "dog/3", "dog/4")
    (root / "notes.txt").write_text("from the zoo\n")
    assert "classes    2: cat 2, dog 2" in use(root)


def test_a_yaml_that_is_written_over_is_named(tmp_path: Path, use):
    one = fill(tmp_path / "one/farm", "cat/1.jpg", "dog/2.jpg")
    two = fill(tmp_path / "two/farm", "cow/1.jpg", "pig/2.jpg")
    assert "is replaced" not in use(one)
    assert "is replaced" not in use(one)
    said = "data/sources/farm.yaml is there already and is replaced; --name keeps both"
    assert said in use(two, "--dry-run")
    assert said in use(two)


def test_a_project_that_may_not_be_written_is_one_line(tmp_path: Path, monkeypatch, refuse):
    def write(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pawprint.commands.use.write_bytes", write)
    root = fill(tmp_path / "zoo", "cat/1.jpg", "dog/2.jpg")
    assert refuse(root) == ("pawprint: data/sources/zoo.yaml: Permission denied; give access to it")


def test_a_path_in_the_project_is_written_relative_to_it(project: Path, use):
    fill(project / "data/own", "cat/1.jpg", "dog/2.jpg")
    use(project / "data/own")
    assert changed() == [line for line in changed() if line.startswith("source: own")]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "nowhere: there is no such file or folder; a data set of the Hub is named"),
        ("data/nowhere", "there is no such file or folder"),
        ("data/own", "'data/own' holds no file that is a picture by its name"),
        (
            "data/flat",
            "nothing says what is on its pictures; put them into a folder for each class",
        ),
        ("data/late", "(valid 2, test 2), and none is in train; say what the words mean by --spl"),
        ("data", "gather.path is 'data', but data/raw, which the pipeline writes"),
        ("params.yaml", "is not understood; name a folder, a table"),
        ("one.jpg", "is one picture; name the folder, the table or the archive"),
        ("t.xlsx", "a .xlsx is not read; save it as CSV"),
        ("t.rar", "a .rar is not read; unpack it, and name the folder"),
        ("t.zip", "cannot be read as a .tgz, .tar or .zip"),
        ("t.csv", "none of its 1 rows names a file that is there, such as 'x'"),
        ("t.csv", "if they lie elsewhere, name the folder that holds table and pictures"),
        ("head.csv", "head.csv has no rows below its header; write one for each picture"),
        (
            "urls.txt",
            "1 class (urls); a classifier needs at least two; name a folder with one list",
        ),
        ("https://a.example/page", "is an address; for an archive it should end in .zip"),
    ],
)
def test_what_cannot_be_used_is_one_line(project: Path, path: str, message: str, refuse):
    fill(project / "data/more", "cat/1.jpg", "dog/2.jpg")
    fill(project / "data/flat", "IMG_1.jpg", "IMG_2.jpg")
    fill(project / "data/late", *(f"{s}/{c}/1.jpg" for s in ("val", "test") for c in "ab"))
    for name in ("one.jpg", "t.xlsx", "t.rar", "t.zip"):
        (project / name).write_bytes(b"PK")
    (project / "t.csv").write_text("file,label\nx,cat\n")
    (project / "head.csv").write_text("file,label\n")
    (project / "urls.txt").write_text("https://a.example/1.jpg\n")
    assert message in refuse(path)


def test_a_pattern_without_a_group_is_one_line(tmp_path: Path, refuse):
    root = fill(tmp_path / "pets", "cat_1.jpg", "dog_2.jpg")
    assert refuse(root, "--pattern", "cat").startswith(
        "pawprint: the options: it says labels: pattern, so its pattern should have a group"
    )


def test_a_table_that_names_none_of_the_pictures_is_named(tmp_path: Path, refuse):
    root = fill(tmp_path / "pets", "0001.jpg", "0002.jpg")
    (root / "labels.csv").write_text("id,label\n1,cat\n2,dog\n")
    assert "(labels.csv names none of them); put them into a folder for each" in refuse(root)


def test_splits_that_are_no_pairs_are_one_line(tmp_path: Path, refuse):
    root = fill(tmp_path / "pets", "cat/1.jpg", "dog/2.jpg")
    assert "--splits is 'A:train'; it should be WORD=SPLIT" in refuse(root, "--splits", "A:train")
    assert "it should give each word train, valid, test or a list of them" in refuse(
        root, "--splits", "A=training"
    )
