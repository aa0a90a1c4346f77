"""Exporting: the ONNX graph, int8, the model card, and shipped/: files of an exported folder."""
