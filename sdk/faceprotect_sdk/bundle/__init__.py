"""Bundles: a method as a folder that any program can run with ONNX Runtime alone."""
