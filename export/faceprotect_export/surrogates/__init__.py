"""Recognisers as surrogates: gradient engines on the canonical crop, and the panel that users fetch."""
