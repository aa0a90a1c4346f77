"""The layouts that people have: each ends in the right classes, splits and counts, or in one line.

A name of a file stands for a picture. In `expected`, `cat/train` counts the cats that the source
itself gives to train, and `cat` those that it leaves to be drawn.
"""

import zipfile
from collections import Counter
from pathlib import Path

import pytest

from pawprint.params import StageError, check
from pawprint.sources import Found, archive
from pawprint.sources.archive import ArchiveOptions
from pawprint.sources.download import Downloader, DownloadParams
from pawprint.sources.guessing import Guesser
from pawprint.sources.names import is_hidden
from tests.support.world import fill, from_folder

ID = "000bec180eb18c7604dcecc8fe0dba07"
Case = tuple[list[str], dict[str, str | bytes], dict[str, object], dict[str, int]]


def both(*folders: str) -> list[str]:
    """A cat and a dog in each of the folders."""
    return [
        f"{folder}/{name}/1.jpg".removeprefix("./") for folder in folders for name in ("cat", "dog")
    ]


def once(*splits: str) -> dict[str, int]:
    """One cat and one dog in each of the splits."""
    return {f"{name}/{split}".rstrip("/"): 1 for split in splits for name in ("cat", "dog")}


FOLDERS: dict[str, tuple[list[str], dict[str, int]]] = {
    "a folder per class": (both("."), once("")),
    "in a folder of the archive's name": (both("pets"), once("")),
    "train and val": (both("train", "val"), once("train", "valid")),
    "train and valid in capitals": (both("TRAIN", "Valid"), once("train", "valid")),
    "training, validation, testing": (
        both("training", "validation", "testing"),
        once("train", "valid", "test"),
    ),
    "training_set and test_set": (both("training_set", "test_set"), once("train", "test")),
    "trn and dev": (both("trn", "dev"), once("train", "valid")),
    "Train-Images and Test Images": (both("Train-Images", "Test Images"), once("train", "test")),
    "years in the names": (both("train2017", "val2017"), once("train", "valid")),
    "Intel's: each folder in itself, and pictures without labels": (
        [*both("seg_train/seg_train", "seg_test/seg_test"), "seg_pred/seg_pred/1.jpg"],
        once("train", "test"),
    ),
    "the archive's folder twice": (
        both("data/pets/train", "data/pets/test"),
        once("train", "test"),
    ),
    "Kaggle's: test without labels": (
        [*both("train"), "test/1.jpg", "test/2.jpg"],
        once("train"),
    ),
    "test without labels beside the classes": ([*both("."), "test/1.jpg"], once("")),
    "test without labels in a folder for Keras": (
        [*both("train"), "test/unknown/1.jpg"],
        once("train"),
    ),
    "test1, as in dogs against cats": (
        [*both("train", "valid"), "test1/1.jpg"],
        once("train", "valid"),
    ),
    "Stanford Dogs': texts without a suffix in folders of the same names": (
        [*both("Images"), "Annotation/cat/1", "Annotation/dog/1"],
        once(""),
    ),
    "imgs, train, class": (both("imgs/train", "imgs/val"), once("train", "valid")),
    "images below each split": (
        both("set/Training/images", "set/Validation/images"),
        once("train", "valid"),
    ),
    "classes with spaces and of other scripts, and capitals in suffixes": (
        ["train/große Katze/1.JPG", "train/犬 и кот/2.PNG", "test/große Katze/3.Jpeg"],
        {"große Katze/train": 1, "犬 и кот/train": 1, "große Katze/test": 1},
    ),
    "a split in each class": (
        ["cat/train/1.jpg", "cat/test/2.jpg", "dog/train/3.jpg", "dog/test/4.jpg"],
        once("train", "test"),
    ),
    "a folder of images in each class": (
        ["train/cat/images/1.jpg", "train/dog/images/2.jpg"],
        once("train"),
    ),
    "a class called train beside others": (
        ["train/bus/1.jpg", "train/train/2.jpg", "test/bus/3.jpg", "test/train/4.jpg"],
        {"bus/train": 1, "train/train": 1, "bus/test": 1, "train/test": 1},
    ),
    "trains and buses": (["bus/1.jpg", "train/2.jpg"], {"bus": 1, "train": 1}),
    "a class that begins like a split": (
        ["train_station/1.jpg", "airport/2.jpg"],
        {"train_station": 1, "airport": 1},
    ),
    "drawings and photos": (["drawings/1.jpg", "photos/2.jpg"], {"drawings": 1, "photos": 1}),
    "breeds in folders of their kind": (
        ["dogs/beagle/1.jpg", "cats/persian/2.jpg"],
        {"beagle": 1, "persian": 1},
    ),
    "tables and texts beside the folders": (
        [*both("train"), "train/labels.csv", "README.md", "__MACOSX/train/cat/._1.jpg"],
        once("train"),
    ),
}


