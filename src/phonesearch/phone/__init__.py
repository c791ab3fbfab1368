"""A phone on a cable: adb, what state it is in, and the ONNX Runtime that runs on it."""
