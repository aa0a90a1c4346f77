"""gather on small input: what it stores and what it refuses."""

from tests.support.project import Project, make_pictures, table


def test_gather_stores_by_content_and_forgets_what_is_gone(small: Project):
    own = small.path / "data/own"
    (own / "red/copy.jpg").write_bytes((own / "red/000.jpg").read_bytes())
    small.stage("gather")
    gathered = table(small, "gathered")
    assert len(gathered) == 61
    assert gathered["path"].nunique() == 60
    assert (gathered["status"] == "ok").all()
    (own / "green/007.jpg").unlink()
    small.stage("gather")
    stored = {
        path.relative_to(small.path).as_posix() for path in (small.path / "data/raw").rglob("*.jpg")
    }
    assert stored == set(table(small, "gathered")["path"])
    assert len(stored) == 59


def test_gather_names_a_missing_folder_and_a_lone_class(small: Project):
    small.edit(**{"gather.path": "nowhere"})
    assert "gather.path is 'nowhere', which is not a folder" in small.failing_stage("gather")
    make_pictures(small.path / "one", {"red": 2})
    small.edit(**{"gather.path": "one"})
    assert "1 class (red)" in small.failing_stage("gather")


def test_a_picture_without_a_label_is_named(small: Project):
    (small.path / "data/own/stray.JPG").write_bytes(b"")
    assert "'data/own': 'stray.JPG' has no label" in small.failing_stage("gather")


def test_an_unknown_key_in_a_sources_yaml_is_named(small: Project):
    small.edit("data/sources/folder.yaml", lables="parent")
    line = small.failing_stage("gather")
    assert "data/sources/folder.yaml" in line
    assert "unknown key lables" in line
