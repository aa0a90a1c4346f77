"""Every source in data/sources runs from gather to export, against a local server like its own.

The yamls are read as shipped. Only addresses are replaced: of an archive by the local server's, and
of the search engines in ddgs itself (see docs/sources.md), where the pause between questions goes.
"""

import io
import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from PIL import Image
from ruamel.yaml import YAML

from tests.support.archives import tarred
from tests.support.hub import Hub, shard
from tests.support.project import ROOT, Project, expect, make_pictures, warm_path
from tests.support.warm import run_stages
from tests.support.world import Engine, Server, picture

# How many pictures each has here; what an archive holds besides must not be taken for more.
PICTURES = {"sample": 60, "folder": 20, "urls": 30, "bears": 30, "alligator": 60, "birds": 60}
PICTURES |= {"pets": 40, "cat_or_dog": 40, "mnist_sample": 52, "dogscats": 52}
PICTURES |= {"hub_pets": 72, "hub_beans": 54}
NAMES = sorted(path.stem for path in (ROOT / "data/sources").glob("*.yaml"))
# What Python runs before anything else: ddgs, its own client and parser, asks another host.
ENGINE = """
import os, sys
if "stages.gather" in sys.orig_argv:
    from ddgs.engines import bing_images, duckduckgo_images
    from ddgs.utils import _extract_vqd
    base = os.environ["ENGINE"]
    def token(self, query):
        answer = self.http_client.request("GET", base, params={"q": query})
        return _extract_vqd(answer.content, query)
    duckduckgo_images.DuckduckgoImages.search_url = base + "/i.js"
    duckduckgo_images.DuckduckgoImages._get_vqd = token
    bing_images.BingImages.search_url = base + "/images/async"
"""


class Shape:
    """What a source reads: a server's answers, files in the project; and the classes to expect."""

    def __init__(self, project: Project, server: Server, stack: ExitStack) -> None:
        self.project, self.server, self.stack = project, server, stack
        self.classes: list[str] = []
        self.environment: dict[str, str] = {}

    def sample(self, name: str) -> None:
        self.project.edit("data/sources/sample.yaml", size=60)
        self.classes = ["black", "grizzly", "teddy"]

    def folder(self, name: str) -> None:
        make_pictures(self.project.path / "data/own", {"red": 10, "green": 10})
        self.classes = ["green", "red"]

    def urls(self, name: str) -> None:
        """A list a class, as the console snippet of the lesson notes saves them."""
        self.classes = ["black", "grizzly", "teddy"]
        for number, label in enumerate(self.classes):
            paths = [f"/{label}/{i}.jpg" for i in range(10)]
            self.server.answers |= {path: picture(100 * number + i) for i, path in enumerate(paths)}
            lines = [self.server.base + path for path in [*paths, f"/{label}/gone.jpg"]]
            (self.project.path / f"data/own/{label}.csv").write_text("\n".join(lines))

    def search(self, name: str) -> None:
        yaml = f"data/sources/{name}.yaml"
        self.project.edit(yaml, pause=0)
        classes = YAML(typ="safe").load((self.project.path / yaml).read_text())["classes"]
        engine = Engine(
            {query: 10 for queries in classes.values() for query in queries}, base=self.server.base
        )
        self.server.answers |= {"/": engine.token, "/i.js": engine.pages}
        for number, query in enumerate(engine.results):
            self.server.answers |= {
                f"/{query.replace(' ', '-')}/{i}.jpg": picture(100 * number + i)
                for i in range(engine.results[query])
            }
        hook = self.project.path.parent / "hook"
        hook.mkdir()
        (hook / "sitecustomize.py").write_text(ENGINE)
        self.environment = {"PYTHONPATH": str(hook), "ENGINE": self.server.base}
        self.classes = sorted(classes)

    def archive(self, name: str) -> None:
        files = {
            "pets": pets,
            "cat_or_dog": pets,
            "mnist_sample": mnist_sample,
            "dogscats": dogscats,
        }[name]
        yaml = f"data/sources/{name}.yaml"
        path = (
            "/"
            + YAML(typ="safe")
            .load((self.project.path / yaml).read_text())["archive"]
            .split("/", 3)[3]
        )
        self.server.answers[path] = tarred(dict(files()))
        self.project.edit(yaml, archive=self.server.base + path)
        if name == "mnist_sample":
            self.project.edit(**{"verify.min_size": 28})  # as its yaml says
        self.classes = {
            "pets": ["Abyssinian", "Bombay", "great_pyrenees", "yorkshire_terrier"],
            "cat_or_dog": ["cat", "dog"],
            "mnist_sample": ["3", "7"],
            "dogscats": ["cats", "dogs"],
        }[name]

    def hub(self, name: str) -> None:
        yaml = YAML(typ="safe").load((self.project.path / f"data/sources/{name}.yaml").read_text())
        shards, self.classes = {"hub_pets": hub_pets, "hub_beans": hub_beans}[name]()
        hub = self.stack.enter_context(Hub())
        hub.put(yaml["dataset"], shards)
        self.environment = {"HF_ENDPOINT": hub.base}


