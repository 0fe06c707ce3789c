"""An engine's folder: traced, written, measured against autograd, described."""
