"""The pages of the docs: their links lead somewhere, and their pictures are the script's."""

import re
import sys
from pathlib import Path

import pytest

from docs import make_pictures
from tests.support.project import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")]
PAGES += [*ROOT.glob("notebooks/*.md")]
MADE = sorted(ROOT.glob("docs/pictures/*"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_one(page: Path):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    files = [link for link in links if not re.match(r"\w+:", link)]
    assert [link for link in files if not (page.parent / link).exists()] == []


def test_every_picture_is_made_by_the_script_and_shown_on_a_page():
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert {path.stem for path in MADE} <= set(make_pictures.PICTURES)
    assert [path.name for path in MADE if f"pictures/{path.name})" not in text] == []
    assert sum(path.stat().st_size for path in MADE) < 1_000_000


def test_no_terminal_shows_a_folder_of_a_machine_or_loads_anything():
    for path in MADE:
        if path.suffix == ".svg":
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"/tmp/|/home/(?!ann)|/root/|url\((?!#)|<script|href=", text)


def words_of(svg: str) -> str:
    """The text of an SVG, its letters as people read them."""
    return " ".join(re.sub(r"<[^>]+>", " ", svg).replace("&#160;", " ").split())


def test_a_terminal_is_drawn_with_what_a_command_really_printed(tmp_path: Path):
    command = (
        "tput cols 2>/dev/null || stty size; printf '\\033[31mred\\033[0m\\n10 %%\\r90 %%\\n'; pwd"
    )
    printed = make_pictures.run_in_terminal(command, tmp_path)
    svg = make_pictures.draw_terminal([("show it", printed)], tmp_path)
    said = words_of(svg)
    assert "$ show it" in said
    assert "100" in said  # columns
    assert "90 %" in said
    assert "10 %" not in said  # a bar that was written over
    assert "~/pawprint" in said
    assert str(tmp_path) not in svg
    assert "fill: #cc555a" in svg  # rich's red
    assert "cdnjs" not in svg


def test_what_cannot_be_shown_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(make_pictures.Unready) as error:
        make_pictures.terminal(
            "x", tmp_path, ["printf '\\033[31mno such thing\\033[0m\\n' && false"]
        )
    assert str(error.value).endswith("failed: no such thing")
    with pytest.raises(make_pictures.Unready, match="belongs to this machine"):
        make_pictures.draw_terminal([("x", f"{ROOT}/data\n")], tmp_path)
    monkeypatch.setattr(sys, "argv", ["make_pictures", "nosuch"])
    with pytest.raises(SystemExit):
        make_pictures.main()
    said = capsys.readouterr().err.splitlines()[-1]
    assert "there is no picture 'nosuch'; there are report, review" in said