def pets() -> Iterator[tuple[str, bytes]]:
    """Pictures beside Matlab files, trimaps that are PNGs but not pets, and a Mac's own files."""
    number = 0
    for breed in ("Abyssinian", "Bombay", "great_pyrenees", "yorkshire_terrier"):
        for i in range(1, 11):
            number += 1
            yield f"oxford-iiit-pet/images/{breed}_{i}.jpg", picture(number)
            yield (
                f"oxford-iiit-pet/annotations/trimaps/{breed}_{i}.png",
                picture(1000 + number, form="PNG"),
            )
            yield f"oxford-iiit-pet/annotations/trimaps/._{breed}_{i}.png", b"\0\5\x16\7"
            yield f"oxford-iiit-pet/annotations/xmls/{breed}_{i}.xml", b"<annotation/>"
    yield "oxford-iiit-pet/images/Abyssinian_100.mat", b"MATLAB 5.0 MAT-file"
    yield "oxford-iiit-pet/annotations/list.txt", b"Abyssinian_1 1 1 1\n"


def mnist_sample() -> Iterator[tuple[str, bytes]]:
    """Grey PNGs of 28 pixels, and a table."""
    for label in "37":
        for split, first, count in (("train", 0, 14), ("valid", 20, 12)):
            for i in range(first, first + count):
                buffer = io.BytesIO()
                Image.open(io.BytesIO(picture(100 * int(label) + i, size=28))).convert("L").save(
                    buffer, "PNG"
                )
                yield f"mnist_sample/{split}/{label}/{1000 + i}.png", buffer.getvalue()
    yield "mnist_sample/labels.csv", b"name,label\ntrain/3/1000.png,0\n"


def dogscats() -> Iterator[tuple[str, bytes]]:
    """train and valid, a folder of copies, and a test without labels."""
    for number, label in enumerate(("cats", "dogs")):
        for split, first, count in (("train", 0, 14), ("valid", 20, 12)):
            for i in range(first, first + count):
                yield f"dogscats/{split}/{label}/{label[:-1]}.{i}.jpg", picture(100 * number + i)
        for split in ("train", "valid"):
            yield f"dogscats/sample/{split}/{label}/{label[:-1]}.1.jpg", picture(100 * number + 1)
    for i in range(1, 5):
        yield f"dogscats/test1/{i}.jpg", picture(5000 + i)


def hub_pets() -> tuple[dict[str, bytes], list[str]]:
    """Breeds as numbers, beside a column that says cat or dog; train and test."""
    classes = ["abyssinian", "american_bulldog", "bengal"]
    species = {"label_cat_dog": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    files = {}
    for split, first, count in (("train", 0, 48), ("test", 100, 24)):
        labels = [i % 3 for i in range(count)]
        more: dict[str, list] = {"image_id": [f"{split}_{i}" for i in range(count)]}
        more["label_cat_dog"] = [int(label == 1) for label in labels]
        content = shard(labels, first, classes, more=more, features=species)
        files[f"data/{split}-00000-of-00001.parquet"] = content
    return files, classes


def hub_beans() -> tuple[dict[str, bytes], list[str]]:
    """Three splits, and a column with names of files."""
    classes = ["angular_leaf_spot", "bean_rust", "healthy"]
    files = {}
    for split, first, count in (("train", 0, 30), ("validation", 100, 12), ("test", 200, 12)):
        labels = [i % 3 for i in range(count)]
        names = {"image_file_path": [f"/home/beans/{split}/{i}.jpg" for i in range(count)]}
        content = shard(labels, first, classes, label="labels", more=dict(names))
        files[f"data/{split}-00000-of-00001.parquet"] = content
    return files, classes


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_source_runs_from_gather_to_export(project: Project, name: str):
    (project.path / ".dvc").mkdir()
    (project.path / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    tiny = {"arch": "test_efficientnet", "pretrained": False, "size": 64, "train_size": 64}
    tiny |= {"freeze_epochs": 1, "epochs": 1}
    project.edit(**{"gather.source": name, "gather.allow_private": True, "compute.device": "cpu"})
    project.edit(
        **{f"train.{key}": value for key, value in tiny.items()}
        | {"clean.folds": 2, "clean.auto": "flag"}
    )
    kind = YAML(typ="safe").load((project.path / f"data/sources/{name}.yaml").read_text())["kind"]
    with Server({}) as server, ExitStack() as stack:
        shape = Shape(project, server, stack)
        getattr(shape, kind)(name)
        expect(project, "dvc", "repro", "gather", **shape.environment, PATH=warm_path())
    assert (
        json.loads((project.path / "metrics/gather.json").read_text())["pictures"] == PICTURES[name]
    )
    run_the_rest(project)
    told = json.loads((project.path / "export/model.json").read_text())
    assert told["classes"] == shape.classes
    split = json.loads((project.path / "metrics/split.json").read_text())
    for part in ("train", "valid", "test"):
        assert all(split[part]["labels"][label] > 0 for label in shape.classes)
    exported = json.loads((project.path / "metrics/export.json").read_text())
    assert exported["pictures_compared"] == split["test"]["pictures"]
    assert (project.path / "export/model.onnx").stat().st_size > 10_000


def run_the_rest(project: Project) -> None:
    """verify to export, as dvc.yaml calls them."""
    stages = YAML(typ="safe").load((project.path / "dvc.yaml").read_text())["stages"]
    lines = [
        stage["cmd"].removeprefix("python -m stages.")
        for name, stage in stages.items()
        if name != "gather"
    ]
    done = run_stages(project.path, *(line.split() for line in lines))
    assert done.returncode == 0, done.stderr