def counted(items: list[Found]) -> dict[str, int]:
    """How many pictures each class has in each split; those that are missing are left out."""
    return dict(Counter(f"{i.label}/{i.split}".rstrip("/") for i in items if not i.missing))


@pytest.mark.parametrize("layout", FOLDERS)
def test_a_layout_of_folders_is_understood(tmp_path: Path, layout: str):
    files, expected = FOLDERS[layout]
    assert counted(from_folder(fill(tmp_path, *files))) == expected


@pytest.mark.parametrize("layout", FOLDERS)
def test_a_layout_in_an_archive_is_understood_alike(tmp_path: Path, layout: str):
    files, expected = FOLDERS[layout]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as packed:
        for file in files:
            packed.writestr(file, b"")
    yaml = {"kind": "archive", "archive": str(tmp_path / "all.zip")}
    options = check(yaml, ArchiveOptions, "", tmp_path)
    with Downloader(DownloadParams(), allow_private=False) as downloader:
        assert counted(list(archive.find_pictures(options, tmp_path, downloader))) == expected


# What is in the folder, the table or tables, the yaml, and what comes of it.
TABLES: dict[str, Case] = {
    "Kaggle's dog breeds: names without a suffix, in a folder below": (
        [f"train/{ID}.jpg", "train/b.jpg", "test/c.jpg"],
        {"labels.csv": f"id,breed\n{ID},boxer\nb,pug\n"},
        {},
        {"boxer/train": 1, "pug/train": 1},
    ),
    "a sample: most rows have no file": (
        ["train/a.jpg", "train/b.jpg"],
        {"labels.csv": "id,breed\na,boxer\nb,pug\n" + "".join(f"x{i},pug\n" for i in range(98))},
        {},
        {"boxer/train": 1, "pug/train": 1},
    ),
    "Roboflow's: a table in each folder, a column per class": (
        ["train/1.jpg", "train/2.jpg", "valid/1.jpg", "test/1.jpg"],
        {
            "train/_classes.csv": "filename, Cat, dog\n1.jpg, 1, 0\n2.jpg, 0, 1\n",
            "valid/_classes.csv": "filename, Cat, dog\n1.jpg, 1, 0\n",
            "test/_classes.csv": "filename, Cat, dog\n1.jpg, 0, 1\n",
        },
        {"table": "_classes.csv"},
        {"Cat/train": 1, "dog/train": 1, "Cat/valid": 1, "dog/test": 1},
    ),
    "semicolons, a byte order mark, quotes and capitals": (
        ["a/1.jpg", "2.png"],
        {"labels.csv": b'\xef\xbb\xbf"File Name";"Species"\r\n"a/1.jpg";"Canis; x"\r\n2.PNG;x\r\n'},
        {},
        {"Canis; x": 1, "x": 1},
    ),
    "tabs, backslashes and a column of numbers": (
        ["images/a/1.jpg", "images/b/1.jpg"],
        {
            "labels.tsv": "\timg_path\tclass_id\tclass_name\n0\ta\\1.jpg\t3\tcat\n"
            "1\t.\\b\\1.jpg\t7\tdog\n"
        },
        {"table": "labels.tsv"},
        {"cat": 1, "dog": 1},
    ),
    "a picture that is called as a column": (
        ["image.jpg", "label.jpg"],
        {"labels.csv": "image,label\nimage,cat\nlabel,dog\n"},
        {},
        {"cat": 1, "dog": 1},
    ),
    "columns that are named in the yaml": (
        ["1.jpg", "2.jpg"],
        {"labels.csv": "slide,finding,where\n1,cat,late\n2,dog,early\n"},
        {
            "file_column": "slide",
            "label_column": "Finding",
            "split_column": "where",
            "splits": {"early": "train", "late": "test"},
        },
        {"cat/test": 1, "dog/train": 1},
    ),
    "a split in words": (
        ["1.jpg", "2.jpg", "3.jpg", "4.jpg"],
        {"labels.csv": "image,label,split\n1,cat,Training\n2,dog,VAL\n3,dog,test_set\n4,dog,\n"},
        {},
        {"cat/train": 1, "dog/valid": 1, "dog/test": 1, "dog": 1},
    ),
    "fast.ai's is_valid": (
        ["1.jpg", "2.jpg", "3.jpg"],
        {"labels.csv": "fname,label,is_valid\n1.jpg,cat,False\n2.jpg,dog,True\n3.jpg,dog,0\n"},
        {},
        {"cat/train": 1, "dog/valid": 1, "dog/train": 1},
    ),
    "is_valid and is_test": (
        ["1.jpg", "2.jpg", "3.jpg"],
        {"labels.csv": "fname,label,isValid,isTest\n1,cat,no,no\n2,dog,yes,no\n3,dog,no,yes\n"},
        {},
        {"cat/train": 1, "dog/valid": 1, "dog/test": 1},
    ),
    "folds in words": (
        ["1.jpg", "2.jpg"],
        {"labels.csv": "image,label,fold\n1,cat,train\n2,dog,dev\n"},
        {},
        {"cat/train": 1, "dog/valid": 1},
    ),
    "folds in numbers are no split": (
        ["1.jpg", "2.jpg"],
        {"labels.csv": "image,label,fold\n1,cat,0\n2,dog,1\n"},
        {},
        {"cat": 1, "dog": 1},
    ),
    "folds in numbers with their meaning in the yaml": (
        ["1.jpg", "2.jpg", "3.jpg"],
        {"labels.csv": "image,label,fold\n1,cat,0\n2,dog,1\n3,dog,2\n"},
        {"splits": {0: "test", 1: "valid", 2: "train"}},
        {"cat/test": 1, "dog/valid": 1, "dog/train": 1},
    ),
    "a column called set that is no split": (
        ["1.jpg", "2.jpg"],
        {"labels.csv": "image,label,set\n1,cat,lego\n2,dog,duplo\n"},
        {},
        {"cat": 1, "dog": 1},
    ),
    "a table per split": (
        ["images/1.jpg", "images/2.jpg", "images/3.jpg"],
        {"train.csv": "file,label\n1,cat\n2,dog\n", "val.csv": "file,label\n3,dog\n"},
        {"table": ["train.csv", "val.csv"]},
        {"cat/train": 1, "dog/train": 1, "dog/valid": 1},
    ),
    "a table per split, all pictures in train": (
        ["train/1.jpg", "train/2.jpg", "train/3.jpg"],
        {"train.csv": "file,label\n1,cat\n2,dog\n", "valid.csv": "file,label\n3,dog\n"},
        {"table": ["train.csv", "valid.csv"]},
        {"cat/train": 1, "dog/train": 1, "dog/valid": 1},
    ),
    "CIFAR-10's: the same numbers in train and test, and trainLabels.csv": (
        ["train/1.png", "train/2.png", "test/1.png", "test/2.png"],
        {"trainLabels.csv": "id,label\n1,frog\n2,truck\n"},
        {"table": "trainLabels.csv"},
        {"frog/train": 1, "truck/train": 1},
    ),
    "pictures that were converted": (
        ["1.jpg", "2.jpg"],
        {"labels.csv": "file,label\n1.png,cat\n2.dcm.png,dog\n2,dog\n"},
        {},
        {"cat": 1, "dog": 1},
    ),
    "the same numbers in train and test, told apart by the split": (
        ["train/1.jpg", "test/1.jpg", "train/2.jpg"],
        {"labels.csv": "image_id,label,split\n1,cat,train\n1,dog,test\n2,dog,train\n"},
        {},
        {"cat/train": 1, "dog/test": 1, "dog/train": 1},
    ),
    "paths of another machine": (
        ["photos/cat/1.jpg", "photos/dog/1.jpg"],
        {"labels.csv": "path,label\n/kaggle/x/cat/1.jpg,cat\n/kaggle/x/dog/1.jpg,dog\n"},
        {},
        {"cat": 1, "dog": 1},
    ),
    "a table in a folder beside that of the pictures": (
        ["images/1.jpg", "images/2.jpg"],
        {"meta/labels.csv": "file,label\n../images/1.jpg,cat\n../images/2.jpg,dog\n"},
        {"table": "meta/labels.csv"},
        {"cat": 1, "dog": 1},
    ),
    "other capitals, and a dot in the name": (
        ["IMG_1.v2.JPG", "b.Jpeg"],
        {"labels.csv": "Image Name,Category\nimg_1.v2,cat\nB.jpeg,dog\n"},
        {},
        {"cat": 1, "dog": 1},
    ),
    "a row per box, several boxes of a class on a picture": (
        ["1.jpg", "2.jpg"],
        {"labels.csv": "filename,class,xmin\n1.jpg,cat,1\n1.jpg,cat,5\n2.jpg,dog,3\n"},
        {},
        {"cat": 1, "dog": 1},
    ),
    "columns in the plural": (
        ["train/1.jpg", "test/2.jpg"],
        {
            "labels.csv": "class id,filepaths,labels,data set\n0,train/1.jpg,cat,train\n"
            "1,test/2.jpg,dog,test\n"
        },
        {},
        {"cat/train": 1, "dog/test": 1},
    ),
    "an index without a name that looks like a split": (
        ["1.jpg", "2.jpg", "3.jpg"],
        {"labels.csv": ",file,label\ntrain,1.jpg,cat\ntest,2.jpg,dog\ndev,3.jpg,dog\n"},
        {},
        {"cat": 1, "dog": 2},
    ),
    "Excel's line about the delimiter": (
        ["1.jpg", "2.jpg"],
        {"labels.csv": "sep=;\r\nfile;label\r\n1.jpg;a,b\r\n2.jpg;c\r\n"},
        {},
        {"a,b": 1, "c": 1},
    ),
    "accents in another form of Unicode": (
        ["cafe\u0301.jpg", "the.jpg"],
        {"labels.csv": "file,label\ncaf\u00e9,coffee\nthe,tea\n"},
        {},
        {"coffee": 1, "tea": 1},
    ),
    "rows of the test split without labels": (
        ["train/1.jpg", "train/2.jpg", "test/3.jpg"],
        {"labels.csv": "image,label\n1,cat\n2,dog\n3,\n"},
        {},
        {"cat/train": 1, "dog/train": 1},
    ),
}


