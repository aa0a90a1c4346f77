"""The Dockerfile, without an engine: its sources, its packages, and its command in a folder."""

import importlib.metadata
import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from packaging.requirements import Requirement

from tests.support.exported import write_export
from tests.support.project import ROOT


@pytest.fixture(scope="module")
def steps() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile: name and argument."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    return [
        tuple(line.split(" ", 1)) for line in text.splitlines() if line and not line.startswith("#")
    ]


@pytest.fixture(scope="module")
def packages(steps) -> list[str]:
    (run,) = (argument for name, argument in steps if name == "RUN")
    assert run.startswith("pip install --no-cache-dir --constraint requirements.lock ")
    return run.split()[5:]


def test_every_source_is_there_and_not_ignored(steps):
    sources = [argument.split()[0] for name, argument in steps if name == "COPY"]
    assert sources == ["requirements.lock", "pawprint", "export"]
    kept = (ROOT / ".dockerignore").read_text().split()
    assert kept[0] == "*"
    for source in sources:
        assert f"!{source}" in kept
        assert source == "export" or (ROOT / source).exists()  # `dvc repro` makes export/


def test_the_packages_are_locked_and_without_torch(packages):
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.M))
    assert set(packages) <= locked
    assert not {"torch", "timm", "dvc"} & closure(packages)


def closure(packages: list[str]) -> set[str]:
    """The packages and all that they require here."""
    done, left = set(), list(packages)
    while left:
        name = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if name in done:
            continue
        done.add(name)
        for text in importlib.metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                left.append(requirement.name)
    return done


def test_serving_needs_nothing_that_is_not_installed(packages):
    """All other packages are hidden: what tries an optional one does without it, as there."""
    allowed = closure(packages)
    homes = importlib.metadata.packages_distributions()
    hidden = [
        module
        for module, names in homes.items()
        if "pawprint" not in names
        and not any(re.sub(r"[-_.]+", "-", name).lower() in allowed for name in names)
    ]
    assert "torch" in hidden
    code = f"""
import sys
for module in {hidden!r}:
    sys.modules[module] = None
import pawprint.__main__, pawprint.commands.serve, pawprint.commands.drift
import pawprint.commands.predict, pawprint.sources.web, onnxruntime, scipy.stats
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10).close()
    except OSError:
        return False
    return True


def test_the_command_serves_and_the_health_check_tells(steps, tmp_path):
    shutil.copytree(ROOT / "pawprint", tmp_path / "pawprint")
    write_export(tmp_path / "export")
    command = json.loads(dict(steps)["CMD"])
    check = json.loads(dict(steps)["HEALTHCHECK"].removeprefix("CMD "))
    for each in (command, check):
        each[0] = sys.executable
    # the container has 8000 to itself, a machine that runs tests may not
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        str(port) if each == "8000" else "127.0.0.1" if each == "0.0.0.0" else each
        for each in command
    ]
    check = [each.replace("8000", str(port)) for each in check]
    assert subprocess.run(check, cwd=tmp_path, capture_output=True).returncode != 0
    server = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        while not answers(port):
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert subprocess.run(check, cwd=tmp_path, capture_output=True).returncode == 0
    finally:
        server.terminate()
        server.wait(timeout=30)
