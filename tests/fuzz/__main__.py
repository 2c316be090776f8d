"""Damage raw files and process what is left: `make fuzz N=… SEED=…`."""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections import Counter
from pathlib import Path

from tests.fuzz.damage import KINDS
from tests.fuzz.harness import Session, judge


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=100, help="cases")
    parser.add_argument("--seed", type=int, default=0, help="the first case; the others follow")
    parser.add_argument("--kind", choices=KINDS, help="only this way of damage")
    parser.add_argument("--folder", type=Path, help="where sessions are kept (default: a temporary folder)")
    parser.add_argument("--whole", type=int, default=10, help="every how many cases are processed to the end")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    session = Session(folder)
    seeds = range(chosen.seed, chosen.seed + chosen.n)
    if chosen.kind:
        step, place = len(KINDS), list(KINDS).index(chosen.kind)
        first = chosen.seed + (place - chosen.seed) % step
        seeds = range(first, first + chosen.n * step, step)
    wrong, kinds = 0, Counter()
    for seed in seeds:
        found = judge(session, seed, folder / f"case-{seed}", whole=seed % chosen.whole == 0)
        if found.faults:
            wrong += 1
            kinds[list(KINDS)[seed % len(KINDS)]] += 1
            print(f"{found.what}\n  " + "\n  ".join(found.faults), flush=True)
        else:
            left = found.outcome["error"] or "; ".join(found.outcome["left_out"].values()) or "used"
            print(f"{found.what} ({found.seconds:.1f} s, {found.peak / 1e6:.0f} MB): {left}", flush=True)
    print(f"{wrong} of {len(seeds)} cases at fault {dict(kinds)}; {folder}")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