def from_table(root: Path, layout: str, cases: dict[str, Case]) -> list[Found]:
    """What gather finds in a layout with a table."""
    files, tables, yaml, _ = cases[layout]
    fill(root, *files)
    for name, content in tables.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return from_folder(root, **{"labels": "table", "table": "labels.csv"} | yaml)


@pytest.mark.parametrize("layout", TABLES)
def test_a_layout_with_a_table_is_understood(tmp_path: Path, layout: str):
    assert counted(from_table(tmp_path, layout, TABLES)) == TABLES[layout][3]


def guessed(root: Path, **given: object) -> list[Found]:
    """What gather finds with the lines that `pawprint use` guesses."""
    files = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    files = [file for file in files if not is_hidden(file)]
    guess = Guesser(files, lambda name: (root / name).read_bytes(), given, str(root)).guess()
    return from_folder(root, **guess.values)


@pytest.mark.parametrize("layout", FOLDERS)
def test_a_layout_of_folders_is_guessed(tmp_path: Path, layout: str):
    files, expected = FOLDERS[layout]
    assert counted(guessed(fill(tmp_path, *files))) == expected


@pytest.mark.parametrize("layout", TABLES)
def test_a_layout_with_a_table_is_guessed(tmp_path: Path, layout: str):
    from_table(tmp_path, layout, TABLES)
    given = {key: value for key, value in TABLES[layout][2].items() if key != "table"}
    assert counted(guessed(tmp_path, **given)) == TABLES[layout][3]


