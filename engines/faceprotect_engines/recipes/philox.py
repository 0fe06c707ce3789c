"""Random numbers from a counter: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 4).

A few lines in any language give the same bits, in any order and from any number of threads: what a number is depends on the seed and on
what it is for, not on what was drawn before. The counter's four words are (block, step, purpose, stage), the key is the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

_ROUNDS = 10
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_WORD = 2**32
#: Mean and standard deviation of the sum of four bytes.
_BYTES_MEAN, _BYTES_STD = 510.0, 21845.0**0.5


class Purpose(IntEnum):
    """What numbers are for: the third word of the counter."""

    DRAW = 0
    NOISE = 1
    START = 2
    FACE = 3


def philox(counter: tuple[NDArray[np.uint64] | int, ...], key: tuple[int, int]) -> Words:
    """Words [n, 4] of n counters, each of whose four words is a number or an array [n] of uint64 below 2^32; key: two such words."""
    first, second, third, fourth = (np.asarray(word, np.uint64) for word in counter)
    keys = list(key)
    for _ in range(_ROUNDS):
        low, high = _MULTIPLIERS[0] * first, _MULTIPLIERS[1] * third
        first = (high >> _HALF) ^ second ^ np.uint64(keys[0])
        third = (low >> _HALF) ^ fourth ^ np.uint64(keys[1])
        second, fourth = high & _LOW, low & _LOW
        keys = [(word + step) % _WORD for word, step in zip(keys, _WEYL, strict=True)]
    return np.stack(np.broadcast_arrays(first, second, third, fourth), axis=-1).astype(np.uint32)


@dataclass(frozen=True)
class Stream:
    """The random numbers of one stage of a recipe. `seed`: below 2^64; `stage`: its index."""

    seed: int
    stage: int = 0

    def words(self, count: int, step: int, purpose: Purpose) -> Words:
        """The first `count` words for one purpose at one step."""
        blocks = np.arange(-(-count // 4), dtype=np.uint64)
        key = (self.seed % _WORD, self.seed // _WORD % _WORD)
        return philox((blocks, step, int(purpose), self.stage), key).ravel()[:count]

    def uniform(self, count: int, step: int, purpose: Purpose) -> NDArray[np.float64]:
        """Numbers [count] in [0, 1): a word over 2^32."""
        return self.words(count, step, purpose) / float(_WORD)

    def normal(self, shape: tuple[int, ...], step: int, purpose: Purpose) -> NDArray[np.float32]:
        """Numbers of mean 0 and variance 1, nearly Gaussian, at most 3.45 from 0.

        Each is the sum of a word's four bytes: there is no logarithm in it that one language would take otherwise than another.
        """
        words = self.words(int(np.prod(shape)), step, purpose)
        pairs = (words & np.uint32(0x00FF00FF)) + ((words >> np.uint32(8)) & np.uint32(0x00FF00FF))
        total = (pairs & np.uint32(0xFFFF)) + (pairs >> np.uint32(16))
        return ((total.astype(np.float32) - np.float32(_BYTES_MEAN)) / np.float32(_BYTES_STD)).reshape(shape)
