"""The exported graph: from uint8 pictures to probabilities and a score for "none of these".

Normalisation, temperature and softmax are inside, so a caller cannot get them wrong. The score
compares a picture with training pictures in the space of features before the head: the mean cosine
distance to the five nearest. benchmarks/none_of_these.py compares this score with others. With
export.explain the graph also gives the class activation maps, and which pictures are the nearest.
Source: Sun et al., "Out-of-distribution detection with deep nearest neighbors", arXiv:2204.06507.
"""

import functools
import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pawprint.exporting.explain import find_maps
from pawprint.exporting.temperature import fit_temperature
from pawprint.judging.none_of_these import evenly_spaced
from pawprint.params import StageError
from pawprint.pictures.batches import Pictures
from pawprint.training.inference import compute_features
from pawprint.training.model import Head, normalise
from pawprint.training.padding import with_constant_pads
from pawprint.training.stored import ModelConfig

NEIGHBOURS = 5
BANK = 1000  # training pictures to compare with; 5 MB of features for lite0
OUTPUTS = ("probabilities", "none_score")  # of every graph, the first ones
TOLERANCE = 1e-4  # largest difference allowed between an output of ONNX and the same of torch


class ExportGraph(nn.Module):
    """From uint8 pictures (N, S, S, 3) to probabilities (N, classes) and none_score (N,).

    none_score is the mean cosine distance to the nearest training pictures, 0 to 2. The higher it
    is, the likelier the picture is none of the classes.

    A graph that explains itself gives three more. maps (N, classes, h, w): what each position adds
    to each logit, if the model has exact ones (see pawprint/exporting/explain.py). nearest and
    similarity (N, 5): the rows of the bank that are most like the picture, and their cosines.
    """

    bank: Tensor
    temperature: Tensor

    def __init__(self, model: nn.Module, config: ModelConfig, explain: bool = False) -> None:
        super().__init__()
        self.model, self.head, self.config = model, Head(model), config
        self.register_buffer("bank", torch.zeros(0))
        self.register_buffer("temperature", torch.ones(()))
        self.explain = explain
        self.maps = find_maps(model, config) if explain else None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of the outputs, in their order."""
        maps = ("maps",) if self.maps is not None else ()
        return OUTPUTS + ((*maps, "nearest", "similarity") if self.explain else ())

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        timm_model: Any = self.model
        seen = timm_model.forward_features(normalise(pictures, self.config))
        features = timm_model.forward_head(seen, pre_logits=True)
        probabilities, none_score, nearest, similarity = self.compare(features)
        if not self.explain:
            return probabilities, none_score
        maps = () if self.maps is None else (self.maps(seen),)
        return probabilities, none_score, *maps, nearest, similarity

    def answer(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities and none_score for features (N, F)."""
        probabilities, none_score, _, _ = self.compare(features)
        return probabilities, none_score

    def compare(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return all outputs but the maps for features (N, F)."""
        probabilities = (self.head(features) / self.temperature).softmax(dim=1)
        cosines = F.normalize(features) @ self.bank.T
        similarity, nearest = cosines.topk(min(NEIGHBOURS, len(self.bank)), dim=1)
        return probabilities, 1 - similarity.mean(dim=1), nearest, similarity

    def remember(self, features: Tensor) -> None:
        """Keep the features (N, F) of training pictures, see `bank_rows`."""
        self.bank = F.normalize(features)

    def calibrate(self, features: Tensor, targets: Tensor) -> None:
        """Set the temperature from valid features (M, F) and targets (M,)."""
        self.temperature = torch.tensor(fit_temperature(self.head(features), targets))


def bank_rows(labels: Sequence[str]) -> np.ndarray:
    """Return which training pictures are compared with: at most BANK, evenly spaced.

    To these come the first pictures of classes that they miss: without any, a rare class would be
    "none of these". labels: of the training pictures, (N,).
    """
    of = np.asarray(labels)
    chosen = evenly_spaced(len(of), BANK)
    names, first = np.unique(of, return_index=True)
    return np.union1d(chosen, first[~np.isin(names, of[chosen])])


@torch.no_grad()
def build_graph(
    model: nn.Module,
    config: ModelConfig,
    bank: Tensor,
    seen: Tensor,
    targets: Tensor,
    explain: bool = False,
) -> ExportGraph:
    """Return the graph to export. The test split chooses nothing in it.

    bank: features (N, F) of the training pictures to compare with; seen, targets: features (M, F)
    of the valid pictures and their class indexes (M,), which set the temperature. explain: whether
    the graph gives maps and neighbours too.
    """
    graph = ExportGraph(model.cpu().eval(), config, explain).eval()
    graph.remember(bank)
    graph.calibrate(seen, targets)
    return graph


def to_onnx(graph: ExportGraph, size: int) -> bytes:
    """Return the graph as ONNX, for batches of any number. The same weights give the same bytes."""
    buffer: Any = io.BytesIO()  # taken by the exporter, though not by its types
    pictures = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own notes about tracing and its newer exporter
        torch.onnx.export(
            with_constant_pads(graph, pictures),
            (pictures,),
            buffer,
            input_names=["pictures"],
            output_names=list(graph.outputs),
            dynamic_axes={name: {0: "batch"} for name in ("pictures", *graph.outputs)},
            opset_version=17,
            dynamo=False,  # the newer exporter takes many times as long; see docs/serving.md
        )
    return buffer.getvalue()


@functools.lru_cache(maxsize=2)  # a float graph and an int8 one, each asked about several sets
def open_session(content: bytes) -> onnxruntime.InferenceSession:
    """Return what runs an ONNX graph.

    An int8 graph is run step by step, as it is written: onnxruntime's fused int8 kernels gave 5
    different answers in 12 runs on a CPU with AMX, which would be different figures in every run of
    the stage.
    """
    options = onnxruntime.SessionOptions()
    if b"QuantizeLinear" in content:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run_onnx(content: bytes, pictures: Pictures) -> tuple[np.ndarray, np.ndarray]:
    """Return an ONNX graph's probabilities (N, classes) and none_score (N,).

    pictures: uint8 (N, S, S, 3).
    """
    session = open_session(content)
    batches = pictures.split(4)  # larger ones are slower
    answers = [session.run(list(OUTPUTS), {"pictures": batch.numpy()}) for batch in batches]
    probabilities = np.concatenate([each for each, _ in answers])
    scores = np.concatenate([each for _, each in answers])
    return probabilities, scores


def check_onnx(
    probabilities: np.ndarray, scores: np.ndarray, graph: ExportGraph, pictures: Pictures
) -> float:
    """Compare what ONNX answered about `pictures` with torch; return the largest difference.

    probabilities: (N, classes); scores: (N,). Raises StageError if a class differs, or an output
    by more than TOLERANCE.
    """
    with torch.no_grad():
        seen = compute_features(graph.model, pictures, graph.config, torch.device("cpu"))
        theirs, their_scores = (each.numpy() for each in graph.answer(seen))
    differences = np.abs(probabilities - theirs).max(), np.abs(scores - their_scores).max()
    largest = float(max(differences))
    if (probabilities.argmax(axis=1) != theirs.argmax(axis=1)).any() or largest > TOLERANCE:
        raise StageError(
            f"ONNX and torch disagree (an output by {largest:.1e}, allowed {TOLERANCE:.0e})"
        )
    return largest


def check_explanations(content: bytes, graph: ExportGraph, pictures: Tensor) -> None:
    """Compare the further outputs of an ONNX graph that explains itself with torch.

    pictures: uint8 (N, S, S, 3). Raises StageError if maps or similarities differ by more than
    TOLERANCE of the largest.
    """
    names = list(graph.outputs[2:])
    found = open_session(content).run(names, {"pictures": pictures.numpy()})
    with torch.inference_mode():
        expected = graph(pictures)[2:]
    for name, theirs, ours in zip(names, found, expected, strict=True):
        largest = max(1.0, float(ours.abs().max()))
        if name != "nearest" and np.abs(theirs - ours.numpy()).max() > TOLERANCE * largest:
            raise StageError(f"ONNX and torch disagree about the output {name}")