NAMES = {
    "a number behind the name": (
        ["cat.1.jpg", "cat.2.jpg", "dog.1.jpg", "dog.2.jpg"],
        {"cat": 2, "dog": 2},
    ),
    "breeds of several words, and copies": (
        ["great_pyrenees_1.jpg", "great_pyrenees_2.jpg", "pug_1.jpg", "pug (2).jpg"],
        {"great_pyrenees": 2, "pug": 2},
    ),
    "in train, and pictures without labels in test": (
        ["train/cat.1.jpg", "train/cat.2.jpg", "train/dog.1.jpg", "train/dog.2.jpg", "test1/1.jpg"],
        {"cat/train": 2, "dog/train": 2},
    ),
    "the class before the camera's name": (
        ["cat_IMG-A.jpg", "cat_IMG-B.jpg", "dog_IMG-C.jpg", "dog_IMG-D.jpg"],
        {"cat": 2, "dog": 2},
    ),
}


@pytest.mark.parametrize("layout", NAMES)
def test_labels_in_names_are_guessed(tmp_path: Path, layout: str):
    files, expected = NAMES[layout]
    assert counted(guessed(fill(tmp_path, *files))) == expected


def test_names_of_a_camera_are_no_classes(tmp_path: Path):
    fill(tmp_path, "IMG_001.jpg", "IMG_002.jpg", "DSC_003.jpg", "DSC_004.jpg")
    with pytest.raises(StageError, match="nothing says what is on its pictures"):
        guessed(tmp_path)


