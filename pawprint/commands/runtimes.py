"""OpenVINO instead of onnxruntime, where it gives the same answers."""

import csv
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from pawprint.compute.cores import cores
from pawprint.exporting.shipped.predict import Classifier
from pawprint.pictures.opening import Unusable

BF16, CAPABILITIES = "bf16", "OPTIMIZATION_CAPABILITIES"  # OpenVINO's names
PRECISIONS = {"openvino": "f32", "openvino-bf16": BF16}
RUNTIMES = ("onnxruntime", *PRECISIONS)
# OpenVINO computes in threads of its own: while one of ours waits, another opens a picture
SPARE = {name: int(name in PRECISIONS) for name in RUNTIMES}
COMPARED = 100  # pictures of the call, where the test split is not at hand


class OpenVino:
    """A model in OpenVINO, asked like a session of onnxruntime from any thread.

    threads: that work on one picture, 0 for all cores. precision: one of PRECISIONS. bf16 has 8
    bits instead of 24 for a number's digits: some CPUs compute in it at twice the speed or more.
    Raises RuntimeError where the CPU does not.

    OpenVINO reports each import to its makers, from a process that it forks off while other threads
    work, which may stop them for good. Without the package that does so it reports nothing. Where
    more requests than streams work at once, or begin their first picture together, its threads may
    wait for each other for good too (ultralytics#25921). So there are as many requests as streams,
    each has answered once before the next is made, and threads take turns at them.
    """

    def __init__(self, model: Path, threads: int, precision: str) -> None:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        streams = 1 if threads == 0 else max(1, cores() // threads)
        settings = {
            "INFERENCE_PRECISION_HINT": precision,  # its own choice would depend on the CPU
            "INFERENCE_NUM_THREADS": cores() if threads == 0 else threads * streams,
            "NUM_STREAMS": streams,
        }
        core = openvino.Core()
        if precision == BF16 and "BF16" not in core.get_property("CPU", CAPABILITIES):
            raise RuntimeError("this CPU does not compute in bf16; try --runtime openvino")
        graph = core.read_model(model)
        shape = graph.input().get_partial_shape()
        shape[0] = 1  # faster than a batch of any number
        graph.reshape(shape)
        compiled = core.compile_model(graph, "CPU", settings)
        self.requests: SimpleQueue[Any] = SimpleQueue()  # those that nobody is asking
        for _ in range(streams):
            request = compiled.create_infer_request()
            ask(request, np.zeros(graph.input().shape, np.uint8))
            self.requests.put(request)

    def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Return the outputs `names` for the inputs, as an InferenceSession does."""
        request = self.requests.get()
        answers = []
        try:
            for picture in inputs["pictures"]:
                ask(request, picture[None])
                answers.append([np.array(request.get_tensor(name).data) for name in names])
        finally:
            self.requests.put(request)
        return [np.concatenate(rows) for rows in zip(*answers, strict=True)]


def ask(request: Any, pictures: np.ndarray) -> None:
    """Let a request of OpenVINO answer, in a thread of OpenVINO's own."""
    request.start_async({"pictures": pictures})
    request.wait()


class Checked:
    """Asks both runtimes about the first pictures, which onnxruntime answers.

    If they disagree, onnxruntime answers from then on, and stderr says so once. threshold: of
    none_score, above which a picture is none of the classes.
    """

    def __init__(self, known: Any, new: OpenVino, threshold: float) -> None:
        self.known, self.new, self.threshold = known, new, threshold
        self.left, self.differ, self.lock = COMPARED, False, threading.Lock()

    def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Return the outputs `names` for the inputs."""
        if self.left <= 0 and not self.differ:
            return self.new.run(names, inputs)
        expected = self.known.run(names, inputs)
        if self.differ:
            return expected
        same = agree(expected, self.new.run(names, inputs), self.threshold)
        with self.lock:
            self.left -= len(expected[0])
            if not same and not self.differ:
                self.differ = True
                said = "openvino and onnxruntime disagree about a picture; onnxruntime answers"
                print(f"pawprint: {said}", file=sys.stderr, flush=True)
        return expected


def use_openvino(classifier: Classifier, folder: Path, threads: int, runtime: str) -> None:
    """Let OpenVINO compute a classifier's answers; runtime: one of PRECISIONS.

    They are compared with those of onnxruntime about the test split of the project that the
    exported folder is in; or else about the first pictures that are asked about.
    Exits with one line if OpenVINO is missing, cannot read the model, or gives another answer.
    """
    try:
        new = OpenVino(folder / "model.onnx", threads, PRECISIONS[runtime])
    except ImportError:
        sys.exit(f"pawprint: --runtime {runtime} needs `pip install 'pawprint[openvino]'`")
    except Exception as error:  # it raises RuntimeError and kinds of its own
        reason = " ".join(str(error).split())[:200]
        sys.exit(f"pawprint: {runtime} cannot run {folder / 'model.onnx'}: {reason}")
    known, threshold = classifier.session, classifier.config["none_threshold"]

    def compare(path: Path) -> bool | None:
        try:
            pictures = {"pictures": classifier.prepare(path)[None]}
        except (Unusable, OSError):
            return None
        names = ["probabilities", "none_score"]
        return agree(known.run(names, pictures), new.run(names, pictures), threshold)

    paths = list(find_test(folder.resolve().parent))
    with ThreadPoolExecutor(cores()) as pool:
        compared = list(zip(paths, pool.map(compare, paths), strict=True))
    differ = [path for path, same in compared if same is False]
    if differ:
        sys.exit(
            f"pawprint: {runtime} answers otherwise than onnxruntime about {len(differ)} of "
            f"{len(paths)} test pictures, such as {differ[0]}; leave out --runtime {runtime}"
        )
    checked = any(same for _, same in compared)
    classifier.session = new if checked else Checked(known, new, threshold)


def agree(expected: list[np.ndarray], found: list[np.ndarray], threshold: float) -> bool:
    """Return whether two runtimes give the same classes, and the same pictures as none of them.

    expected, found: probabilities (N, classes) and none_score (N,).
    """
    same_class = expected[0].argmax(axis=1) == found[0].argmax(axis=1)
    same_none = (expected[1] > threshold) == (found[1] > threshold)
    return bool((same_class & same_none).all())


def find_test(project: Path) -> Iterator[Path]:
    """Yield the pictures of a project's test split that are there; none outside a project."""
    table = project / "data/split.csv"
    if not table.is_file():
        return
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            path = project / (row.get("path") or "")
            if row.get("split") == "test" and path.is_file():
                yield path
