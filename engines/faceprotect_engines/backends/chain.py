"""Engines made of engines, for a diffusion model too large to fuse three of its passes into one graph.

Each link is a vector-Jacobian product: it takes its inputs and the cotangents of its outputs, and gives its outputs and the cotangents of
its inputs. A chain goes through its links forward, keeps one latent per denoising step, and back; it takes and gives what a fused engine
does, so that the same recipe runs on either, and holds the memory of one pass at a time. A chain is a manifest without a graph:
`metadata.chain` names its kind, its links and its numbers.

noise: latent [1,C,h,w], time [1], embedding, maps [M], noise_cotangent, structure_cotangent [1] -> noise, structure [1], attention [M],
grad_latent, grad_embedding.  decoder: latent, image_cotangent [1,3,S,S] -> decoded, grad_latent.  encoder: image -> latent.  image: a step
engine whose `offset` is the decoded image. Links of one kind are one engine, opened once: its weights are in memory once, and the price is
that the backward pass runs for nothing on the way forward (`benchmarks/sd_recipe.py` measures it beside torch).
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from faceprotect_engines.engine import BaseEngine, Engine
from faceprotect_engines.errors import EngineCorrupt, RecipeError
from faceprotect_engines.files.manifest import MANIFEST_NAME, Manifest, check_name, resolve_inside
from faceprotect_engines.spec import Array, EngineSpec, TensorSpec, fixed

Links = Callable[[str | Path], Engine]
#: File of the empty prompt's embedding [1, tokens, width], beside the manifest of an inversion.
EMPTY = "empty.npy"
#: Shares that every search step takes: of colour shifts, of lost structure, of the mid band. The chain's own price comes after them.
_SHARES = 3


@functools.lru_cache(maxsize=32)
def _zeros(tensor: TensorSpec) -> Array:
    """Always the same array, so that a GPU has it once; the system gives it no memory, for nothing is ever written there."""
    zeros = tensor.zeros()
    zeros.setflags(write=False)
    return zeros


class _Noise:
    """The denoiser as a chain asks it: what is not asked for is zero."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.latent, self.embedding, self.maps = (engine.spec.input(name) for name in ("latent", "embedding", "maps"))
        self._nothing = {tensor.name: _zeros(tensor) for tensor in engine.spec.inputs}

    def __call__(self, outputs: Collection[str], latent: Array, time: Array, embedding: Array, **further: Array) -> dict[str, Array]:
        feeds = {**self._nothing, "latent": latent, "time": np.ravel(time), "embedding": embedding, **further}
        return self.engine.run(feeds, outputs)


class _Chain(BaseEngine):
    """The caller keeps the links, but for those in `owned`, which are closed with the chain."""

    owned: Sequence[Engine] = ()

    def _execute(self, feeds: dict[str, Array], outputs: list[str]) -> dict[str, Array]:
        found = self._follow(feeds, outputs)
        return {name: found[name] for name in outputs}

    @abstractmethod
    def _follow(self, feeds: dict[str, Array], outputs: Collection[str]) -> dict[str, Any]:
        """Run the links. Passes that serve only other outputs than these may be left out."""

    def _release(self) -> None:
        for engine in self.owned:
            engine.close()


class InversionChain(_Chain):
    """`image` to the latent at every level of the way up (section 3.1), lowest first, and the empty `embedding`.

    times [N]: those that the denoiser is asked at; moves [2N]: DDIM factors of latent and noise, step by step.
    """

    def __init__(self, name: str, encoder: Engine, noise: Engine, times: Sequence[float], moves: Sequence[float], empty: Array) -> None:
        """Read the links' specs; nothing runs."""
        self._encoder, self._noise, self._times, self._moves = encoder, _Noise(noise), times, moves
        self._empty = fixed(np.asarray(empty, np.float32))
        levels = [replace(self._noise.latent, name=f"level_{number}") for number in range(len(times) + 1)]
        outputs = (*levels, replace(self._noise.embedding, name="embedding"))
        super().__init__(EngineSpec(name, (encoder.spec.input("image"),), outputs), noise.device)

    def _follow(self, feeds: dict[str, Array], outputs: Collection[str]) -> dict[str, Array]:
        latent = self._encoder.run(feeds)["latent"]
        found = {"level_0": latent}
        for number, time in enumerate(self._times):
            noise = self._noise(("noise",), latent, np.array([time], np.float32), self._empty)["noise"]
            latent = np.float32(self._moves[2 * number]) * latent + np.float32(self._moves[2 * number + 1]) * noise
            found[f"level_{number + 1}"] = latent
        return {**found, "embedding": self._empty}


