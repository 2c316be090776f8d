"""Pulses → cells of (fluence, delay, energy): one pass against the same binning by pandas and xarray groupby.

100 delays × 500 energies × 5 fluences from ten million pulses. Bins, counts of pulses and trains, photon sums, their
expected variance, the products of train sums and of pulses that the jackknife needs, and the moments of energy and
delay. Rivals: pandas, written tightly, for the same numbers; pandas for the least that gives ΔXAS with a train-wise error
(photon sums, products of train sums); xarray's own groupby, which takes hours for all, on a small part of the trains.
"""

import argparse
import json
import time

import numpy as np
import pandas as pd
import xarray as xr

from pipeline.science.sums.accumulate import accumulate_runs, join_limbs
from pipeline.science.sums.binning import assign

N_E, N_D, N_F = 500, 100, 5
BEAMS = ("p", "u", "r")
PAIRS = [(a, b) for j, b in enumerate(BEAMS) for a in BEAMS[: j + 1]]
XARRAY_TRAINS = 25


def make(n_trains: int, n_pulses: int) -> xr.Dataset:
    """Return pulses of which each train has its energy and fluence, and each pulse its delay."""
    rng = np.random.default_rng(4)
    shape = (n_trains, n_pulses)
    photons = rng.normal(1e5, 3e4, (*shape, 3)).clip(1)
    return xr.Dataset(
        {
            "photons": (("train", "pulse", "beam"), photons),
            "photons_stderr": (("train", "pulse", "beam"), np.sqrt(photons)),
            "drop_reason": (("train", "pulse"), (rng.random(shape) < 0.02).astype(np.uint8)),
        },
        coords={
            "beam": ["pumped", "unpumped", "reference"],
            "energy": ("train", rng.uniform(525, 550, n_trains)),
            "delay": (("train", "pulse"), rng.uniform(-1, 5, shape)),
            "fluence": ("train", rng.integers(0, N_F, n_trains)),
        },
    )


def ours(pulses, energy_edges, delay_edges):
    """Return the sums as the pipeline makes them, on two threads."""
    rows = pulses["fluence"].values * N_E + assign(pulses["energy"].values, energy_edges)
    return accumulate_runs([pulses], [rows], N_F * N_E, delay_edges=[delay_edges], workers=2)


def _keys(pulses, energy_edges, delay_edges):
    """Return the cell of every pulse and whether it counts; equal bins, so a division is enough."""
    e = pd.cut(pulses["energy"].values, energy_edges, right=False, labels=False)
    row = (pulses["fluence"].values * N_E + e) * N_D
    width = delay_edges[1] - delay_edges[0]
    d = ((pulses["delay"].values - delay_edges[0]) / width).astype(np.int64)
    return (row[:, None] + d).ravel(), (pulses["drop_reason"].values == 0).ravel()


def pandas_same(pulses, energy_edges, delay_edges):
    """Return the same numbers by two groupbys: one integer key of (cell, train), then cells."""
    cell, used = _keys(pulses, energy_edges, delay_edges)
    n_trains, n_pulses = pulses.sizes["train"], pulses.sizes["pulse"]
    key = (cell * n_trains + np.repeat(np.arange(n_trains), n_pulses))[used]
    photons = pulses["photons"].values.reshape(-1, 3)[used]
    variance = pulses["photons_stderr"].values.reshape(-1, 3)[used] ** 2
    weight, delay = photons.sum(axis=1), pulses["delay"].values.ravel()[used]
    columns = {b: photons[:, i] for i, b in enumerate(BEAMS)}
    columns |= {f"v{b}": variance[:, i] for i, b in enumerate(BEAMS)}
    columns |= {f"pulse_{a}{b}": columns[a] * columns[b] for a, b in PAIRS}
    columns |= {"d1": weight * delay, "d2": weight * delay**2}
    # a frame of many columns of their own: one block of all is slower here
    groups = pd.DataFrame(columns, copy=False).groupby(key, sort=False)
    trains = groups.sum().assign(n=groups.size())
    weight = trains["p"] + trains["u"] + trains["r"]
    cells, train = np.divmod(trains.index.values, n_trains)
    energy = pulses["energy"].values[train]
    products = {f"{a}{b}": trains[a] * trains[b] for a, b in PAIRS}
    more = {f"1{n}": v * energy for n, v in products.items()} | {f"2{n}": v * energy**2 for n, v in products.items()}
    more |= {"e1": weight * energy, "e2": weight * energy**2, "trains": np.ones(len(trains), np.int64)}
    return trains.assign(**products, **more).groupby(cells, sort=True).sum()


