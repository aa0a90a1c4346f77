"""Exporting: the ONNX graph, int8, the model card, and shipped/: the files of an exported folder."""
