"""Torch definitions of the networks that ship, one file per idea."""
