"""Engines from weights that people have: Stable Diffusion's networks, CLIP, StyleGAN2, face recognisers.

One file per kind of network: reads its usual checkpoints, without executing anything in them, and says what the engine computes. Nothing is
downloaded that the user has not named, and no weights are part of this package.
"""
