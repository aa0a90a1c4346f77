"""`pawprint changes`: what a pull request shows, and the workflows that post it."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from pawprint.commands.changes_markdown import LONGEST_COMMENT, MARK, Side, comment
from pawprint.judging.errors import error_rate
from pawprint.params import load_yaml
from pawprint.tables import to_csv
from tests.support.project import ROOT

WORKFLOW = load_yaml(ROOT / ".github/workflows/changes.yml")
NASTY = "`a|b` @someone <img src=x>\n[x](//x) #1"
DVC_YAML = """\
stages:
  interpret:
    cmd: "true"
    params: [train.lr]
    outs: [data/predictions.csv]
    metrics: [metrics/evaluate.json: {cache: false}]
"""


def answers(wrong: int, label: str = "cat") -> pd.DataFrame:
    """Twenty valid pictures, of which the first ones are taken for dogs; picture 0 is the worst."""
    rows = [
        {
            "path": f"data/images/{i:016x}.jpg",
            "label": label,
            "split": "valid",
            "prediction": "dog" if i < wrong else label,
            "probability": "0.9",
            "loss": f"{20.0 - i}",
        }
        for i in range(20)
    ]
    return pd.DataFrame(rows)


def matrix(answers: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"actual": answers["label"], "predicted": answers["prediction"]})


def side(commit: str, wrong: int, label: str = "cat") -> Side:
    table = answers(wrong, label)
    judged = {"valid": {"first": error_rate(wrong, 20)}}
    return Side(commit * 40, {"evaluate": judged}, {"confusion": matrix(table)}, table)


def csv_of(table: pd.DataFrame) -> bytes:
    return to_csv(list(table), table.to_numpy().tolist())


def commit(folder: Path, wrong: int, lr: float) -> str:
    """A commit as a run leaves it: metrics in git, predictions in DVC's cache; its hash."""
    content = csv_of(answers(wrong))
    md5 = hashlib.md5(content).hexdigest()
    cached = folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    out = {"path": "data/predictions.csv", "hash": "md5", "md5": md5, "size": len(content)}
    files = {
        cached: content,
        folder / "dvc.lock": json.dumps(
            {"schema": "2.0", "stages": {"interpret": {"cmd": "true", "outs": [out]}}}
        ),
        folder / "dvc.yaml": DVC_YAML,
        folder / "params.yaml": f"train: {{lr: {lr}}}\n",
        folder / "metrics/evaluate.json": json.dumps(
            {"valid": {"first": error_rate(wrong, 20)}, "as_gathered": {}}
        ),
        folder / "metrics/confusion.csv": csv_of(matrix(answers(wrong))),
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    subprocess.run(["git", "add", "--all"], cwd=folder, check=True)
    subprocess.run(["git", *identity, "commit", "-qm", "run"], cwd=folder, check=True)
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, stdout=-1, check=True)
    return found.stdout.decode().strip()


def step(job: str, name: str) -> str:
    """The script of a step of the workflow."""
    steps = WORKFLOW["jobs"][job]["steps"]
    return next(each["run"] for each in steps if each.get("name") == name)


def run_script(script: str, folder: Path, **environment: str) -> str:
    """Run a script as GitHub does, with the folder's own tools and this interpreter first."""
    path = os.pathsep.join(
        [str(folder / "tools"), str(Path(sys.executable).parent), os.environ["PATH"]]
    )
    environment = {**os.environ, "PATH": path, **environment}
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# What the workflow does not install.
HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "sklearn",
    "cleanlab",
    "onnx",
    "onnxruntime",
    "PIL",
    "matplotlib",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the workflow's first job writes for a branch of one commit."""
    folder = tmp_path_factory.mktemp("branch")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (folder / ".gitignore").write_text("/.dvc/cache\n/.dvc/tmp\n")
    base, head = commit(folder, 6, 0.002), commit(folder, 2, 0.001)
    absent = tmp_path_factory.mktemp("absent")
    for name in HEAVY:
        (absent / f"{name}.py").write_text("raise ImportError('the job does not install it')\n")
    summary = folder / "summary.md"
    run_script(
        step("report", "report"),
        folder,
        BASE=base,
        HEAD=head,
        GITHUB_STEP_SUMMARY=str(summary),
        PYTHONPATH=f"{absent}{os.pathsep}{ROOT}",
    )
    assert summary.read_text() == (folder / "changes.md").read_text()
    return summary.read_text()


