"""Optimisers on numpy arrays: `step(variable, gradient) -> new variable`, state inside, nothing modified in place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from faceprotect_engines.errors import RecipeError
from faceprotect_engines.spec import Array


class Optimiser(Protocol):
    """Descends one variable; `learning_rate` is that of the next step."""

    learning_rate: float

    def step(self, variable: Array, gradient: Array) -> Array:
        """The next value, of the same shape and dtype; both arguments have one shape and are left unchanged."""
        ...


class AdamW:
    """Adam with decoupled weight decay: Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2, as torch has it.

    m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;
    x = x (1 - lr wd) - lr / (1 - b1^t) * m / (sqrt(v / (1 - b2^t)) + eps)
    """

    def __init__(
        self,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        """Torch's defaults but for `weight_decay`, which pulls towards zero and so is off unless asked for."""
        self.learning_rate = _positive("learning_rate", learning_rate)
        self._beta1, self._beta2 = (_fraction("betas", beta) for beta in betas)
        self._eps = _not_negative("eps", eps)
        self._decay = _not_negative("weight_decay", weight_decay)
        self._first: Array | None = None
        self._second: Array | None = None
        self._count = 0

    def step(self, variable: Array, gradient: Array) -> Array:
        """One AdamW step; moments are kept in the variable's dtype."""
        if self._first is None or self._second is None:
            self._first, self._second = np.zeros_like(variable), np.zeros_like(variable)
        self._count += 1
        self._first = self._beta1 * self._first + (1 - self._beta1) * gradient
        self._second = self._beta2 * self._second + (1 - self._beta2) * np.square(gradient)
        scale = self.learning_rate / (1 - self._beta1**self._count)
        root = np.sqrt(self._second) / np.sqrt(1 - self._beta2**self._count) + self._eps
        moved = variable * (1 - self.learning_rate * self._decay) - scale * (self._first / root)
        return np.asarray(moved, dtype=variable.dtype)


class SignMomentum:
    """MI-FGSM: Dong et al. 2018, arXiv 1710.06081, algorithm 1; TIP-IM's variant with `norm="l2"`.

    m = decay m + g / ||g||;  x = x - lr sign(m)
    """

    def __init__(self, learning_rate: float, decay: float = 1.0, norm: str = "l1") -> None:
        """`learning_rate`: change per step and element; `norm` of the gradient: "l1" or "l2"."""
        if norm not in ("l1", "l2"):
            raise RecipeError(f"optimiser option norm is {norm!r}; give 'l1' or 'l2'")
        self.learning_rate = _positive("learning_rate", learning_rate)
        self._decay = _not_negative("decay", decay)
        self._order = 1 if norm == "l1" else 2
        self._momentum: Array | None = None

    def step(self, variable: Array, gradient: Array) -> Array:
        """One sign step; an all-zero gradient adds nothing to the momentum."""
        norm = float(np.linalg.norm(gradient.ravel(), self._order))
        direction = gradient / norm if norm > 0 else np.zeros_like(gradient)
        self._momentum = direction if self._momentum is None else self._decay * self._momentum + direction
        return np.asarray(variable - self.learning_rate * np.sign(self._momentum), dtype=variable.dtype)


class GradientDescent:
    """x = x - lr g."""

    def __init__(self, learning_rate: float) -> None:
        """`learning_rate`: the factor on the gradient."""
        self.learning_rate = _positive("learning_rate", learning_rate)

    def step(self, variable: Array, gradient: Array) -> Array:
        """One plain gradient step."""
        return np.asarray(variable - self.learning_rate * gradient, dtype=variable.dtype)


class Annealed:
    """An optimiser whose learning rate falls along half a cosine: Loshchilov and Hutter 2017, arXiv 1608.03983, eq. 5, one period.

    A search goes far at first, and at the end it settles instead of swinging around what it has found.
    """

    def __init__(self, optimiser: Optimiser, steps: int, last: float) -> None:
        """From the optimiser's own learning rate at the first of `steps` to the part `last` of it after them."""
        self._optimiser, self._steps, self._count = optimiser, steps, 0
        self._first, self._last = optimiser.learning_rate, _fraction("anneal", last) * optimiser.learning_rate
        self.learning_rate = self._first

    def step(self, variable: Array, gradient: Array) -> Array:
        """One step of the optimiser at today's rate."""
        self._optimiser.learning_rate = self.learning_rate
        self._count = min(self._count + 1, self._steps)
        self.learning_rate = self._last + (self._first - self._last) * (1 + math.cos(math.pi * self._count / self._steps)) / 2
        return self._optimiser.step(variable, gradient)


OPTIMISERS: dict[str, Callable[..., Optimiser]] = {
    "adamw": AdamW,
    "sign_momentum": SignMomentum,
    "gradient_descent": GradientDescent,
}


def make_optimiser(settings: Mapping[str, Any], steps: int) -> Optimiser:
    """Optimiser of `{"name": "adamw", "learning_rate": 0.05, ...}`; raises RecipeError for a wrong name or option.

    With `"anneal": part` its learning rate falls to that part over the descent's `steps` (:class:`Annealed`).
    """
    name = settings.get("name")
    if name not in OPTIMISERS:
        raise RecipeError(f"there is no optimiser {name!r}; choose one of: {', '.join(OPTIMISERS)}")
    try:
        optimiser = OPTIMISERS[name](**{key: value for key, value in settings.items() if key not in ("name", "anneal")})
        return Annealed(optimiser, steps, settings["anneal"]) if "anneal" in settings else optimiser
    except (TypeError, ValueError) as error:
        raise RecipeError(f"optimiser '{name}': {error}") from error


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise RecipeError(f"optimiser option {name} is {value!r}; give a number above 0")
    return float(value)


def _not_negative(name: str, value: float) -> float:
    if not value >= 0:
        raise RecipeError(f"optimiser option {name} is {value!r}; give 0 or more")
    return float(value)


def _fraction(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise RecipeError(f"optimiser option {name} has {value!r}; give numbers in [0, 1)")
    return float(value)
