"""Make the pictures in docs/pictures/ from a finished run: `python -m docs.make_pictures [NAME…]`.

Each shows what a command really prints or what a page really looks like, of the last commit and the
data that DVC has of it. Terminals: the command runs in a pseudo-terminal, and rich draws what it
printed, colours included, as SVG. Pages: headless Chromium. Everything happens in a clone of the
project in a temporary folder, so the project itself stays as it is. No picture holds a path of this
machine: that is checked.

What cannot be shown ends the script with one line that says why. It needs the extra `dev`, Debian's
chromium, and a few minutes: for the pull request a model is trained.
"""

import argparse
import fcntl
import io
import os
import pty
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from PIL import Image
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from benchmarks.project import ROOT, edit_yaml

OUT = ROOT / "docs/pictures"
COLUMNS = 100  # characters of a terminal's line
WIDTH, HEIGHT = 1200, 900  # pixels of a page
QUALITY = 60  # of JPEG
# without the fonts that rich would load from the web
SVG = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
# a browser's or an editor's escape sequences, but not those of colours
MOVES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-ln-z]|[78=>])")


class Unready(Exception):
    """What a picture should show is not there. The message is one line."""


# --- a place to work in ---


@contextmanager
def copied() -> Iterator[Path]:
    """Yield a clone of the project with the data of its last commit."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "pawprint"
        do(["git", "clone", "--quiet", str(ROOT), str(copy)], ROOT)
        cache = subprocess.run(["dvc", "cache", "dir"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        do(["dvc", "cache", "dir", "--local", cache.stdout.strip()], copy)
        for key, value in (("name", "pawprint"), ("email", "pawprint@example.org")):
            do(["git", "config", f"user.{key}", value], copy)
        try:
            do(["dvc", "checkout", "--quiet"], copy)
        except Unready:
            raise Unready("the last commit has not run here: dvc repro, and commit it") from None
        yield copy


def environment(copy: Path) -> dict[str, str]:
    """Return the environment of commands in a clone: its own code, this interpreter's commands."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = {
        "PATH": path,
        "PYTHONPATH": str(copy),
        "COLUMNS": str(COLUMNS),
        "TERM": "xterm-256color",
    }
    return {**os.environ, **given}


def do(command: Sequence[str], copy: Path) -> str:
    """Run a command that no picture shows; return what it printed. Raises Unready if it fails."""
    done = subprocess.run(
        command, cwd=copy, env=environment(copy), capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        raise Unready(f"`{' '.join(command)}` failed: {last_line(done.stderr or done.stdout)}")
    return done.stdout


def last_line(text: str) -> str:
    """Return the last line of a text that is not empty."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"


def refuse_machine_paths(text: str, copy: Path) -> None:
    """Raise Unready if a text names a folder of this machine, or the machine."""
    for name in {
        str(copy),
        tempfile.gettempdir(),
        str(ROOT),
        str(Path.home()),
        socket.gethostname(),
    }:
        if name in text:
            raise Unready(f"the picture would show {name}, which belongs to this machine")


# --- terminals ---


def terminal(name: str, copy: Path, commands: Sequence[str]) -> None:
    """Run commands one after the other, and write what a terminal shows as NAME.svg."""
    shown = [(command, run_in_terminal(command, copy)) for command in commands]
    write(f"{name}.svg", draw_terminal(shown, copy).encode())


def run_in_terminal(command: str, copy: Path) -> str:
    """Return what a command prints into a terminal. Raises Unready if it fails."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    process = subprocess.Popen(
        ["bash", "-c", command], cwd=copy, env=environment(copy), stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    printed = b""
    while chunk := read_terminal(ours):
        printed += chunk
    os.close(ours)
    text = printed.decode(errors="replace")
    if process.wait():
        raise Unready(f"`{command}` failed: {last_line(MOVES.sub('', text))}")
    return text


def read_terminal(ours: int) -> bytes:
    """Return what comes next out of a terminal, nothing at its end."""
    try:
        return os.read(ours, 65536)
    except OSError:  # Linux says so when the other side is closed
        return b""


def draw_terminal(shown: Sequence[tuple[str, str]], copy: Path) -> str:
    """Return a terminal as SVG. shown: commands with what they printed."""
    console = Console(
        record=True,
        width=COLUMNS,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
    )
    for command, printed in shown:
        console.print(Text("$ ", "bold green") + Text(command, "bold"))
        lines = MOVES.sub("", printed).replace("\r\n", "\n").split("\n")
        left = [line.rsplit("\r", 1)[-1] for line in lines]  # bars are written over
        text = "\n".join(left).replace(str(copy), "~/pawprint")
        refuse_machine_paths(text, copy)
        console.print(Text.from_ansi(text.rstrip()), soft_wrap=False)
    return console.export_svg(title=shown[0][0].split(" && ")[0][:60], code_format=SVG)


# --- pages ---


@contextmanager
def opened(url: str, width: int = WIDTH) -> Iterator[Any]:
    """Yield a page in headless Chromium. Raises Unready if there is none."""
    from tests.support.browser import CALM, CHROMIUM

    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise Unready("Playwright is not installed: pip install 'pawprint[dev]'") from None
    if not CHROMIUM.is_file():
        raise Unready(f"there is no {CHROMIUM}: install Debian's package chromium")
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=str(CHROMIUM), args=CALM)
        page = chromium.new_page(viewport={"width": width, "height": HEIGHT})
        page.goto(url)
        yield page
        chromium.close()