def test_a_split_is_no_class_that_names_of_files_tell(tmp_path: Path):
    fill(tmp_path, *(f"train/cat/cat_{i}.jpg" for i in range(2)), "train/dog/dog_3.jpg")
    fill(tmp_path, "val/images/val_4.jpg", "val/images/val_5.jpg")
    with pytest.raises(StageError, match=r"'val/images/val_4\.jpg' has no label"):
        guessed(tmp_path)


def test_a_table_that_knows_more_than_the_folders_wins_and_says_so(tmp_path: Path):
    fill(tmp_path, "part_1/a.jpg", "part_1/b.jpg", "part_2/c.jpg", "part_2/d.jpg")
    (tmp_path / "meta.csv").write_text("image_id,dx\na,mel\nb,nv\nc,mel\nd,bkl\n")
    assert counted(guessed(tmp_path)) == {"mel": 2, "nv": 1, "bkl": 1}
    assert counted(guessed(tmp_path, labels="parent")) == {"part_1": 2, "part_2": 2}


def test_a_column_of_an_unknown_name_is_guessed_if_only_one_can_be_meant(tmp_path: Path):
    fill(tmp_path, *(f"train/{i}.jpg" for i in range(4)))
    (tmp_path / "labels.csv").write_text("id,has_cactus\n0,0\n1,1\n2,1\n3,0\n")
    assert counted(guessed(tmp_path)) == {"0/train": 2, "1/train": 2}
    (tmp_path / "labels.csv").write_text("id,a,b\n0,x,k\n1,y,l\n2,x,k\n3,y,l\n")
    with pytest.raises(StageError, match="which one holds the labels"):
        guessed(tmp_path)
    (tmp_path / "labels.csv").write_text("id,a,b\n0,1,1\n1,0,1\n2,1,0\n3,0,1\n")
    with pytest.raises(StageError, match="2 of the columns a, b are 1"):
        guessed(tmp_path)
    (tmp_path / "labels.csv").write_text("0,cat\n1,dog\n2,dog\n3,cat\n")
    with pytest.raises(StageError, match="is the header missing"):
        guessed(tmp_path)


# What is in the folder, the table, the yaml, and the line that says what to write.
REFUSED: dict[str, tuple[list[str], dict[str, str | bytes], dict[str, object], str]] = {
    "the same classes under names that say nothing": (
        both("2021", "2022"),
        {},
        {},
        r"the same classes \(cat, dog\) lie under '2021', '2022', whose names say no split; in the "
        r"source's yaml, write "
        r"`splits: \{\"2021\": train, \"2022\": test\}`",
    ),
    "the same classes under a split and a name that says nothing": (
        both("food/training", "food/validation", "food/evaluation"),
        {},
        {},
        r"write `splits: \{\w+: test, training: train, validation: valid\}` \(or what each is\)",
    ),
    "the same classes beside a copy": (
        both("train", "copies/train"),
        {},
        {},
        r"lie under 'copies/train', 'train'.*write `include: \^\(\?!copies/\)`",
    ),
    "pictures without a class in train": (
        ["train/1.jpg", "test/2.jpg"],
        {},
        {},
        r"'train/1\.jpg' has no label; the name of its folder, 'train', says no class",
    ),
    "pictures beside the folders": (
        [*both("."), "1.jpg"],
        {},
        {},
        r"'1\.jpg' has no label; put every picture into a folder named after its class",
    ),
    "a split that is no word": (
        ["1.jpg", "2.jpg"],
        {"labels.csv": "file,label,split\n1,cat,A\n2,dog,B\n"},
        {"labels": "table"},
        r"line 2: split is 'A'; it should be train, valid, test or empty; write `splits: \{A: ",
    ),
    "columns of no known name": (
        ["1.jpg", "2.jpg"],
        {"labels.csv": "slide,finding\n1.jpg,cat\n2.jpg,dog\n"},
        {"labels": "table"},
        r"has the columns slide, finding; which one holds the files\? Write `file_column: slide`",
    ),
    "a column of labels of no known name": (
        ["1.jpg", "2.jpg"],
        {"labels.csv": "id,has_cactus\n1,0\n2,1\n"},
        {"labels": "table"},
        r"which one holds the labels\? Write `label_column: has_cactus`",
    ),
    "a column that is not there": (
        ["1.jpg"],
        {"labels.csv": "id,breed\n1,pug\n"},
        {"labels": "table", "label_column": "species"},
        r"has the columns id, breed; the source's yaml says label_column: species",
    ),
    "no header": (
        ["1.jpg", "2.jpg"],
        {"labels.csv": "1.jpg,cat\n2.jpg,dog\n"},
        {"labels": "table"},
        r"of which one is a file: is the header missing\? Write `file,label` as line 1",
    ),
    "several classes in one row": (
        ["1.jpg", "2.jpg"],
        {"labels.csv": "filename,cat,dog\n1.jpg,1,0\n2.jpg,1,1\n"},
        {"labels": "table"},
        r"line 3: 2 of the columns cat, dog are 1; each row should have one 1",
    ),
    "none of the files": (
        ["1.jpg"],
        {"labels.csv": "id,breed\n7,pug\n8,boxer\n"},
        {"labels": "table"},
        r"none of its 2 rows names a file that is there, such as '7'; is gather\.path the folder",
    ),
    "a row without a label": (
        ["1.jpg", "2.jpg"],
        {"labels.csv": "id,breed\n1,pug\n2,\n"},
        {"labels": "table"},
        r"line 3: the label is empty",
    ),
    "a table of addresses": (
        ["1.jpg"],
        {"labels.csv": "image,label\nhttps://a.example/1.jpg,cat\n"},
        {"labels": "table"},
        r"line 2: 'https://a\.example/1\.jpg' is an address; .* write `kind: urls`",
    ),
}