class NullTextChain(_Chain):
    """One step down that has to meet a `target` (section 3.2): loss = MSE, with its gradient to the `embedding`."""

    def __init__(self, name: str, noise: Engine) -> None:
        """Read the link's spec; nothing runs."""
        self._noise = _Noise(noise)
        latent, embedding, maps = self._noise.latent, self._noise.embedding, self._noise.maps
        numbers = (TensorSpec("time", "float32", (1,)), TensorSpec("moves", "float32", (2,)))
        outputs = (
            TensorSpec("loss", "float32", (1,)),
            replace(latent, name="moved"),
            replace(embedding, name="used"),
            maps,
            replace(embedding, name="grad_embedding"),
        )
        super().__init__(EngineSpec(name, (latent, replace(latent, name="target"), embedding, *numbers), outputs), noise.device)

    def _follow(self, feeds: dict[str, Array], outputs: Collection[str]) -> dict[str, Any]:
        latent, embedding, moves = feeds["latent"], feeds["embedding"], feeds["moves"]
        seen = self._noise(["noise", *(["attention"] if "maps" in outputs else [])], latent, feeds["time"], embedding)
        moved = moves[0] * latent + moves[1] * seen["noise"]
        error = moved - feeds["target"]
        pull = np.asarray(2 * moves[1] / error.size * error, np.float32)
        loss = np.array([np.square(error).mean()], np.float32)
        found = {"loss": loss, "moved": moved, "used": embedding, "maps": seen.get("attention")}
        if "grad_embedding" in outputs:
            found |= self._noise(("grad_embedding",), latent, feeds["time"], embedding, noise_cotangent=pull)
        return found


class DecodingChain(_Chain):
    """`latent + offset` denoised in `steps` steps and decoded, and the self-attention maps of every step."""

    def __init__(self, name: str, steps: int, noise: Engine, decoder: Engine) -> None:
        """Read the links' specs; nothing runs."""
        self._steps, self._noise, self._decoder = steps, _Noise(noise), decoder
        inputs = [*_codes(self._noise, steps), *(replace(self._noise.embedding, name=f"embedding_{step}") for step in range(steps))]
        maps = (replace(self._noise.maps, name=f"maps_{step}") for step in range(steps))
        super().__init__(EngineSpec(name, tuple(inputs), (decoder.spec.output("decoded"), *maps)), noise.device)

    def _follow(self, feeds: dict[str, Array], outputs: Collection[str]) -> dict[str, Any]:
        latent, moves, found = np.asarray(feeds["latent"] + feeds["offset"], np.float32), feeds["moves"], {}
        for step in range(self._steps):
            asked = ["noise", *(["attention"] if f"maps_{step}" in outputs else [])]
            seen = self._noise(asked, latent, feeds["times"][step : step + 1], feeds[f"embedding_{step}"])
            latent = moves[2 * step] * latent + moves[2 * step + 1] * seen["noise"]
            found[f"maps_{step}"] = seen.get("attention")
        return {**self._decoder.run(_decoding(self._decoder, latent), ("decoded",)), **found}


