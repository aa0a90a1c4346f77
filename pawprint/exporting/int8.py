"""The exported graph in int8: static quantization of the convolutions.

It is calibrated on training pictures. Weights have one scale per channel, activations one per
tensor, set from their range over the pictures. Normalisation, the head, softmax and the comparison
with training pictures stay in float: they cost little, and small errors there count.
Source: Jacob et al., "Quantization and training of neural networks for efficient integer-
arithmetic-only inference", arXiv:1712.05877, as onnxruntime.quantization does it.
"""

import logging
import tempfile
from pathlib import Path

import numpy as np
import onnx

from pawprint.pictures.batches import Pictures


class CalibrationPictures:
    """Training pictures, one at a time, as onnxruntime's calibration asks for them."""

    def __init__(self, pictures: Pictures) -> None:
        self.remaining = iter(pictures.split(1))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.remaining, None)
        return None if batch is None else {"pictures": batch.numpy()}


def quantize(content: bytes, pictures: Pictures) -> bytes:
    """Return the ONNX graph `content` in int8; the same input gives the same bytes.

    pictures: uint8 (N, S, S, 3), to calibrate it on.
    """
    # here: it takes a third of a second to import, and few want it
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    logging.getLogger().setLevel(logging.ERROR)  # it advises to run what the next lines run
    with tempfile.TemporaryDirectory() as folder:
        names = ("given", "ready", "done")
        given, ready, done = (str(Path(folder) / f"{name}.onnx") for name in names)
        Path(given).write_bytes(content)
        quant_pre_process(given, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            done,
            CalibrationPictures(pictures),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Clip", "Relu", "Add"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(done).SerializeToString(deterministic=True)
