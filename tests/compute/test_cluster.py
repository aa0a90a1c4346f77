"""A Ray cluster gives the bytes of one machine, also if it loses nodes. Three nodes on this one."""

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import psutil
import pytest
import torch

from pawprint import tables
from pawprint.commands import predict
from pawprint.compute import cluster, versions
from pawprint.compute.choice import open_engine
from pawprint.compute.cluster import RayEngine
from pawprint.compute.engine import Engine
from pawprint.compute.settings import EngineParams
from pawprint.judging import tta
from pawprint.params import StageError
from pawprint.sources.download import Downloader, DownloadParams, Result
from pawprint.training.device import ComputeParams
from pawprint.training.model import create_model
from stages import baseline, features, gather, lr, lr_find, split, train, verify
from tests.support.cluster import Nodes, start_nodes
from tests.support.exported import picture, write_export
from tests.support.project import TINY, TRAIN, Project, make_pictures
from tests.support.recipe import recipe
from tests.support.world import QUICK, Handler, Server
from tests.support.world import picture as photo

pytest.importorskip("ray.train", reason="the extra `ray` is not installed")

MADE = {
    verify: ["data/images", "data/images.csv", "data/properties.csv", "data/rejected.csv"],
    features: ["data/features.safetensors"],
    train: ["models/first.safetensors", "metrics/train.csv", "metrics/train.json"],
}


def bytes_made(stage: ModuleType) -> dict[str, str]:
    """The hashes of what a stage has written, by path."""
    paths = [path for each in MADE[stage] for path in (Path(each), *sorted(Path(each).rglob("*")))]
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()
    }


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A project run on this machine up to train, in whose folder this process is; what it made."""
    project = Project(tmp_path_factory.mktemp("cluster") / "project")
    make_pictures(project.path / "data/own", {"red": 22, "green": 22})
    (project.path / "data/own/red/page.jpg").write_text("<html>")
    project.edit(**TINY, **{"train.train_size": 64, "train.freeze_epochs": 2, "train.epochs": 12})
    project.edit(**{"compute.threads": 1})
    threads = torch.get_num_threads()
    with inside(project.path), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train", *TRAIN])
        made = {}
        for stage in (gather, verify, split, features, baseline, lr_find, lr, train):
            stage.main()
            if stage in MADE:
                made[stage] = bytes_made(stage)
        yield SimpleNamespace(project=project, made=made)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """contextlib.chdir of Python 3.11."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def started(here: SimpleNamespace) -> Iterator[Nodes]:
    """The cluster, after what this machine made alone: Ray and forks do not go together."""
    with start_nodes() as nodes:
        here.project.edit(**{"compute.engine": "ray", "compute.address": nodes.address})
        yield nodes


@pytest.fixture
def nodes(started: Nodes) -> Nodes:
    """The cluster with two nodes that work."""
    started.refill()
    return started


@pytest.fixture
def engine(nodes: Nodes) -> RayEngine:
    found = open_engine(EngineParams(engine="ray", address=nodes.address))
    assert isinstance(found, RayEngine)
    return found


def kill_at(monkeypatch: pytest.MonkeyPatch, nodes: Nodes, number: int) -> list[int]:
    """Kill a node when the driver waits for so many batches; the list is empty before that."""
    waited, killed = [], []
    wait = RayEngine.wait

    def wait_and_kill(self: RayEngine, reference: object, gpus: float) -> object:
        waited.append(1)
        if len(waited) == number:
            killed.append(number)
            nodes.kill()
        return wait(self, reference, gpus)

    monkeypatch.setattr(RayEngine, "wait", wait_and_kill)
    return killed


@pytest.mark.parametrize("stage", [verify, features], ids=["verify", "features"])
def test_a_node_is_killed_under_way_and_the_bytes_are_the_same(
    here: SimpleNamespace, nodes: Nodes, monkeypatch: pytest.MonkeyPatch, stage: ModuleType
):
    monkeypatch.setattr(cluster, "BATCH_BYTES", 8_000)
    monkeypatch.setattr(features, "FEW", 16)
    killed = kill_at(monkeypatch, nodes, 2)
    for path in MADE[stage]:
        if Path(path).is_file():
            Path(path).unlink()
    stage.main()
    assert killed
    assert bytes_made(stage) == here.made[stage]