def shoot(name: str, page: Any, copy: Path, height: int = HEIGHT) -> None:
    """Write the upper part of a page as NAME.jpg. height: in pixels, at most."""
    refuse_machine_paths(page.inner_text("body"), copy)
    whole = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": page.viewport_size["width"], "height": min(height, whole)})
    page.wait_for_timeout(300)  # pictures that come late
    write(f"{name}.jpg", page.screenshot(type="jpeg", quality=QUALITY))


@contextmanager
def serving(command: Sequence[str], copy: Path) -> Iterator[str]:
    """Yield the address that a server of pawprint prints; it stops at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pawprint", *command, "--port", "0"],
        cwd=copy,
        env={**environment(copy), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    printed = ""
    try:
        for line in process.stdout or ():
            printed += line
            if found := re.search(r"http://127\.0\.0\.1:\d+/\S*", line):
                yield found[0]
                return
        raise Unready(f"`pawprint {' '.join(command)}` failed: {last_line(printed)}")
    finally:
        process.terminate()
        process.wait()


@contextmanager
def folder_served(folder: Path) -> Iterator[str]:
    """Yield the address of a folder of static files."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def write(name: str, content: bytes) -> None:
    """Write a picture to docs/pictures, and say so."""
    OUT.mkdir(exist_ok=True)
    (OUT / name).write_bytes(content)
    print(f"docs/pictures/{name}  {len(content) / 1000:.0f} kB")


# --- the pictures ---


def one_picture(copy: Path) -> Path:
    """Return a picture of the test split."""
    lines = (copy / "data/split.csv").read_text(encoding="utf-8").splitlines()
    return next(Path(line.split(",")[0]) for line in lines if line.endswith(",test"))


def report(copy: Path) -> None:
    """The top of report.html."""
    with opened((copy / "report.html").as_uri(), 1290) as page:
        shoot("report", page, copy, 1012)


def review(copy: Path) -> None:
    """The page on which people keep, delete and relabel."""
    with serving(["review"], copy) as url, opened(url) as page:
        page.wait_for_selector("#grid img")
        page.wait_for_load_state("networkidle")
        shoot("review", page, copy)


def publish(copy: Path) -> None:
    """What would go to the Hub."""
    terminal("publish", copy, ["pawprint publish --dry-run"])


def space(copy: Path) -> None:
    """The page of a static Space, with an answer that this browser has computed."""
    runtime = Path("node_modules/onnxruntime-web")
    found = [folder for folder in (ROOT, *ROOT.parents) if (folder / runtime).is_dir()]
    if found:  # else export says how to get it
        (copy / runtime.parent).symlink_to(found[0] / runtime.parent)
    edit_yaml(copy / "params.yaml", **{"export.page": "browser", "export.explain": True})
    do([sys.executable, "-m", "stages.export"], copy)
    with folder_served(copy / "export/browser") as url, opened(url, 1000) as page:
        page.set_input_files("#file", str(copy / one_picture(copy)))
        page.wait_for_selector("#result", state="visible", timeout=120_000)
        shoot("space", page, copy, 800)


def explain(copy: Path) -> None:
    """The page of `pawprint predict --explain`."""
    edit_yaml(copy / "params.yaml", **{"export.explain": True})
    do([sys.executable, "-m", "stages.export"], copy)
    do([*pawprint(), "predict", "--explain", "why", "export", str(one_picture(copy))], copy)
    with opened((copy / "why/index.html").as_uri()) as page:
        shoot("explain", page, copy, 600)


def suggest(copy: Path) -> None:
    """The page on which pictures that would teach most get a label: bears of another seed."""
    from pawprint.sources.sample import draw, plan

    (copy / "new").mkdir()
    for i, planned in enumerate(plan(90, seed=7)):
        (copy / f"new/{i:02}.jpg").write_bytes(draw(planned))
    with serving(["suggest", "new"], copy) as url, opened(url) as page:
        page.wait_for_selector("#grid img")
        page.wait_for_load_state("networkidle")
        shoot("suggest", page, copy)