def pandas_least(pulses, energy_edges, delay_edges):
    """Return photon sums and products of train sums only."""
    cell, used = _keys(pulses, energy_edges, delay_edges)
    n_trains, n_pulses = pulses.sizes["train"], pulses.sizes["pulse"]
    key = (cell * n_trains + np.repeat(np.arange(n_trains), n_pulses))[used]
    photons = pulses["photons"].values.reshape(-1, 3)[used]
    trains = pd.DataFrame(photons, columns=list(BEAMS), copy=False).groupby(key, sort=False).sum()
    products = {f"{a}{b}": trains[a] * trains[b] for a, b in PAIRS}
    return trains.assign(**products).groupby(trains.index.values // n_trains, sort=True).sum()


def xarray_least(pulses, energy_edges, delay_edges):
    """Return the numbers of `pandas_least` by xarray's groupby over stacked pulses."""
    cell, used = _keys(pulses, energy_edges, delay_edges)
    n_trains, n_pulses = pulses.sizes["train"], pulses.sizes["pulse"]
    key = cell * n_trains + np.repeat(np.arange(n_trains), n_pulses)
    flat = xr.DataArray(pulses["photons"].values.reshape(-1, 3), dims=("i", "beam"), coords={"key": ("i", key)})
    trains = flat.isel(i=used).groupby("key").sum()
    products = trains * trains.rename(beam="other")
    both = xr.Dataset({"photons": trains, "product": products}).assign_coords(cell=trains["key"] // n_trains)
    return both.groupby("cell").sum()


def _timed(function, *arguments, repeat=1):
    seconds, work = [], []
    for _ in range(repeat):
        begin, used = time.perf_counter(), time.process_time()
        result = function(*arguments)
        seconds.append(time.perf_counter() - begin)
        work.append(time.process_time() - used)
    return result, min(seconds), min(work)


def check(sums, table):
    """Hold our sums against those of pandas."""
    plain = join_limbs(sums)
    full = np.flatnonzero(plain["n_pulses"].values)
    np.testing.assert_array_equal(full, table.index.values)
    for i, beam in enumerate(BEAMS):
        np.testing.assert_allclose(plain["photons"].values[full, i], table[beam], rtol=1e-11)
    for i, (a, b) in enumerate(PAIRS):
        np.testing.assert_allclose(plain["product"].values[full, i], table[a + b], rtol=1e-11)
        if "n" in table:
            np.testing.assert_allclose(plain["product_pulses"].values[full, i], table[f"pulse_{a}{b}"], rtol=1e-11)
            np.testing.assert_allclose(plain["product_shifted"].values[full, i], table[f"2{a}{b}"], rtol=1e-11)
            mixed = plain["product_mixed"].values[full, BEAMS.index(a), BEAMS.index(b)]
            np.testing.assert_allclose(mixed, table[f"1{a}{b}"], rtol=1e-11)
    if "n" in table:
        np.testing.assert_array_equal(plain["n_pulses"].values[full], table["n"])
        np.testing.assert_array_equal(plain["n_trains"].values[full], table["trains"])
        for ours_, theirs in {"energy_1": "e1", "energy_2": "e2", "delay_1": "d1", "delay_2": "d2"}.items():
            np.testing.assert_allclose(plain[ours_].values[full], table[theirs], rtol=1e-10, atol=1e-6)


def main(arguments=None) -> dict:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the pulses")
    options = parser.parse_args(arguments)
    n_trains = 2500 if options.quick else 25_000
    edges = np.linspace(525, 550, N_E + 1), np.linspace(-1, 5, N_D + 1)
    ours(make(10, 400), *edges)
    pulses = make(n_trains, 400)
    sums, quick, work = _timed(ours, pulses, *edges, repeat=3)
    figures = {"pulses": n_trains * 400, "seconds": quick}
    print(f"binning {figures['pulses']:.0e} pulses into {N_F} x {N_D} x {N_E} cells: {quick:.2f} s")
    for name, rival in (("pandas, same numbers", pandas_same), ("pandas, least numbers", pandas_least)):
        table, slow, slow_work = _timed(rival, pulses, *edges, repeat=2)
        check(sums, table)
        figures |= {f"{rival.__name__}_seconds": slow, f"{rival.__name__}_ratio": slow / quick}
        # processor time of both threads: what others do on the machine hardly enters
        figures |= {f"{rival.__name__}_processor_ratio": slow_work / work}
        print(f"  {name}: {slow:.2f} s, {slow / quick:.1f} times ours; {slow_work / work:.1f} times the processor time")
    some = pulses.isel(train=slice(XARRAY_TRAINS))
    part, own, _ = _timed(ours, some, *edges, repeat=3)
    found, slow, _ = _timed(xarray_least, some, *edges)
    plain = join_limbs(part)
    full = np.flatnonzero(plain["n_pulses"].values)
    np.testing.assert_allclose(plain["photons"].values[full], found["photons"].transpose("cell", "beam"), rtol=1e-11)
    figures |= {"xarray_pulses": XARRAY_TRAINS * 400, "xarray_seconds": slow, "xarray_ratio": slow / own}
    print(
        f"  xarray, least numbers of {XARRAY_TRAINS * 400} pulses: {slow:.2f} s, {slow / own:.0f} times ours of these"
    )
    print(f"  ratio to pandas with the same numbers {figures['pandas_same_ratio']:.0f} (wanted: 10 or more)")
    return figures


if __name__ == "__main__":
    print(json.dumps(main()))
