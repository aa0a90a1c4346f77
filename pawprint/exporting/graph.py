"""The exported graph: from uint8 pictures to probabilities and a score for "none of these".

Normalisation, temperature and softmax are inside, so a caller cannot get them wrong. The score
compares a picture with training pictures in the space of features before the head: the mean cosine
distance to the five nearest. benchmarks/none_of_these.py compares this score with others.
Source: Sun et al., "Out-of-distribution detection with deep nearest neighbors", arXiv:2204.06507.
"""

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pawprint.exporting.temperature import fit_temperature
from pawprint.judging.none_of_these import evenly_spaced
from pawprint.params import StageError
from pawprint.pictures.batches import Pictures
from pawprint.training.model import Head, body, normalise
from pawprint.training.padding import with_constant_pads
from pawprint.training.stored import ModelConfig

NEIGHBOURS = 5
BANK = 1000  # training pictures to compare with; 5 MB of features for lite0
OUTPUTS = ("probabilities", "none_score")
TOLERANCE = 1e-4  # largest difference allowed between an output of ONNX and the same of torch


class ExportGraph(nn.Module):
    """From uint8 pictures (N, S, S, 3) to probabilities (N, classes) and none_score (N,).

    none_score is the mean cosine distance to the nearest training pictures, 0 to 2. The higher it
    is, the likelier the picture is none of the classes.
    """

    bank: Tensor
    temperature: Tensor

    def __init__(self, model: nn.Module, config: ModelConfig) -> None:
        super().__init__()
        self.model, self.head, self.config = model, Head(model), config
        self.register_buffer("bank", torch.zeros(0))
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        features = body(self.model, normalise(pictures, self.config))
        return self.answer(features)

    def answer(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities and none_score for features (N, F)."""
        probabilities = (self.head(features) / self.temperature).softmax(dim=1)
        similarity = F.normalize(features) @ self.bank.T
        nearest = similarity.topk(min(NEIGHBOURS, len(self.bank)), dim=1).values
        return probabilities, 1 - nearest.mean(dim=1)

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
    model: nn.Module, config: ModelConfig, bank: Tensor, seen: Tensor, targets: Tensor
) -> ExportGraph:
    """Return the graph to export. The test split chooses nothing in it.

    bank: features (N, F) of the training pictures to compare with; seen, targets: features (M, F)
    of the valid pictures and their class indexes (M,), which set the temperature.
    """
    graph = ExportGraph(model.cpu(), config).eval()
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
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "batch"} for name in ("pictures", *OUTPUTS)},
            opset_version=17,
            dynamo=False,  # the newer exporter takes many times as long; see docs/serving.md
        )
    return buffer.getvalue()


def run_onnx(content: bytes, pictures: Pictures) -> tuple[np.ndarray, np.ndarray]:
    """Run an ONNX graph on uint8 pictures (N, S, S, 3).

    Returns probabilities (N, classes) and none_score (N,). An int8 graph is run step by step, as it
    is written: onnxruntime's fused int8 kernels gave 5 different answers in 12 runs on a CPU with
    AMX, which would be different figures in every run of the stage.
    """
    options = onnxruntime.SessionOptions()
    if b"QuantizeLinear" in content:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
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
    with torch.inference_mode():
        answers = [graph(batch) for batch in pictures.split(32)]
    theirs = torch.cat([each for each, _ in answers]).numpy()
    their_scores = torch.cat([each for _, each in answers]).numpy()
    differences = np.abs(probabilities - theirs).max(), np.abs(scores - their_scores).max()
    largest = float(max(differences))
    if (probabilities.argmax(axis=1) != theirs.argmax(axis=1)).any() or largest > TOLERANCE:
        raise StageError(
            f"ONNX and torch disagree (an output by {largest:.1e}, allowed {TOLERANCE:.0e})"
        )
    return largest
