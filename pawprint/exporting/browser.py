"""The static Space: a folder with the model and a page that asks it in the visitor's browser.

There is no server, so there is nothing that can rot: the folder holds its own copy of
onnxruntime-web, a runtime for browsers, and a service worker keeps it all for when there is no
network. Which version of the runtime it is, is part of this code, so that the same input gives the
same bytes.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pawprint.exporting.card import NAMED
from pawprint.exporting.shipped.predict import title_of
from pawprint.params import StageError
from pawprint.tables import write_bytes

VERSION = "1.30.0"  # of onnxruntime-web
RUNTIME = {  # its files under the names that they have here, and their SHA-256
    "onnxruntime.js": (
        "ort.wasm.bundle.min.mjs",
        "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    ),
    "onnxruntime.wasm": (
        "ort-wasm-simd-threaded.wasm",
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    ),
}
INSTALL = (
    f"npm install --prefix . --no-save --no-package-lock --ignore-scripts onnxruntime-web@{VERSION}"
)
SHIPPED = Path("pawprint/exporting/shipped")
SHARED = Path("pawprint/judging")
PAGE = {
    "index.html": SHIPPED / "page/index.html",
    "page.css": SHIPPED / "page/page.css",
    "page.js": SHIPPED / "page/page.js",
    "ask.js": SHIPPED / "browser/ask.js",
    "pillow.js": SHIPPED / "browser/pillow.js",
    "onnxruntime.LICENSE.txt": SHIPPED / "browser/onnxruntime.LICENSE.txt",
    "theme.css": SHARED / "theme.css",
    "paw.svg": SHARED / "paw.svg",
}
MODEL = ("model.onnx", "model.json", "nearest.json")  # the last one if the model explains itself


def find_runtime() -> Path:
    """Return the folder with the files of onnxruntime-web, in node_modules here or further up.

    Raises StageError if it is missing or is another version.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        found = folder / "node_modules/onnxruntime-web/dist"
        if found.is_dir():
            break
    else:
        raise StageError(
            f"export.page needs node_modules/onnxruntime-web, which is missing: {INSTALL}"
        )
    for name, sha256 in RUNTIME.values():
        file = found / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
            raise StageError(f"{file} is not that of onnxruntime-web {VERSION}: {INSTALL}")
    return found


def write_browser(folder: Path, model: Path, runtime: Path, **figures: Any) -> None:
    """Write the static Space.

    model: the folder of the exported model; runtime: as `find_runtime` gives it; figures: classes,
    test and licence, as the template README.md.j2 uses them.
    """
    files = {name: model / name for name in MODEL if (model / name).is_file()}
    files |= {name: runtime / file for name, (file, _) in RUNTIME.items()}
    files |= PAGE
    folder.mkdir(parents=True)
    digest = hashlib.sha256()
    for name, source in sorted(files.items()):
        shutil.copyfile(source, folder / name)
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    environment = Environment(
        loader=FileSystemLoader(SHIPPED / "browser"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    title = title_of(figures["classes"])
    about = {"title": title, "named": NAMED, "runtime": VERSION, "licence": "", **figures}
    about |= {"version": digest.hexdigest()[:16], "files": ["./", *sorted(files)]}
    for name in ("sw.js", "README.md"):
        text = environment.get_template(f"{name}.j2").render(about)
        write_bytes(folder / name, text.encode("utf-8"))