def test_a_node_is_killed_in_a_training_and_the_others_end_it(
    here: SimpleNamespace, nodes: Nodes, monkeypatch: pytest.MonkeyPatch, capfd
):
    """Two share it; the one that is left trains alone, as one machine does."""
    killed, heard = [], set()
    write = tables.write_bytes

    def write_and_kill(path: Path | str, content: bytes, durable: bool = False) -> None:
        write(path, content, durable)
        if str(path).endswith(".checkpoint") and not killed:
            killed.append(path)
            heard.update(addresses_heard())
            nodes.kill()

    monkeypatch.setattr(tables, "write_bytes", write_and_kill)
    for path in MADE[train]:
        Path(path).unlink()
    train.main()
    assert killed
    assert heard == {"127.0.0.1"}  # torch's own store would listen on all
    said = capfd.readouterr().err
    assert "2 workers of the cluster" in said
    assert "1 workers of the cluster" in said
    assert bytes_made(train) == here.made[train]
    assert not list(Path("models").glob(".*"))


def test_nothing_listens_but_on_the_address_that_was_given(engine: RayEngine, nodes: Nodes):
    assert list(engine.map(str, [1], pool="here")) == ["1"]
    assert addresses_heard() == {"127.0.0.1"}


def addresses_heard() -> set[str]:
    """The addresses on which this process and all that it has started listen."""
    own, heard = psutil.Process(), set()
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    heard.add(connection.laddr.ip.removeprefix("::ffff:"))
    return heard


def test_few_pictures_are_under_way(engine: RayEngine):
    """What is read ahead does not grow with the number of pictures."""
    pulled = []

    def items() -> Iterator[int]:
        for i in range(200):
            pulled.append(i)
            yield i

    ahead = []
    for i, result in enumerate(engine.map(abs, items(), pool="here", together=5)):
        assert result == i
        ahead.append(len(pulled) - i)
    assert len(ahead) == 200
    assert max(ahead) <= 5 * (2 * 2 + 1) + 1  # two batches per worker, and the one being read


def end_the_process(number: int) -> int:
    """Return the number, or end the process for the third."""
    if number == 3:
        os._exit(1)
    return number


def test_an_item_that_ends_its_process_is_found(engine: RayEngine, monkeypatch):
    monkeypatch.setattr(cluster, "RETRIES", 0)
    found = engine.map(end_the_process, range(6), pool="here", crashed=lambda: -1)
    assert list(found) == [0, 1, 2, -1, 4, 5]
    with pytest.raises(StageError, match="the cluster lost the work"):
        list(engine.map(end_the_process, [3], pool="here"))


def refuse(number: int) -> int:
    """Fail as a stage does, or as a mistake of ours."""
    raise StageError("no such label") if number else ZeroDivisionError("by zero")


