"""The yamls of data/sources, and which folder a source may be asked about."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pawprint.params import check
from pawprint.sources.opening import KINDS
from tests.support.world import ROOT, World


@pytest.mark.parametrize(
    "yaml", sorted((ROOT / "data/sources").glob("*.yaml")), ids=lambda path: path.stem
)
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
    assert "the label '../up' cannot name a folder" in world.fail()
