"""The measure itself: it must see what it is there to see."""

from __future__ import annotations

import numpy as np
import pytest

from faceprotect_export.build.parity import ParityReport, compare, median_report, report

A = np.array([1.0, -2.0, 4.0], np.float32)


def test_relative_error_is_over_the_largest_value() -> None:
    parity = compare(A, A + np.float32([0, 0.4, 0]))
    assert parity.relative_error == pytest.approx(0.1)
    assert 0.99 < parity.cosine < 1.0


def test_a_turned_gradient_fails() -> None:
    assert compare(A, -A).cosine == pytest.approx(-1.0)
    assert not ParityReport("x", {"g": compare(A, -A)}).passes(1.0)


def test_nan_fails() -> None:
    assert not ParityReport("x", {"g": compare(A, A * np.float32(np.nan))}).passes(1e9, cosine=-1)


def test_zeros_must_be_met_by_zeros() -> None:
    zeros = np.zeros(3, np.float32)
    assert compare(zeros, zeros).cosine == 1.0
    assert compare(zeros, A).cosine == 0.0


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="shapes"):
        compare(A, A[None])


def test_report_takes_the_worst_output_and_the_median_sample() -> None:
    reports = [report({"a": A, "b": A}, {"a": A, "b": A * np.float32(f)}) for f in (1.0, 1.01, 1.5)]
    assert reports[1].relative_error == pytest.approx(0.01, rel=1e-3)
    merged = median_report(reports)
    assert merged.relative_error == pytest.approx(0.01, rel=1e-3)
    assert merged.as_dict(1e-4)["outputs"]["a"]["relative_error"] == 0.0


def test_one_sample_that_is_not_finite_fails_the_engine() -> None:
    good, bad = np.ones(3, np.float32), np.array([1, np.nan, 1], np.float32)
    reports = [report({"loss": good}, {"loss": measured}) for measured in (good, bad, good)]
    assert not median_report(reports).passes(1e-4)
