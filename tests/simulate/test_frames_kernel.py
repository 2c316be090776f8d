"""The random numbers: real Poisson counts, normal noise, nothing shared between frames."""

import numpy as np
import pytest
from scipy import stats

from pipeline.simulate._frames_kernel import draw_poisson, noise_table, poisson_tables

TABLES = poisson_tables()
N = 1_000_000


def counts(mean: float, seed: int = 1, n: int = N) -> np.ndarray:
    out = np.empty(n, np.int64)
    draw_poisson(np.full(n, mean), np.uint64(seed), *TABLES, out)
    return out


@pytest.mark.parametrize("mean", [0.03, 0.25, 0.9, 7.77, 50.1, 199.9, 255.6, 256.3, 900.0])
def test_counts_are_poisson(mean: float) -> None:
    drawn = counts(mean)
    assert abs(drawn.mean() - mean) < 4 * np.sqrt(mean / N)
    assert abs(drawn.var() / mean - 1) < 4 * np.sqrt((2 + 1 / mean) / N)
    low, high = stats.poisson.ppf([1e-4, 1 - 1e-4], mean).astype(int)
    inner = np.bincount(np.clip(drawn, low, high) - low, minlength=high - low + 1)
    p = stats.poisson.pmf(np.arange(low, high + 1), mean)
    p[0], p[-1] = stats.poisson.cdf(low, mean), stats.poisson.sf(high - 1, mean)
    assert stats.chisquare(inner, p / p.sum() * N).pvalue > 1e-4


def test_mean_zero_gives_zero() -> None:
    assert (counts(0.0, n=1000) == 0).all()


def test_frames_are_independent() -> None:
    first, second = counts(20.0, seed=1), counts(20.0, seed=2)
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(N)
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 4 / np.sqrt(N)


def test_noise_is_standard_normal() -> None:
    table = noise_table().astype(float)
    assert abs(table.mean()) < 1e-6
    assert table.std() == pytest.approx(1.0, abs=1e-6)
    assert stats.kurtosis(table) == pytest.approx(0.0, abs=0.02)
