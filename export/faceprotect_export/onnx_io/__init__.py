"""Graphs written as ONNX, and ONNX read into torch."""