def test_the_workflow_reports_params_metrics_matrices_and_top_losses_of_both_commits(report: str):
    text = re.sub("</?code>", "", report)
    assert text.startswith(MARK)
    assert "| first model | 30.0 % (14.5 to 51.9) | 10.0 % (2.8 to 30.1) | - | - |" in text
    assert "6 wrong → 2 wrong; no evidence of a difference (p = 0.12" in text  # 2 * 0.5 ** 4
    assert "| params.yaml | train.lr | 0.002 | 0.001 |" in text
    assert "| metrics/evaluate.json | valid.first.wrong | 6 | 2 |" in text
    assert "| cat | **14** | **6** |" in text
    assert "| cat | **18** | **2** |" in text
    assert "metrics/test_confusion.csv is at neither commit" in text
    rows = [line for line in text.splitlines() if line.startswith("| 0000")]
    assert len(rows) == 10
    assert rows[0] == "| 0000000000000000 | cat | dog 90 %, loss 20.00 | dog 90 %, loss 20.00 |"
    assert rows[2] == "| 0000000000000002 | cat | dog 90 %, loss 18.00 | cat 90 %, loss 18.00 |"


GH = """#!/bin/bash
# Notes its arguments, and answers from comments.json.
echo "$@" >> calls
if [ "$2" = --paginate ]; then [ "$4" = --jq ] && jq "$5" comments.json; fi
"""


def tool(folder: Path, name: str, text: str) -> None:
    (folder / "tools").mkdir(exist_ok=True)
    (folder / "tools" / name).write_text(text)
    (folder / "tools" / name).chmod(0o755)


needs_jq = pytest.mark.skipif(not shutil.which("jq"), reason="there is no jq: install it")


@needs_jq
@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (None, "api --method POST repos/o/n/issues/7/comments --field body=@changes.md"),
        (31, "api --method PATCH repos/o/n/issues/comments/31 --field body=@changes.md"),
    ],
)
def test_the_workflow_writes_over_its_own_comment_and_over_no_other(tmp_path: Path, own, expected):
    bot, person = {"login": "github-actions[bot]"}, {"login": "someone"}
    comments = [
        {"id": 11, "user": person, "body": f"{MARK} not mine"},
        {"id": 21, "user": bot, "body": "of another workflow"},
    ]
    if own:
        comments += [{"id": i, "user": bot, "body": f"{MARK}\nold"} for i in (own, own + 1)]
    (tmp_path / "comments.json").write_text(json.dumps(comments))
    tool(tmp_path, "gh", GH)
    job = WORKFLOW["jobs"]["comment"]["steps"]
    own_filter = next(each["env"]["OWN"] for each in job if each.get("name") == "comment")
    run_script(step("comment", "comment"), tmp_path, REPO="o/n", NUMBER="7", OWN=own_filter)
    assert (tmp_path / "calls").read_text().splitlines()[1:] == [expected]


