"""Sums over streams of samples give the SQNR that all samples at once give."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infopt.blaming.remedies import flags, gain
from infopt.blaming.sweep import Moments, decibels


@given(st.integers(0, 2**32 - 1), st.sampled_from([(2, 3, 4, 5), (3, 7, 2), (4, 6), (5,)]), st.integers(1, 4))
def test_streamed_noise_is_the_noise_of_all_samples(seed: int, shape: tuple[int, ...], runs: int) -> None:
    rng = np.random.default_rng(seed)
    wanted = [rng.standard_normal(shape).astype(np.float32) for _ in range(runs)]
    given_ = [each + 0.01 * rng.standard_normal(shape).astype(np.float32) for each in wanted]
    moments = Moments()
    for pair in zip(wanted, given_, strict=True):
        moments.add(*pair, axis=1 if len(shape) == 4 else -1)
    error = np.square(np.subtract(given_, wanted, dtype=np.float64)).sum()
    assert moments.noise() == pytest.approx(error / np.square(np.array(wanted, np.float64)).sum(), rel=1e-4)


@given(st.integers(0, 2**32 - 1))
def test_channels_that_were_rescaled_have_no_error_up_to_factors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wanted = rng.standard_normal((4, 6, 5, 5)).astype(np.float32)
    factors = np.exp(rng.uniform(-4, 4, (6, 1, 1))).astype(np.float32)
    noisy = wanted + 0.05 * rng.standard_normal(wanted.shape).astype(np.float32)
    plain, rescaled = Moments(), Moments()
    plain.add(wanted, noisy, 1)
    rescaled.add(wanted, noisy * factors, 1)
    assert rescaled.noise(factors=True) == pytest.approx(plain.noise(), rel=0.2)
    assert rescaled.noise() > 0.1 or np.allclose(factors, 1, atol=0.3)


def test_a_mask_of_infinities_has_no_error_and_a_large_one_no_overflow() -> None:
    moments = Moments()
    wanted = np.array([[1.0, -np.inf, -3e38, 2.0]], np.float32)
    moments.add(wanted, wanted.copy(), -1)
    assert moments.noise() == 0
    moments.add(np.ones((1, 4), np.float32), np.array([[np.nan, 1, 1, 1]], np.float32), -1)
    assert moments.noise() == math.inf


def test_another_shape_is_all_wrong_and_a_varying_axis_is_one_channel() -> None:
    moments = Moments()
    moments.add(np.ones((2, 3), np.float32), np.ones((2, 4), np.float32), -1)
    assert moments.noise() == 1
    moments.add(np.ones((2, 5), np.float32), np.ones((2, 5), np.float32), -1)
    assert moments.noise() == pytest.approx(6 / 16)


def test_a_constant_shift_is_told_from_scatter() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.standard_normal((64, 4)).astype(np.float32)
    shifted, scattered = Moments(), Moments()
    shifted.add(wanted, wanted + np.float32([0.1, -0.1, 0.2, 0.0]), -1)
    scattered.add(wanted, wanted + 0.1 * rng.standard_normal(wanted.shape).astype(np.float32), -1)
    assert shifted.shifted() == pytest.approx(1, abs=1e-3)
    assert scattered.shifted() < 0.1


@pytest.mark.parametrize(
    ("before", "after", "db"),
    [(0.1, 0.01, 10), (0.01, 0.1, -10), (0.1, 0.0, 100), (0.0, 0.1, -100), (0.0, 0.0, 0), (math.inf, 0.1, 100),
     (0.1, math.inf, -100), (math.inf, math.inf, 0)],
)  # fmt: skip
def test_gains_in_decibels(before: float, after: float, db: float) -> None:
    assert gain(before, after) == pytest.approx(db)


def test_decibels_of_nothing_and_of_everything() -> None:
    assert decibels(0.0) is None
    assert decibels(0.001) == pytest.approx(30)
    assert decibels(math.inf) == -100
    assert (decibels(1e-30), decibels(1e30)) == (100, -100)


def test_changes_are_written_as_flags() -> None:
    assert (
        flags({"bias_correction": "on", "keep_float": ("a", "b")})
        == "--bias-correction on --keep-float a --keep-float b"
    )
