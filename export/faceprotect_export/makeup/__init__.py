"""Makeup looks: where makeup goes on a face, a renderer that paints it, its captions, and an encoder of pictures and captions."""