def test_the_job_that_may_write_runs_nothing_of_the_pull_request():
    jobs = WORKFLOW["jobs"]
    assert WORKFLOW["permissions"] == {}
    assert jobs["report"]["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in str(WORKFLOW)
    used = [each.get("uses", "") for each in jobs["comment"]["steps"]]
    assert not any("checkout" in name for name in used)
    scripts = [each["run"] for job in jobs.values() for each in job["steps"] if "run" in each]
    assert not any("${{" in script for script in scripts)  # text from outside is no code


@needs_jq
@pytest.mark.parametrize(("own", "expected"), [(None, "POST notes"), (31, "PUT notes/31")])
def test_the_gitlab_job_of_the_page_writes_over_its_own_note(tmp_path: Path, own, expected):
    page = (ROOT / "docs/pull_requests.md").read_text(encoding="utf-8")
    block = next(each for each in re.findall(r"```yaml\n(.*?)```", page, re.S) if "apk add" in each)
    (tmp_path / "gitlab.yml").write_text(block)
    jobs = load_yaml(tmp_path / "gitlab.yml")
    notes = [{"id": 11, "body": "a person's"}]
    notes += [{"id": own, "body": f"{MARK}\nold"}] if own else []
    (tmp_path / "answer.json").write_text(json.dumps(notes))
    tool(tmp_path, "curl", '#!/bin/bash\necho "$@" >> calls\ncat answer.json\n')
    given = {"CI_PROJECT_ID": "5", "CI_MERGE_REQUEST_IID": "7", "GITLAB_TOKEN": "secret"}
    script = "\n".join(jobs["comment"]["script"])
    run_script(script, tmp_path, CI_API_V4_URL="https://git/api", **given)
    _, call = (tmp_path / "calls").read_text().splitlines()
    method, path = expected.split()
    assert f"--request {method} --data-urlencode body@changes.md" in call
    assert call.endswith(f" https://git/api/projects/5/merge_requests/7/{path}")


class Seen(HTMLParser):
    """Which tags a page has, the texts of its code, and all its other text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.code: list[str] = []
        self.other = ""
        self.within = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.within = tag == "code" or self.within
        if tag == "code":
            self.code.append("")

    def handle_endtag(self, tag):
        self.within = tag != "code" and self.within

    def handle_data(self, data):
        if self.within:
            self.code[-1] += data
        else:
            self.other += data


def test_a_label_breaks_no_table_and_mentions_links_and_loads_nothing():
    markdown_it = pytest.importorskip("markdown_it", reason="markdown-it-py is not installed")
    params = {"params.yaml": {NASTY: {"old": NASTY, "new": None}}}
    text = comment((side("a", 6, NASTY), side("b", 2, NASTY)), params, f"fatal: {NASTY}")
    plain = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table")
    seen = Seen(plain.render(text))
    assert set(seen.tags).isdisjoint({"a", "img", "em", "script"})
    assert seen.code.count(NASTY.replace("\n", " ")) >= 5
    assert "@" not in seen.other
    assert "someone" not in seen.other
    assert seen.tags.count("table") == 6  # errors, params, the frame of two matrices, top losses


def test_what_one_commit_does_not_have_is_a_line_and_the_other_is_shown():
    bare = Side("a" * 40, {}, {}, None, "no such bucket")
    text = comment((bare, side("b", 2)), {}, "there is no dvc.yaml")
    assert "No metrics/confusion.csv at this commit." in text
    assert "<code>aaaaaaaa</code> has no readable data/predictions.csv" in text
    assert "<code>no such bucket</code>" in text
    assert "| first model | - | 10.0 % (2.8 to 30.1) | - | - |" in text
    assert "### Params\n\nNo change." in text
    assert "`dvc metrics diff` cannot tell: <code>there is no dvc.yaml</code>" in text
    assert text.count("loss 20.00") == 1
    assert "McNemar" not in text
    empty = comment((bare, bare), {}, {})
    assert empty.count("at neither commit") == 3


def test_the_top_losses_are_those_of_either_commit_in_the_order_of_the_second():
    base, head = side("a", 2), side("b", 2)
    other_way = head.answers.assign(loss=head.answers["loss"].tolist()[::-1])
    text = comment((base, replace(head, answers=other_way.iloc[1:])), {}, {})
    shown = [line.split("<code>")[1][:16] for line in text.splitlines() if "%, loss" in line]
    assert shown == [f"{i:016x}" for i in [*range(19, 0, -1), 0]]
    assert "dog</code> 90 %, loss 20.00 | - |" in text  # picture 0 is not in the second


def test_metrics_that_did_not_change_are_said_to_be_the_same():
    text = comment((side("a", 2), side("b", 2)), {}, {})
    assert text.count("No change.") == 2
    assert "The same at both commits" in text
    assert "**" not in text


def test_many_classes_are_shown_as_the_most_frequent_confusions():
    names = [f"breed {i:03}" for i in range(120)]
    shifted = pd.DataFrame({"actual": names, "predicted": [*names[1:], names[0]]})
    worse = pd.concat([shifted, shifted.iloc[:1], shifted.iloc[:1]])
    sides = [Side(c * 40, {}, {"confusion": t}, None) for c, t in (("a", shifted), ("b", worse))]
    text = re.sub("</?code>", "", comment((sides[0], sides[1]), {}, {}))
    assert "| breed 000 | breed 001 | 1 | 3 |\n| breed 001 | breed 002 | 1 | 1 |" in text
    assert "… and 110 more" in text


def test_a_comment_is_never_longer_than_github_takes():
    names = [f"{i:02}" + "|" * 60 for i in range(12)]
    table = pd.DataFrame({"actual": names, "predicted": names})
    other = pd.DataFrame({"actual": names, "predicted": [names[0]] * 12})
    sides = [
        Side(c * 40, {}, {"confusion": t}, answers(2, "|" * 60))
        for c, t in zip("ab", (table, other), strict=True)
    ]
    metrics = {
        "m" * 60: {f"{i}" + "`" * 60: {"old": "|" * 60, "new": "|" * 60} for i in range(900)}
    }
    text = comment((sides[0], sides[1]), metrics, metrics)
    assert len(text) < LONGEST_COMMENT + 1000
    assert "Too long for a comment: `pawprint changes aaaaaaaa bbbbbbbb` prints it." in text
    assert text.count("<details>") == text.count("</details>")


@pytest.mark.parametrize("name", ["nosuch", "--output=x", ""])
def test_an_unknown_commit_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch):
    from pawprint.commands import changes

    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as error:
        changes.commit_of(name)
    assert f"git knows no commit {name!r}" in str(error.value)
    assert "\n" not in str(error.value)
