"""Checkpoints as graphs that ONNX Runtime runs, written once and read without torch."""
