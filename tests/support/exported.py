"""A tiny exported model for tests: the class is the strongest colour channel."""

import io
import json
from pathlib import Path

import onnx
from onnx import TensorProto, helper
from PIL import Image

CLASSES = ["red", "green", "blue"]
SIZE = 32


def write_export(folder: Path, explain: bool = False) -> Path:
    """Write model.onnx, model.json and reference.json.

    The answer is the softmax of the mean of each channel over 20; near black is none of these.
    explain: whether the model says why too. Its maps are then the channels of 4 x 4 blocks, and
    the picture most like one is that of the strongest channel.
    """
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [
        helper.make_node("Cast", ["pictures"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values", "axes"], ["means"], keepdims=0),
        helper.make_node("Div", ["means", "twenty"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ReduceMax", ["means", "last"], ["strongest"], keepdims=0),
        helper.make_node("Neg", ["strongest"], ["none_score"]),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("last", TensorProto.INT64, [1], [1]),
        helper.make_tensor("twenty", TensorProto.FLOAT, [1], [20.0]),
    ]
    outputs = [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3]),
        helper.make_tensor_value_info("none_score", TensorProto.FLOAT, ["batch"]),
    ]
    if explain:
        nodes += [
            helper.make_node("Transpose", ["values"], ["channels"], perm=[0, 3, 1, 2]),
            helper.make_node(
                "AveragePool", ["channels"], ["maps"], kernel_shape=[8, 8], strides=[8, 8]
            ),
            helper.make_node("TopK", ["means", "three"], ["highest", "nearest"], axis=1),
            helper.make_node("Div", ["highest", "white"], ["similarity"]),
        ]
        constants += [
            helper.make_tensor("three", TensorProto.INT64, [1], [3]),
            helper.make_tensor("white", TensorProto.FLOAT, [1], [255.0]),
        ]
        outputs += [
            helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["batch", 3, 4, 4]),
            helper.make_tensor_value_info("nearest", TensorProto.INT64, ["batch", 3]),
            helper.make_tensor_value_info("similarity", TensorProto.FLOAT, ["batch", 3]),
        ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        outputs,
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    config: dict[str, object] = {
        "classes": CLASSES,
        "size": SIZE,
        "resize": "crop",
        "interpolation": "bilinear",
        "none_threshold": -10.0,
    }
    if explain:
        config["explains"] = ["maps", "nearest"]
        known = {"pictures": [f"{name}_picture" for name in CLASSES], "labels": CLASSES}
        (folder / "nearest.json").write_text(json.dumps(known))
    (folder / "model.json").write_text(json.dumps(config))
    reference = {"pictures": 90, "classes": dict.fromkeys(CLASSES, 30), "none": 4}
    reference["confidence"] = [0.9 + i / 1000 for i in range(90)]
    (folder / "reference.json").write_text(json.dumps(reference))
    return folder


def picture(colour: str, size: tuple[int, int] = (40, 40), form: str = "PNG") -> bytes:
    """The bytes of a picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, {"green": (0, 255, 0)}.get(colour, colour)).save(buffer, form)
    return buffer.getvalue()