class DenoisingChain(_Chain):
    """`steps` denoising steps (section 3), a decoder, and a search step on the decoded image: loss and gradient to `offset`."""

    def __init__(self, name: str, steps: int, noise: Engine, decoder: Engine, image: Engine) -> None:
        """Read the links' specs; nothing runs. Raises RecipeError where the last link has prices of its own: there is no room for them."""
        prices = image.spec.input("shares").shape[0]
        if prices not in (_SHARES, _SHARES + 1):
            raise RecipeError(f"engine '{image.spec.name}' takes {prices} shares; the last link of a chain has no prices of its own")
        self._steps, self._noise, self._decoder, self._image = steps, _Noise(noise), decoder, image
        inputs = _codes(self._noise, steps)
        for step in range(steps):
            inputs += [replace(self._noise.embedding, name=f"embedding_{step}"), replace(self._noise.maps, name=f"maps_{step}")]
        inputs += [tensor for tensor in image.spec.inputs if tensor.name not in ("offset", "shares")]
        inputs += [replace(image.spec.input("shares"), shape=(_SHARES + 1,))]
        outputs = [tensor for tensor in image.spec.outputs if tensor.name != "grad_offset"]
        outputs += [TensorSpec("structure", "float32", (1,)), replace(self._noise.latent, name="grad_offset")]
        super().__init__(EngineSpec(name, tuple(inputs), tuple(outputs)), image.device)

    def _follow(self, feeds: dict[str, Array], outputs: Collection[str]) -> dict[str, Array]:
        weight = feeds["penalty_weight"] * feeds["shares"][_SHARES]
        moves, latents = feeds["moves"], [np.asarray(feeds["latent"] + feeds["offset"], np.float32)]
        structure = np.zeros(1, np.float32)
        for step in range(self._steps):
            seen = self._link(("noise", "structure"), feeds, step, latents[step])
            latents.append(moves[2 * step] * latents[step] + moves[2 * step + 1] * seen["noise"])
            structure += seen["structure"]
        plain = _decoding(self._decoder, latents[-1])
        decoded = self._decoder.run(plain, ("decoded",))["decoded"]
        asked = [tensor.name for tensor in self._image.spec.outputs if tensor.name in (*outputs, "loss", "penalty")]
        looked = self._image.run({**self._rest(feeds), "offset": decoded}, asked)
        if "grad_offset" in outputs:
            pull = self._decoder.run({**plain, "image_cotangent": looked["grad_offset"]}, ("grad_latent",))["grad_latent"]
            for step in reversed(range(self._steps)):
                noise = np.asarray(moves[2 * step + 1] * pull, np.float32)
                through = self._link(("grad_latent",), feeds, step, latents[step], noise_cotangent=noise, structure_cotangent=weight)
                pull = np.asarray(moves[2 * step] * pull + through["grad_latent"], np.float32)
            looked["grad_offset"] = pull
        share = feeds["shares"][_SHARES] * structure
        looked["penalty"] = looked["penalty"] + share
        looked["loss"] = looked["loss"] + feeds["penalty_weight"] * share
        return {**looked, "structure": structure}

    def _link(
        self, outputs: Collection[str], feeds: Mapping[str, Array], step: int, latent: Array, **cotangents: Array
    ) -> dict[str, Array]:
        time, embedding, maps = feeds["times"][step : step + 1], feeds[f"embedding_{step}"], feeds[f"maps_{step}"]
        return self._noise(outputs, latent, time, embedding, maps=maps, **cotangents)

    def _rest(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """What the last link takes."""
        found = {tensor.name: feeds[tensor.name] for tensor in self._image.spec.inputs if tensor.name != "offset"}
        size = self._image.spec.input("shares").shape[0]
        return {**found, "shares": feeds["shares"][:size]}


def _codes(noise: _Noise, steps: int) -> list[TensorSpec]:
    numbers = [TensorSpec("times", "float32", (steps,)), TensorSpec("moves", "float32", (2 * steps,))]
    return [noise.latent, replace(noise.latent, name="offset"), *numbers]


def _decoding(decoder: Engine, latent: Array) -> dict[str, Array]:
    return {"latent": latent, "image_cotangent": _zeros(decoder.spec.input("image_cotangent"))}


def open_chain(manifest: Manifest, folder: Path, links: Links) -> _Chain:
    """The chain that a manifest describes. Raises EngineCorrupt for a malformed one.

    `links` opens engines, and keeps them: by their folder where they lie beside the chain's, else by name.
    """
    found: Mapping[str, Any] = manifest.metadata["chain"]

    def link(name: str) -> Engine:
        beside = folder.parent / check_name(name)
        return links(beside if (beside / MANIFEST_NAME).is_file() else name)

    try:
        kind, names = found["kind"], {role: link(name) for role, name in found["links"].items()}
        if kind == "inversion":
            empty = np.load(resolve_inside(folder, manifest.files["empty"].path), allow_pickle=False)
            return InversionChain(manifest.name, names["encoder"], names["noise"], found["times"], found["moves"], empty)
        if kind == "null-text":
            return NullTextChain(manifest.name, names["noise"])
        if kind == "decoding":
            return DecodingChain(manifest.name, int(found["steps"]), names["noise"], names["decoder"])
        if kind == "denoising":
            return DenoisingChain(manifest.name, int(found["steps"]), names["noise"], names["decoder"], names["image"])
    except (KeyError, TypeError, ValueError) as error:
        raise EngineCorrupt(f"engine '{manifest.name}': its chain is malformed ({error!r}); export it again") from error
    raise EngineCorrupt(f"engine '{manifest.name}': there is no chain of the kind {kind!r}; upgrade faceprotect-sdk")
