"""The yamls of data/sources, and which folder a source may be asked about."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pawprint.params import check
from pawprint.sources.opening import KINDS, open_source
from tests.support.world import ROOT, World

YAMLS = sorted((ROOT / "data/sources").glob("*.yaml"))


@pytest.mark.parametrize("yaml", YAMLS, ids=lambda path: path.stem)
def test_every_shipped_source_says_what_its_kind_understands(yaml: Path):
    values = YAML(typ="safe").load(yaml.read_text())
    if values["kind"] == "sample":
        pytest.importorskip("pawprint.sources.sample")
    module = __import__(f"pawprint.sources.{values['kind']}", fromlist=["found"])
    check(values, getattr(module, KINDS[values["kind"]]), "", yaml)


def test_a_label_that_cannot_name_a_folder_is_refused(tmp_path: Path):
    world = World(tmp_path / "project")
    world.write("data/own/all.csv", "url,label\nhttp://a.example/1.jpg,../up\n")
    world.use({"kind": "urls"})
    assert "the label '../up' cannot name a folder" in world.refuse()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "gather.path is ''; it should name a file or a folder"),
        (" ", "gather.path is ' '; it should name a file or a folder"),
        ("x" * 300, "it should be a path, of names with at most 255 bytes"),
        ("x/" * 3000, "it should be a path"),
        ("a\0b", "it should be a path"),
        ("data", "gather.path is 'data', but data/raw, which the pipeline writes, lies on that"),
        (".", "gather.path is '.', but data/raw"),
        ("data/raw", "gather.path is 'data/raw', but data/raw"),
        ("data/raw/cat", "gather.path is 'data/raw/cat', but data/raw"),
        ("data/gather.partial", "but data/gather.partial, which the pipeline writes"),
        ("data/images", "but data/images, which the pipeline writes"),
        ("data/own/up", "gather.path is 'data/own/up', but data/raw"),
        ("nowhere", "gather.path is 'nowhere', which is not a folder"),
        ("params.yaml", "gather.path is 'params.yaml', which is not a folder"),
    ],
)
def test_a_path_that_cannot_be_gathered_from_is_one_line(tmp_path: Path, path: str, message: str):
    world = World(tmp_path / "project")
    (world.path / "data/own/up").symlink_to(world.path)
    world.use({"kind": "folder"}, path=path)
    assert message in world.refuse()
    assert not (world.path / "data/raw").exists()


@pytest.mark.parametrize("name", ["", "x" * 300, "a\0b", "wolves"])
def test_a_source_that_does_not_exist_is_one_line(tmp_path: Path, name: str):
    world = World(tmp_path / "project")
    world.params(source=name)
    assert f"gather.source is {name!r}" in world.refuse()


@pytest.mark.parametrize("kind", ["folders", ["folder"], {"a": 1}, None, 3])
def test_a_kind_that_does_not_exist_is_one_line(tmp_path: Path, kind: object):
    world = World(tmp_path / "project")
    world.use({"kind": kind})
    assert f"kind is {kind!r}; it should be one of sample, folder, archive" in world.refuse()


@pytest.mark.parametrize(
    "key", ["sample:2cfad44d61b7", "folder:a724276e15c9", "bears:d1241c690ba2", "pets:ea63fc880b5f"]
)
def test_a_shipped_source_keeps_its_key(monkeypatch: pytest.MonkeyPatch, key: str):
    """Another key would be a new search for everybody who has a lock."""
    monkeypatch.chdir(ROOT)
    assert open_source(key.partition(":")[0], Path("data/own")).key == key
