"""The candidate as an ONNX graph, with or without weights."""
