"""`pawprint publish`: huggingface_hub itself, against a server that speaks the Hub's part."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from pawprint.__main__ import main
from pawprint.commands.publish.folder import EXPORT, is_litter
from pawprint.exporting.front import split_front, with_front
from pawprint.exporting.hashes import dvc_hash, hash_of_files
from pawprint.judging.errors import error_rate
from tests.support.exported import write_export
from tests.support.publishing import Publisher

pytest.importorskip("huggingface_hub", reason="the extra hub is not installed")
TOKEN = "hf_" + "x1" * 17
FRONT = {
    "title": "red, green or blue?",
    "sdk": "gradio",
    "sdk_version": "6.31.0",
    "python_version": "3.11",
    "app_file": "app.py",
    "license": "mit",
    "pipeline_tag": "image-classification",
    "model-index": [{"name": "x", "results": []}],
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A Hub, a token for it, and a project with an export as the working folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    with Publisher(TOKEN) as running:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.base)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            running.base + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no"))
        Path("params.yaml").write_text("gather:\n  source: colours\n")
        write_export(EXPORT)
        (EXPORT / "README.md").write_text(with_front(FRONT, "\n# Colours\n"))
        for name in ("predict.py", "app.py", "requirements.txt", "pictures/square.py"):
            (EXPORT / name).parent.mkdir(exist_ok=True)
            (EXPORT / name).write_text(f"# {name}\n")
        finish("first", 3)
        yield running


def finish(model: str, wrong: int) -> None:
    """Write the figures and dvc.lock, as a run that ended with this export does."""
    Path("metrics").mkdir(exist_ok=True)
    Path("metrics/export.json").write_text(
        json.dumps({"model": model, "test": error_rate(wrong, 50)})
    )
    parts = [path for path in EXPORT.rglob("*") if path.is_file()]
    files = {path.relative_to(EXPORT).as_posix(): path for path in parts}
    kept = {name: path for name, path in files.items() if not is_litter(Path(name))}
    outs = [
        ("export", hash_of_files(kept)),
        ("metrics/export.json", dvc_hash(Path("metrics/export.json"))),
    ]
    lines = [f"    - path: {path}\n      md5: {md5}" for path, md5 in outs]
    Path("dvc.lock").write_text("\n".join(["stages:", "  export:", "    outs:", *lines]) + "\n")


def failing(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["publish", *words])
    message = str(caught.value.code)
    assert message.startswith("pawprint: ")
    assert "\n" not in message
    assert TOKEN not in message + "".join(capsys.readouterr())
    return message


def test_a_model_and_a_space_are_created_private_and_have_the_front_matter_of_their_kind(
    hub: Publisher, capsys: pytest.CaptureFixture[str]
):
    main(["publish"])
    model, space = (hub.repositories[kind, "ann/colours"] for kind in ("model", "space"))
    assert model.private
    assert space.private
    assert space.sdk == "gradio"
    assert [len(each.commits) for each in (model, space)] == [2, 2]  # the Hub's own, and ours
    for made in (model, space):
        assert made.files["model.onnx"] == (EXPORT / "model.onnx").read_bytes()
        assert made.files["pictures/square.py"] == b"# pictures/square.py\n"
    of_model, rest = split_front(model.files["README.md"].decode(), "model")
    of_space, _ = split_front(space.files["README.md"].decode(), "space")
    assert set(of_model) == {"license", "pipeline_tag", "model-index"}
    assert rest == "\n# Colours\n"
    assert set(of_space) == {*list(FRONT)[:6], "models"}
    assert of_space["models"] == ["ann/colours"]
    commit = model.commits[-1]
    assert commit.summary == "first model: test error 6.0 % (2.1 to 16.2)"
    said = capsys.readouterr().out
    assert f"commit {commit.sha}" in said
    assert f"{hub.base}/spaces/ann/colours" in said


def test_public_only_if_asked_for_and_never_by_mistake(
    hub: Publisher, capsys: pytest.CaptureFixture[str]
):
    main(["publish", "--public", "--repo", "tried", "--space", "none"])
    made = hub.repositories["model", "ann/tried"]
    assert not made.private
    assert ("space", "ann/tried") not in hub.repositories
    assert "ann/tried is public: add --public" in failing(capsys, "--repo", "tried")
    assert len(made.commits) == 2


def test_a_second_publication_is_one_commit_of_what_changed_and_says_so(
    hub: Publisher, capsys: pytest.CaptureFixture[str]
):
    subprocess.run(["git", "init", "-q"], check=True)
    author = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    subprocess.run(["git", *author, "commit", "-qm", "x", "--allow-empty"], check=True)
    main(["publish", "--space", "none"])
    model = hub.repositories["model", "ann/colours"]
    model.files["PHOTOS.md"] = b"somebody else's"

    # nothing changed: no commit, whatever became of the project's own
    subprocess.run(["git", *author, "commit", "-qm", "y", "--allow-empty"], check=True)
    capsys.readouterr()
    main(["publish", "--space", "none"])
    assert f"nothing to publish: model ann/colours is at {model.commits[-1].sha}" in (
        capsys.readouterr().out
    )
    assert len(model.commits) == 2

    # another model, a file more and one less
    (EXPORT / "model.onnx").write_bytes(b"another")
    (EXPORT / "nearest.json").write_text("{}")
    (EXPORT / "requirements.txt").unlink()
    finish("retrained", 1)
    hub.asked.clear()
    main(["publish", "--space", "none"])
    assert len(model.commits) == 3
    commit = model.commits[-1]
    assert commit.summary == (
        "retrained model for the first model: test error 6.0 % (2.1 to 16.2) -> 2.0 % (0.4 to 10.5)"
    )
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip()
    assert commit.description == (
        "Added: nearest.json\nChanged: model.onnx\nDeleted: requirements.txt\n"
        f"Made at commit {head} of the project."
    )
    assert sorted(commit.touched) == [
        *("model.onnx", "nearest.json", "pawprint.json", "requirements.txt"),
    ]
    assert commit.files["model.onnx"] == b"another"
    assert "PHOTOS.md" in commit.files
    assert sum(" /put/" in line or line.startswith("PUT") for line in hub.asked) == 1


def test_a_commit_that_came_meanwhile_is_not_lost(
    hub: Publisher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    main(["publish", "--space", "none"])
    model = hub.repositories["model", "ann/colours"]
    (EXPORT / "predict.py").write_text("# other\n")
    finish("first", 3)
    from pawprint.commands import publish

    compare = publish.compare

    def slowly(*words):
        change = compare(*words)
        model.commits.append(type(model.commits[-1])("theirs", "", dict(model.files), []))
        return change

    monkeypatch.setattr(publish, "compare", slowly)
    assert "it changed meanwhile; run `pawprint publish` again" in failing(capsys)
    assert model.commits[-1].summary == "theirs"


def test_a_dry_run_shows_the_files_and_asks_nothing(
    hub: Publisher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.delenv("HF_TOKEN")
    (EXPORT / "__pycache__").mkdir()
    (EXPORT / "__pycache__/predict.pyc").write_bytes(b"x")
    (EXPORT / ".env").write_text("secret")
    main(["publish", "--dry-run"])
    said = capsys.readouterr().out
    assert said.count("predict.py\n") == 2
    assert "model USER/colours (private)" in said
    assert "space USER/colours (private, gradio)" in said
    assert "pycache" not in said
    assert ".env" not in said
    assert hub.asked == []


def test_the_token_is_written_nowhere(
    hub: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    main(["publish"])
    (EXPORT / "predict.py").write_text("# other\n")
    finish("first", 3)
    main(["publish"])  # which reads pawprint.json from the Hub
    said = "".join(capsys.readouterr())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]
    published = [each.files for made in hub.repositories.values() for each in made.commits]
    assert not [name for each in published for name in each if TOKEN.encode() in each[name]]
    assert TOKEN not in said


def test_a_file_that_holds_a_token_is_not_published(
    hub: Publisher, capsys: pytest.CaptureFixture[str]
):
    (EXPORT / "app.py").write_text("token = 'hf_" + "Ab9" * 12 + "'\n")
    finish("first", 3)
    message = failing(capsys)
    assert "export/app.py holds a token of the Hub" in message
    assert "Ab9" not in message
    assert hub.repositories == {}


def test_the_static_page_is_a_space_of_its_own_files(hub: Publisher):
    (EXPORT / "browser").mkdir()
    (EXPORT / "browser/index.html").write_text("<!doctype html>")
    finish("first", 3)
    main(["publish"])
    space = hub.repositories["space", "ann/colours"]
    assert space.sdk == "static"
    assert set(space.files) == {".gitattributes", "README.md", "index.html", "pawprint.json"}
    front, _ = split_front(space.files["README.md"].decode(), "space")
    assert (front["sdk"], front["app_file"]) == ("static", "index.html")
    assert "sdk_version" not in front
    assert front["title"] == FRONT["title"]

    # a README.md of its own stays, but the licence is the model's
    own = {"title": "Own", "sdk": "static", "license": "apache-2.0", "header": "mini"}
    (EXPORT / "browser/README.md").write_text(with_front(own, "\n# Own\n"))
    finish("first", 3)
    main(["publish"])
    front, rest = split_front(space.files["README.md"].decode(), "space")
    assert rest == "\n# Own\n"
    assert [front[key] for key in ("title", "license", "header")] == ["Own", "mit", "mini"]
    assert front["models"] == ["ann/colours"]
    model = hub.repositories["model", "ann/colours"]
    assert not [name for name in model.files if name.startswith("browser")]


# --- one line for each mistake ---


def test_no_token(
    hub: Publisher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.delenv("HF_TOKEN")
    assert "set HF_TOKEN, or run `hf auth login`" in failing(capsys)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "does not take the token" in failing(capsys)


def test_no_permission(hub: Publisher, capsys: pytest.CaptureFixture[str]):
    message = failing(capsys, "--repo", "other/colours")
    assert "other/colours: the token may not write there" in message
    hub.refuse = 402
    assert "asks for a paid plan" in failing(capsys)
    assert ("model", "ann/colours") in hub.repositories


def test_a_name_that_is_not_legal(hub: Publisher, capsys: pytest.CaptureFixture[str]):
    for name in ("my dogs", "a/b/c", "ann/..", "-dogs"):
        assert "cannot be a repository's name" in failing(capsys, f"--repo={name}")
    assert hub.asked == []


def test_no_export_and_one_that_is_not_what_the_lock_records(
    hub: Publisher, capsys: pytest.CaptureFixture[str]
):
    (EXPORT / "predict.py").write_text("# changed by hand\n")
    assert "export/ is not what dvc.lock records" in failing(capsys)
    finish("first", 3)
    Path("metrics/export.json").write_text('{"model": "first", "test": {}}')
    assert "metrics/export.json is not what dvc.lock records" in failing(capsys)
    Path("dvc.lock").unlink()
    assert "dvc.lock is missing" in failing(capsys)
    os.rename("export", "elsewhere")
    assert "export/ is missing: `dvc repro` makes it" in failing(capsys)
    assert hub.asked == []


def test_offline(
    hub: Publisher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    hub.http.shutdown()
    hub.http.server_close()
    assert "not published (" in failing(capsys)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids" in failing(capsys)


def test_a_page_that_is_not_there(hub: Publisher, capsys: pytest.CaptureFixture[str]):
    assert "--space browser: export/ holds no such page" in failing(capsys, "--space", "browser")
