"""The counter-based generator: the published answers, and what its users lean on."""

from __future__ import annotations

import numpy as np
import pytest

from faceprotect_engines.recipes.philox import Purpose, Stream, philox

ALL = 2**32 - 1
#: Counter, key, and what comes out: the vectors published with Random123 for philox4x32-10.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((ALL, ALL, ALL, ALL), (ALL, ALL), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_published_answers(counter: tuple[int, ...], key: tuple[int, int], expected: str) -> None:
    assert " ".join(f"{word:08x}" for word in philox(counter, key).ravel().tolist()) == expected


def test_many_counters_are_what_each_is_alone() -> None:
    together = Stream(5, 2).words(10, 3, Purpose.NOISE)
    alone = [philox((block, 3, int(Purpose.NOISE), 2), (5, 0)).ravel() for block in range(3)]
    np.testing.assert_array_equal(together, np.concatenate(alone)[:10])


def test_seed_stage_step_and_purpose_each_give_other_numbers() -> None:
    streams = [Stream(1), Stream(2), Stream(1 + 2**32), Stream(1, 1)]
    words = [stream.words(8, 0, Purpose.DRAW) for stream in streams]
    words += [Stream(1).words(8, 1, Purpose.DRAW), Stream(1).words(8, 0, Purpose.NOISE)]
    assert len({tuple(found.tolist()) for found in words}) == len(words)


def test_uniform_numbers_fill_the_interval() -> None:
    numbers = Stream(0).uniform(20_000, 0, Purpose.DRAW)
    assert 0 <= numbers.min() < 0.001
    assert 0.999 < numbers.max() < 1
    counts, _ = np.histogram(numbers, 20, (0, 1))
    assert np.square(counts - 1000).sum() / 1000 < 43.8  # chi squared of 19 degrees, one in a thousand


def test_normal_numbers_have_the_moments_of_a_gaussian() -> None:
    numbers = Stream(3).normal((2, 3, 100, 100), 7, Purpose.START).astype(np.float64)
    assert numbers.shape == (2, 3, 100, 100)
    assert abs(numbers.mean()) < 0.02
    assert abs(numbers.var() - 1) < 0.03
    assert abs((numbers**4).mean() - (3 - 0.3)) < 0.1  # four bytes: an excess of -6/5 over four
    assert np.abs(numbers).max() < 3.46
