"""Objectives as plain torch functions of named tensors: what is traced into gradient engines, and the oracle they are held to."""
