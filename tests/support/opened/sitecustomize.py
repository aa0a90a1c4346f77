"""Writes down which files of the project a stage opens.

Python imports this module at its start if its folder is in PYTHONPATH. For a process whose command
line names a stage, one line per file is appended to $OPENED/STAGE.txt: `r` or `w`, and the path
relative to the working folder. Processes that the stage forks write to the same file.

If HOLD is set, the stage goes no further than to where it gives the first file that it has written
its name: it notes `held` and that name, and waits for its parent's end.
"""

import os
import sys
import time

FOLDER = os.environ.get("OPENED")
STAGE = next((word.split(".")[1] for word in sys.orig_argv if word.startswith("stages.")), "")
if "models/retrained.safetensors" in sys.orig_argv:
    STAGE = "retrain"


def watch(log: int, root: str) -> None:
    """Append every file that is opened, and every folder that is listed, to the open file `log`."""
    seen: set[str] = set()

    def note(path: object, letter: str) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        whole = os.path.abspath(os.fsdecode(path))
        line = f"{letter} {os.path.relpath(whole, root)}\n"
        if not whole.startswith(root + os.sep) or line in seen:
            return
        if letter == "w" or os.path.exists(whole):  # not a look for what is not there
            seen.add(line)
            os.write(log, line.encode())

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
            note(path, "w" if writes else "r")
        elif event == "os.rename" and "HOLD" in os.environ:
            hold(os.path.relpath(os.fsdecode(arguments[1]), root))
        elif event in ("os.listdir", "os.scandir"):
            note(arguments[0] or ".", "r")

    def hold(path: str) -> None:
        os.write(log, f"held {path}\n".encode())
        parent = os.getppid()
        while os.getppid() == parent:
            time.sleep(0.01)

    # files that Rust opens, unseen by Python
    import safetensors

    opened = safetensors.safe_open

    def safe_open(path: object, *more: object, **options: object) -> object:
        note(path, "r")
        return opened(path, *more, **options)

    safetensors.safe_open = safe_open
    sys.addaudithook(hook)


if FOLDER and STAGE:
    name = os.path.join(FOLDER, f"{STAGE}.txt")
    watch(os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT), os.getcwd())
