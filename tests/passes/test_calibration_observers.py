"""Observers against plain numpy on all data at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from infopt_passes.calibrate.clipping import Grid, divergence
from infopt_passes.calibrate.histogram import BINS, Histogram, counted, empty
from infopt_passes.calibrate.observers import MAKERS, ExtremesObserver, HistogramObserver, observer

CLIPPING = ["percentile", "entropy", "mse"]
GRIDS = [Grid(256, symmetric=False), Grid(256, symmetric=True)]

FLOATS = st.floats(-(2.0**20), 2.0**20, width=32, allow_subnormal=False)
SAMPLES = st.lists(hnp.arrays(np.float32, st.integers(0, 40), elements=FLOATS), min_size=1, max_size=6)


def heavy(seed: int = 0, count: int = 200_000) -> np.ndarray:
    """Values with rare, far outliers."""
    return np.random.default_rng(seed).standard_t(2.2, count).astype(np.float32)


def folded(parts: list[np.ndarray]) -> Histogram:
    histogram = empty()
    for part in parts:
        histogram = counted(histogram, part)
    return histogram


def ended(name: str, parts: list[np.ndarray], grid: Grid = GRIDS[0], share: float = 99.99) -> tuple[float, float]:
    chosen = observer(name, share, grid)
    assert isinstance(chosen, HistogramObserver)
    state = chosen.init()
    for part in parts:
        state = chosen.update(state, part)
    return chosen.finish(state)


@given(st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 4), min_size=1, max_size=9))
def test_folding_extremes_sample_by_sample_equals_folding_at_once(rows: list[tuple[float, ...]]) -> None:
    extremes = np.sort(np.array(rows).reshape(-1, 2, 2), axis=2)  # sample, tensor, (low, high)
    found = {}
    for name in ("minmax", "mean-minmax"):
        chosen = observer(name)
        assert isinstance(chosen, ExtremesObserver)
        state = chosen.init(2)
        for sample in extremes:
            state = chosen.update(state, sample[:, 0], sample[:, 1])
        found[name] = chosen.finish(state)
    lows, highs = extremes[..., 0], extremes[..., 1]
    np.testing.assert_array_equal(found["minmax"].lows, lows.min(0))
    np.testing.assert_array_equal(found["minmax"].highs, highs.max(0))
    np.testing.assert_allclose(found["mean-minmax"].lows, lows.mean(0), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(found["mean-minmax"].highs, highs.mean(0), rtol=1e-9, atol=1e-6)
    np.testing.assert_array_equal(found["mean-minmax"].largest, highs.max(0))


@given(SAMPLES)
def test_a_growing_histogram_is_that_of_all_data_at_once(parts: list[np.ndarray]) -> None:
    streamed, whole = folded(parts), folded([np.concatenate(parts)])
    values = np.concatenate(parts)
    assert streamed.counts.sum() == values.size
    np.testing.assert_array_equal(streamed.counts, whole.counts)
    assert (streamed.exponent, streamed.low, streamed.high) == (whole.exponent, whole.low, whole.high)
    if values.size:
        edges = (np.arange(2 * BINS + 1) - BINS) * streamed.width
        expected, _ = np.histogram(values.astype(np.float64), edges)
        np.testing.assert_array_equal(streamed.counts[:-1], expected[:-1])  # numpy's last bin is closed
        assert (streamed.low, streamed.high) == (values.min(), values.max())


@given(SAMPLES.filter(lambda parts: any(part.any() for part in parts)))
def test_at_least_2048_bins_reach_from_zero_to_the_extreme(parts: list[np.ndarray]) -> None:
    histogram = folded(parts)
    peak = max(-histogram.low, histogram.high)
    assert histogram.exponent == -126 or peak / histogram.width >= 2048
    assert peak <= histogram.width * BINS


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_histogram_tells_of_values_that_are_not_finite(value: float) -> None:
    assert folded([np.float32([1, 2])]).sound
    assert not folded([np.float32([1, 2]), np.float32([0, value])]).sound


@given(
    hnp.arrays(np.float32, st.integers(50, 400), elements=st.floats(-1e3, 1e3, width=32)),
    st.floats(50, 100),
)
def test_a_percentile_is_numpys_within_a_bin(values: np.ndarray, share: float) -> None:
    low, high = ended("percentile", np.array_split(values, 3), share=share)
    width = folded([values]).width
    # Between two values that are far apart any number has the same share below it: the ends of that gap decide.
    for found, at in ((low, 100 - share), (high, share)):
        beside = [float(np.percentile(values, at, method=method)) for method in ("lower", "higher")]
        around = np.sort(values.astype(np.float64))
        rank = at / 100 * len(around)
        ends = around[[max(math.floor(rank) - 1, 0), min(math.ceil(rank), len(around) - 1)]]
        assert min(*beside, *ends) - width <= found <= max(*beside, *ends) + width


def test_a_percentile_of_many_values_is_numpys() -> None:
    values = heavy()
    found, width = ended("percentile", np.array_split(values, 7)), folded([values]).width
    assert found == pytest.approx(tuple(np.percentile(values, [0.01, 99.99])), abs=width)


@pytest.mark.parametrize("grid", GRIDS, ids=["asymmetric", "symmetric"])
@pytest.mark.parametrize("name", CLIPPING)
@pytest.mark.parametrize("seed", range(3))
def test_a_threshold_does_not_depend_on_how_the_data_came(name: str, grid: Grid, seed: int) -> None:
    values = heavy(seed, 20_000)
    parts = np.array_split(np.random.default_rng(seed).permutation(values), 13)
    assert ended(name, parts, grid) == ended(name, [values], grid)


@pytest.mark.parametrize("grid", GRIDS, ids=["asymmetric", "symmetric"])
def test_entropy_cuts_far_outliers_off(grid: Grid) -> None:
    values = heavy()
    low, high = ended("entropy", [values], grid)
    assert high < 0.3 * values.max()
    assert low > 0.3 * values.min()
    assert np.mean((values < low) | (values > high)) < 0.01


def test_entropy_keeps_what_has_no_tail() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, 100_000).astype(np.float32)
    assert ended("entropy", [values]) == pytest.approx((-1, 1), abs=0.05)


def test_entropy_finds_the_least_divergence() -> None:
    values = np.abs(heavy(1, 50_000))
    histogram, levels = folded([values]), 256
    counts = histogram.counts.astype(np.float64)
    counts[BINS] = counts[BINS + 1]
    found = round(ended("entropy", [values])[1] / histogram.width)
    top = math.floor(histogram.high / histogram.width) + 1
    losses = [divergence(counts, BINS, BINS + threshold, levels) for threshold in range(levels, top + 1, 8)]
    assert divergence(counts, BINS, BINS + found, levels) <= min(losses)
    assert len(losses) > 200


@pytest.mark.parametrize("threshold", [256, 300, 1000, 2100])
def test_divergence_is_that_of_the_paper_written_out(threshold: int) -> None:
    counts = folded([np.abs(heavy(1, 50_000))]).counts.astype(np.float64)
    assert divergence(counts, BINS, BINS + threshold, 256) == pytest.approx(written_out(counts[BINS:], threshold, 256))


def written_out(counts: np.ndarray, threshold: int, levels: int) -> float:
    """Relative entropy bin by bin."""
    reference = counts[:threshold].copy()
    reference[-1] += counts[threshold:].sum()
    expanded = np.zeros(threshold)
    for level in range(levels):
        bins = [i for i in range(threshold) if i * levels // threshold == level]
        full = [i for i in bins if reference[i]]
        if full:
            expanded[full] = counts[bins].sum() / len(full)
    p, q = reference / reference.sum(), expanded / expanded.sum()
    return float(sum(a * math.log(a / max(b, 1e-9)) for a, b in zip(p, q, strict=True) if a))


def rounded(values: np.ndarray, low: float, high: float, grid: Grid) -> np.ndarray:
    """Values as the quantizer will leave them."""
    low, high = min(low, 0.0), max(high, 0.0)
    if grid.symmetric:
        scale = max(-low, high) / (grid.levels // 2 - 1)
        return np.clip(np.rint(values / scale), -grid.levels // 2, grid.levels // 2 - 1) * scale
    scale = (high - low) / (grid.levels - 1)
    zero = round(-low / scale)
    return (np.clip(np.rint(values / scale) + zero, 0, grid.levels - 1) - zero) * scale


@pytest.mark.parametrize("grid", GRIDS, ids=["asymmetric", "symmetric"])
@pytest.mark.parametrize("kind", ["heavy", "normal", "positive"])
def test_mse_leaves_about_the_least_error_of_all_thresholds(grid: Grid, kind: str) -> None:
    values = heavy() if kind == "heavy" else np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    values = np.abs(values) if kind == "positive" else values

    def error(low: float, high: float) -> float:
        return float(((values - rounded(values, low, high, grid)) ** 2).mean())

    shares = np.linspace(0.05, 1, 96)
    least = min(error(share * values.min(), share * values.max()) for share in shares)
    assert error(*ended("mse", [values], grid)) <= 1.03 * least


@pytest.mark.parametrize("name", CLIPPING)
@pytest.mark.parametrize("value", [0.0, 3.7, -1e-30, 1e30])
def test_a_constant_keeps_its_value_exactly(name: str, value: float) -> None:
    assert ended(name, [np.full(100, value, np.float32)] * 3) == (np.float32(value), np.float32(value))


@pytest.mark.parametrize("name", CLIPPING)
def test_a_tensor_without_elements_gets_an_empty_range(name: str) -> None:
    assert ended(name, [np.zeros(0, np.float32)]) == (0.0, 0.0)


@given(SAMPLES, st.sampled_from(CLIPPING), st.sampled_from(GRIDS))
def test_a_clipped_range_lies_within_the_data(parts: list[np.ndarray], name: str, grid: Grid) -> None:
    values = np.concatenate(parts)
    low, high = ended(name, parts, grid)
    assert low <= high
    if values.size:
        assert values.min() <= low
        assert high <= values.max()


def test_every_observer_has_a_name_that_the_option_takes() -> None:
    from infopt.options import fields
    from infopt_passes.quantize import Quantize

    option = next(field for field in fields(Quantize) if field.name == "ranges")
    assert option.type.__args__ == ("auto", *MAKERS)


def test_what_it_takes_to_be_an_observer_is_a_fold() -> None:
    made: list[Any] = [observer(name) for name in MAKERS]
    assert all(callable(getattr(each, step)) for each in made for step in ("init", "update", "finish"))
