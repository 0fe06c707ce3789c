"""A search step out of several engines, for generators too large for one: the denoiser, the decoder, and what looks at the image.

Each link is a vector-Jacobian product: it takes its inputs and the cotangents of its outputs, and gives its outputs and the
cotangents of its inputs. The chain goes through them forward, keeps one latent per denoising step, and back. It takes and gives what
the fused engine does, and holds the memory of one link at a time. A building block: no engine that ships is a chain, and the store opens
none. On the way forward links without a forward engine of their own run their backward pass for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from faceprotect_engines.engine import BaseEngine, Engine
from faceprotect_engines.errors import RecipeError
from faceprotect_engines.spec import Array, EngineSpec, TensorSpec


class DenoisingChain(BaseEngine):
    """`steps` denoising steps (arXiv 2503.10350, section 3), a decoder, and a search step on the decoded image.

    noise: latent [1,C,h,w], time [1], embedding, maps [M], noise_cotangent, structure_cotangent [1] -> noise, structure [1], grad_latent.
    decoder: latent, image_cotangent [1,3,S,S] -> decoded, grad_latent.  image: a step engine whose `offset` is the decoded image.
    The caller keeps the links and closes them.
    """

    def __init__(self, name: str, steps: int, noise: Engine, decoder: Engine, image: Engine) -> None:
        """Read the links' specs; nothing runs. Raises RecipeError where the last link has prices of its own: there is no room for them."""
        prices = image.spec.input("shares").shape[0]
        if prices != 3:
            raise RecipeError(f"engine '{image.spec.name}' takes {prices} shares; the last link of a chain takes 3")
        self._steps, self._noise, self._decoder, self._image = steps, noise, decoder, image
        latent, embedding, maps = (noise.spec.input(tensor) for tensor in ("latent", "embedding", "maps"))
        inputs = [latent, replace(latent, name="offset")]
        inputs += [TensorSpec("times", "float32", (steps,)), TensorSpec("moves", "float32", (2 * steps,))]
        for step in range(steps):
            inputs += [replace(embedding, name=f"embedding_{step}"), replace(maps, name=f"maps_{step}")]
        inputs += [tensor for tensor in image.spec.inputs if tensor.name != "offset"]
        outputs = [tensor for tensor in image.spec.outputs if tensor.name != "grad_offset"]
        outputs += [TensorSpec("structure", "float32", (1,)), replace(latent, name="grad_offset")]
        super().__init__(EngineSpec(name, tuple(inputs), tuple(outputs)), image.device)

    def _execute(self, feeds: dict[str, Array]) -> dict[str, Array]:
        weight = feeds["penalty_weight"] * feeds["shares"][2]
        moves, latents = feeds["moves"], [np.asarray(feeds["latent"] + feeds["offset"], np.float32)]
        structure = np.zeros(1, np.float32)
        nothing = np.zeros_like(latents[0])
        for step in range(self._steps):
            seen = self._link(feeds, step, latents[step], nothing, np.zeros(1, np.float32))
            latents.append(moves[2 * step] * latents[step] + moves[2 * step + 1] * seen["noise"])
            structure += seen["structure"]
        plain = {"latent": latents[-1], "image_cotangent": self._decoder.spec.input("image_cotangent").zeros()}
        looked = self._image.run({**self._rest(feeds), "offset": self._decoder.run(plain)["decoded"]})
        pull = self._decoder.run({**plain, "image_cotangent": looked.pop("grad_offset")})["grad_latent"]
        for step in reversed(range(self._steps)):
            through = self._link(feeds, step, latents[step], np.asarray(moves[2 * step + 1] * pull, np.float32), weight)
            pull = np.asarray(moves[2 * step] * pull + through["grad_latent"], np.float32)
        share = feeds["shares"][2] * structure
        looked["penalty"] = looked["penalty"] + share
        looked["loss"] = looked["loss"] + feeds["penalty_weight"] * share
        return {**looked, "structure": structure, "grad_offset": pull}

    def _link(self, feeds: Mapping[str, Array], step: int, latent: Array, noise: Array, structure: Array) -> dict[str, Array]:
        return self._noise.run(
            {
                "latent": latent,
                "time": feeds["times"][step : step + 1],
                "embedding": feeds[f"embedding_{step}"],
                "maps": feeds[f"maps_{step}"],
                "noise_cotangent": noise,
                "structure_cotangent": structure,
            }
        )

    def _rest(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """What the last link takes."""
        return {tensor.name: feeds[tensor.name] for tensor in self._image.spec.inputs if tensor.name != "offset"}

    def _release(self) -> None:
        """Nothing of its own."""