def licences(copy: Path) -> None:
    """Pictures whose licence is not wanted stay out."""
    names = ["CC BY 4.0", "CC0", "all rights reserved", "CC BY-SA 4.0"]
    rows = ["file,label,licence,author"]
    for i, path in enumerate(sorted((copy / "data/images").rglob("*.jpg"))[::30]):
        target = copy / f"photos/{path.parent.name}_{i}.jpg"
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
        rows.append(f"{target.name},{path.parent.name},{names[i % 4]},author {i}")
    (copy / "photos/labels.csv").write_text("\n".join(rows) + "\n")
    do([*pawprint(), "use", "photos"], copy)
    params = (copy / "params.yaml").read_text(encoding="utf-8")
    wanted = params.replace("licences: []", "licences: [cc-by, cc0]")
    (copy / "params.yaml").write_text(wanted, encoding="utf-8")
    commands = ["head -n 4 photos/labels.csv", "grep licences: params.yaml"]
    commands += ["dvc repro --quiet gather", "grep withheld data/gathered.csv | cut -d , -f 2,8-11"]
    terminal("licences", copy, commands)


def notebook(copy: Path) -> None:
    """The notebook after its last cell, in three columns."""
    try:
        import nbclient
        import nbconvert
        import nbformat
    except ImportError as error:
        raise Unready(f"{error.name} is not installed: pip install 'pawprint[dev]'") from None
    os.environ.update(environment(copy))  # the kernel takes it from here
    cells = nbformat.read(copy / "notebooks/bears.ipynb", as_version=4)
    resources = {"metadata": {"path": str(copy)}}
    client = nbclient.NotebookClient(cells, timeout=1200, resources=resources)
    client.coalesce_streams = True  # texts that came in pieces
    client.execute()
    page_text, _ = nbconvert.HTMLExporter().from_notebook_node(cells)
    path = copy / "notebook.html"
    path.write_text(page_text.replace(str(copy.parent), "~"), encoding="utf-8")
    with opened(path.as_uri(), 900) as page:
        refuse_machine_paths(page.inner_text("body"), copy)
        content = page.screenshot(full_page=True)
    write("notebook.jpg", in_columns(content, 3))


def in_columns(png: bytes, columns: int) -> bytes:
    """Return a tall picture cut into columns beside each other, as JPEG."""
    with Image.open(io.BytesIO(png)) as tall:
        height = -(-tall.height // columns)
        wide = Image.new("RGB", (tall.width * columns, height), "white")
        for i in range(columns):
            part = tall.crop((0, i * height, tall.width, min((i + 1) * height, tall.height)))
            wide.paste(part, (i * tall.width, 0))
    wide.thumbnail((1400, 4000))
    buffer = io.BytesIO()
    wide.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()


COMMENT = """<!doctype html><meta charset="utf-8"><style>
body {{ font: 14px/1.5 sans-serif; margin: 24px; color: #1f2328; }}
article {{ border: 1px solid #d1d9e0; border-radius: 6px; }}
header {{ background: #f6f8fa; padding: 8px 16px; border-bottom: 1px solid #d1d9e0; }}
main {{ padding: 0 16px 16px; }}
h2, h3 {{ border-bottom: 1px solid #d1d9e0; padding-bottom: 4px; }}
table {{ border-collapse: collapse; }}
th, td {{ border: 1px solid #d1d9e0; padding: 4px 12px; vertical-align: top; }}
code {{ background: #eff1f3; border-radius: 6px; padding: 2px 5px; font-size: 85%; }}
</style><article><header><b>github-actions</b> bot commented</header><main>{}</main></article>"""


def pull_request(copy: Path) -> None:
    """The comment under a pull request that trains for one epoch instead of four."""
    from markdown_it import MarkdownIt

    edit_yaml(copy / "params.yaml", **{"train.epochs": 1})
    do(["dvc", "repro", "--quiet", "interpret", "evaluate"], copy)
    do(["git", "commit", "--quiet", "--all", "--message", "One epoch"], copy)
    text = do([*pawprint(), "changes", "HEAD~1"], copy)
    shown = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    path = copy / "comment.html"
    path.write_text(COMMENT.format(shown), encoding="utf-8")
    with opened(path.as_uri(), 1000) as page:
        shoot("pull_request", page, copy, 1500)


def pawprint() -> list[str]:
    """Return the command line of `pawprint`."""
    return [sys.executable, "-m", "pawprint"]


PICTURES: dict[str, Callable[[Path], None]] = {
    each.__name__: each
    for each in (
        *(report, review, publish, space, explain, suggest, licences),
        *(notebook, pull_request),
    )
}


def main() -> None:
    """Make all pictures, or those that are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PICTURES))
    names = parser.parse_args().names or list(PICTURES)
    for name in names:
        if name not in PICTURES:
            parser.error(f"there is no picture {name!r}; there are {', '.join(PICTURES)}")
        try:
            with copied() as copy:
                PICTURES[name](copy)
        except Unready as error:
            sys.exit(f"docs.make_pictures: {name}: {error}")


if __name__ == "__main__":
    main()