@pytest.mark.parametrize(
    ("number", "line"), [(1, "no such label"), (0, "a worker failed: ZeroDivisionError: by zero")]
)
def test_an_error_in_a_worker_is_one_line(engine: RayEngine, number: int, line: str):
    with pytest.raises(StageError, match=line) as error:
        list(engine.map(refuse, [number], pool="here"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["torch", "pawprint"])
def test_a_worker_with_another_version_is_refused_by_name(engine: RayEngine, name: str):
    engine.connect()
    engine.expected = {**versions.installed(), name: "1.0"}
    theirs = f"the worker at 127.0.0.1 has {name} {versions.installed()[name]}"
    with pytest.raises(StageError, match=theirs):  # when the driver connects
        engine.refuse_other_versions(engine.expected)
    with pytest.raises(StageError, match=theirs):  # and if it joins later
        list(engine.map(abs, [1], pool="here"))


def test_a_cluster_answers_like_this_machine(engine: RayEngine, here: SimpleNamespace):
    """From views too, which are drawn in one row for all pictures."""
    paths = sorted(str(path) for path in Path("data/images").rglob("*.jpg")) * 4
    params = recipe(size=32, train_size=32)
    model, config = create_model(params, ["a", "b"])
    torch.manual_seed(1)
    torch.nn.init.normal_(model.get_classifier().weight)
    compute = ComputeParams(device="cpu", threads=1)
    for views in (None, params):
        questions = tta.load_questions(paths, config, views)
        expected = tta.answer(model, config, questions, torch.device("cpu"))
        found = tta.ask(engine, compute, model, config, paths, views)
        assert torch.equal(found, expected)
        assert expected.std(dim=0).min() > 0


def test_predict_gives_the_rows_of_this_machine(engine: RayEngine, tmp_path: Path):
    folder = write_export(tmp_path / "export")
    files = []
    for i, colour in enumerate(["red", "green", "blue", "black"] * 5):
        files.append(str(tmp_path / f"{i} ü.png"))
        Path(files[-1]).write_bytes(picture(colour))
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    files += [str(tmp_path / name) for name in ("empty.jpg", "page.jpg", "none.jpg")]
    files += ["https://localhost/a.jpg"]
    arguments = SimpleNamespace(export=folder, allow_urls=False, runtime="onnxruntime")
    expected = list(predict.answer_files(predict.load(folder, 1), files))
    assert list(predict.answer_on_cluster(engine, arguments, files)) == expected
    assert sum("error" in row for row in expected) == 4


def test_workers_download_what_one_machine_does_as_politely(engine: RayEngine, tmp_path: Path):
    moods = {"/busy.jpg": [503], "/shy.jpg": [429, 429]}

    def moody(handler: Handler) -> None:
        left = moods[handler.path]
        handler.reply(left.pop(), b"") if left else handler.reply(200, photo(7))

    answers = {f"/{i}.jpg": photo(i) for i in range(6)}
    options = DownloadParams(**{**QUICK, "per_host": 1})
    with Server({**answers, "/page.jpg": b"<!doctype html>", **dict.fromkeys(moods, moody)}) as web:
        urls = [web.base + path for path in [*web.answers, "/gone.jpg"]]
        results: dict[str, Result] = {}
        with Downloader(options, allow_private=True, engine=engine) as downloader:
            parts = {url: tmp_path / f"part{i}" for i, url in enumerate(urls)}
            downloader.fetch_all(parts, results.__setitem__)
        assert web.most_busy == 1
        assert (web.asked["/busy.jpg"], web.asked["/shy.jpg"], web.asked["/gone.jpg"]) == (2, 2, 1)
    status = {url.rpartition("/")[2]: results[url].status for url in urls}
    assert status == {
        **{f"{i}.jpg": "ok" for i in range(6)},
        "page.jpg": "not a picture",
        "busy.jpg": "ok",
        "shy.jpg": "failed",
        "gone.jpg": "gone",
    }
    for url, part in parts.items():
        assert part.is_file() == (results[url].status == "ok")
    assert parts[f"{web.base}/3.jpg"].read_bytes() == photo(3)


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
        ("ray://127.0.0.1:1", "no Ray cluster answers at ray://127.0.0.1:1"),
        ("somewhere", "it should be auto, HOST:PORT, or ray://HOST:PORT"),
    ],
)
def test_an_address_without_a_cluster_is_one_line(address: str, line: str):
    engine = open_engine(EngineParams(engine="ray", address=address))
    with pytest.raises(StageError, match=line):
        list(engine.map(abs, [1], pool="here"))


def test_without_ray_the_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StageError, match=r"pip install -e '\.\[ray\]'"):
        open_engine(EngineParams(engine="ray"))


def test_the_environment_chooses_and_a_wrong_word_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PAWPRINT_ENGINE", "ray")
    assert open_engine(EngineParams()).is_remote
    assert type(open_engine(EngineParams(), "local")) is Engine
    monkeypatch.setenv("PAWPRINT_ENGINE", "spark")
    with pytest.raises(StageError, match="it should be local or ray"):
        open_engine(EngineParams())