@pytest.mark.parametrize("layout", REFUSED)
def test_a_layout_that_is_not_understood_ends_in_the_line_to_write(tmp_path: Path, layout: str):
    files, tables, yaml, message = REFUSED[layout]
    fill(tmp_path, *files)
    for name, content in tables.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StageError, match=message) as caught:
        from_folder(tmp_path, **({"table": "labels.csv"} if tables else {}) | yaml)
    assert "\n" not in str(caught.value)


def test_what_the_line_says_makes_the_layout_work(tmp_path: Path):
    root = fill(tmp_path, *both("2021", "2022"))
    assert counted(from_folder(root, splits={2021: "train", 2022: "test"})) == once("train", "test")
    assert counted(from_folder(root, splits={})) == {"cat": 2, "dog": 2}


def test_a_folder_called_test_is_a_class_if_the_yaml_says_that_no_folder_is_a_split(tmp_path: Path):
    root = fill(tmp_path, "test/1.jpg", "control/2.jpg")
    assert counted(from_folder(root, splits={})) == {"test": 1, "control": 1}


def test_pictures_without_a_label_are_counted_and_named(tmp_path: Path, caplog):
    from_folder(fill(tmp_path, *both("train"), "test/1.jpg", "test/2.jpg"))
    assert "pictures without a label in test, left out: 2; ask the model about them" in caplog.text


def test_a_column_without_a_name_is_no_group(tmp_path: Path):
    fill(tmp_path, "1.jpg", "2.jpg")
    (tmp_path / "labels.csv").write_text(",file,label\n0,1.jpg,cat\n1,2.jpg,dog\n")
    items = from_folder(tmp_path, labels="table", table="labels.csv")
    assert [item.group for item in items] == ["", ""]


def test_rows_that_repeat_others_are_counted(tmp_path: Path, caplog):
    from_table(tmp_path, "a row per box, several boxes of a class on a picture", TABLES)
    assert "labels.csv: rows that repeat others, left out: 1, such as 1.jpg" in caplog.text


def test_rows_without_a_file_are_counted_and_have_a_reason(tmp_path: Path, caplog):
    items = from_table(tmp_path, "a sample: most rows have no file", TABLES)
    assert [item.status for item in items if item.missing] == ["failed"] * 98
    assert (
        "98 of 100 rows have no file that fits, so left out: x0, x1, x2 and 95 more" in caplog.text
    )


def test_a_name_that_fits_two_files_is_no_picture(tmp_path: Path):
    fill(tmp_path, "a/1.jpg", "b/1.jpg", "c/2.jpg")
    (tmp_path / "labels.csv").write_text("id,label\n1,cat\n2,dog\n")
    items = from_folder(tmp_path, labels="table", table="labels.csv")
    assert items[0].missing == "the table names it, and 2 files fit: a/1.jpg, b/1.jpg"
    assert items[1].url == "c/2.jpg"
