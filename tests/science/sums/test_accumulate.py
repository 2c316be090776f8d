"""Sums of pulses: what they are, that any split merges to the whole bit for bit, whoever adds them."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.science.sums.accumulate import accumulate, accumulate_runs, join_limbs, merge_sums, without
from pipeline.science.sums.binning import assign
from tests.science.pulse_truth import make_pulses

E_EDGES = np.linspace(527.0, 531.0, 9)
D_EDGES = np.array([-0.6, -0.2, -0.05, 0.0, 0.05, 0.2, 0.6])


def run_of(seed, trains, *, beams=3, pulses=12, photons=2e4):
    rng = np.random.default_rng(seed)
    run = make_pulses(rng, rng.uniform(526.9, 531.1, trains), n_pulses=pulses, photons=photons)
    run["drop_reason"].values[rng.random(run["drop_reason"].shape) < 0.1] = 4
    return run.assign_coords(delay=(("train", "pulse"), rng.normal(0, 0.3, (trains, pulses)))).isel(beam=slice(beams))


def sums_of(run, *, along="energy", workers=1, edges=D_EDGES):
    rows = assign(run["energy"].values, E_EDGES)
    return accumulate_runs([run], [rows], len(E_EDGES) - 1, delay_edges=[edges], along=along, workers=workers)


def plain(run, along):
    """Return the same sums, written down naively."""
    e, d = assign(run["energy"].values, E_EDGES), assign(run["delay"].values, D_EDGES)
    x_all, n_b = run["photons"].values, run.sizes["beam"]
    shape = (len(E_EDGES) - 1, len(D_EDGES) - 1)
    out = {name: np.zeros((*shape, n_b, n_b)) for name in ("product", "pulses", "mixed", "shifted")}
    out |= {"photons": np.zeros((*shape, n_b)), "shot": np.zeros((*shape, n_b)), "n": np.zeros(shape, int)}
    for name in ("energy_1", "energy_2", "delay_1", "delay_2", "trains"):
        out[name] = np.zeros(shape)
    for t in range(run.sizes["train"]):
        if e[t] < 0:
            continue
        for c in range(shape[1]):
            of = (d[t] == c) & (run["drop_reason"].values[t] == 0)
            if not of.any():
                continue
            x, tau, at = x_all[t][of], run["delay"].values[t][of], (e[t], c)
            energy, weight = float(run["energy"][t]), x.sum(axis=1)
            big = x.sum(axis=0)
            y = big * energy if along == "energy" else (x * tau[:, None]).sum(axis=0)
            out["n"][at] += of.sum()
            out["trains"][at] += 1
            out["photons"][at] += big
            out["shot"][at] += (run["photons_stderr"].values[t][of] ** 2).sum(axis=0)
            out["product"][at] += np.outer(big, big)
            out["mixed"][at] += np.outer(big, y)
            out["shifted"][at] += np.outer(y, y)
            out["pulses"][at] += x.T @ x
            for k in (1, 2):
                out[f"energy_{k}"][at] += weight.sum() * energy**k
                out[f"delay_{k}"][at] += (weight * tau**k).sum()
    return out


@pytest.mark.parametrize(("along", "beams"), [("energy", 3), ("delay", 3), ("energy", 2)])
def test_the_sums_are_what_they_are_said_to_be(along, beams):
    run = run_of(1, 40, beams=beams)
    found, expected = join_limbs(sums_of(run, along=along)), plain(run, along)
    shape = expected["n"].shape
    np.testing.assert_array_equal(found["n_pulses"].values.reshape(shape), expected["n"])
    np.testing.assert_array_equal(found["n_trains"].values.reshape(shape), expected["trains"])
    for name, same in {"photons": "photons", "shot_variance": "shot", "product_mixed": "mixed"}.items():
        np.testing.assert_allclose(found[name].values.reshape(expected[same].shape), expected[same], rtol=1e-12)
    for name in ("energy_1", "energy_2", "delay_1", "delay_2"):
        np.testing.assert_allclose(found[name].values.reshape(shape), expected[name], rtol=1e-11, atol=1e-9)
    low, high = np.array([(a, b) for b in range(beams) for a in range(b + 1)]).T
    for name, same in {"product": "product", "product_pulses": "pulses", "product_shifted": "shifted"}.items():
        pairs = expected[same][..., low, high]
        np.testing.assert_allclose(found[name].values.reshape(pairs.shape), pairs, rtol=1e-12, atol=1e-7)


@settings(deadline=None, max_examples=40)
@given(
    data=st.data(),
    seed=st.integers(0, 50),
    photons=st.sampled_from([1.0, 60.0, 2e4, 1e8]),
    along=st.sampled_from(["energy", "delay"]),
)
def test_any_split_in_any_order_merges_to_the_whole_bit_for_bit(data, seed, photons, along):
    run = run_of(seed, 30, photons=photons)
    part = np.array(data.draw(st.lists(st.integers(0, 3), min_size=30, max_size=30)))
    parts = [sums_of(run.isel(train=np.flatnonzero(part == k)), along=along) for k in range(4)]
    whole = sums_of(run, along=along)
    order = data.draw(st.permutations(range(4)))
    left = merge_sums([parts[k] for k in order])
    nested = merge_sums(
        [merge_sums([parts[order[2]], parts[order[0]]]), merge_sums([parts[order[3]], parts[order[1]]])]
    )
    xr.testing.assert_identical(left, whole)
    xr.testing.assert_identical(nested, whole)
    xr.testing.assert_identical(without(whole, parts[0]), merge_sums(parts[1:]))
    shuffled = run.isel(train=data.draw(st.permutations(range(30))))
    xr.testing.assert_identical(sums_of(shuffled, along=along), whole)


def test_the_number_of_threads_changes_no_bit_and_runs_add_up_as_they_merge():
    runs = [run_of(seed, 500) for seed in range(3)]
    rows = [assign(r["energy"].values, E_EDGES) for r in runs]
    one, two, five = (accumulate_runs(runs, rows, 8, delay_edges=[D_EDGES] * 3, workers=w) for w in (1, 2, 5))
    xr.testing.assert_identical(one, two)
    xr.testing.assert_identical(one, five)
    xr.testing.assert_identical(merge_sums([sums_of(r) for r in runs]), one)


def test_given_cells_are_the_same_sums():
    run = run_of(3, 60)
    e, d = assign(run["energy"].values, E_EDGES)[:, None], assign(run["delay"].values, D_EDGES)
    inside = (e >= 0) & (d >= 0) & (run["drop_reason"].values == 0)
    cell = np.where(inside, e * (len(D_EDGES) - 1) + d, -1)
    xr.testing.assert_identical(accumulate(run, cell, 8 * (len(D_EDGES) - 1)), sums_of(run))


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.floats(-1.3, 1.3) | st.just(np.nan), min_size=1, max_size=40),
    edges=st.lists(st.integers(-20, 20), min_size=2, max_size=12, unique=True).map(sorted)
    | st.integers(1, 40).map(lambda n: np.linspace(-20, 20, n + 1)),
    on_edge=st.booleans(),
)
def test_pulses_fall_into_the_bins_that_a_search_gives_to_the_last_bit(values, edges, on_edge):
    edges = 0.05 * np.asarray(edges, float)
    values = np.array(values)
    if on_edge:
        values = np.concatenate([edges, np.nextafter(edges, -9), np.nextafter(edges, 9), values])
    run = run_of(0, 1, pulses=len(values))
    run["drop_reason"].values[:] = 0
    run = run.assign_coords(delay=(("train", "pulse"), values[None, :]))
    found = accumulate_runs([run], [np.zeros(1, int)], 1, delay_edges=[edges])["n_pulses"].values
    index = assign(values, edges)
    np.testing.assert_array_equal(found, np.bincount(index[index >= 0], minlength=len(edges) - 1))
