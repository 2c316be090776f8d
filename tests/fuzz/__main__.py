"""Damage raw files and process what is left: `make fuzz N=… SEED=…`."""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from tests.fuzz.damage import KINDS
from tests.fuzz.harness import Judged, Session, judge


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=100, help="cases")
    parser.add_argument("--seed", type=int, default=0, help="the first case; the others follow")
    parser.add_argument("--seeds", type=int, nargs="*", help="these cases and no others")
    parser.add_argument("--kind", choices=KINDS, help="only this way of damage")
    parser.add_argument("--folder", type=Path, help="where sessions are kept (default: a temporary folder)")
    parser.add_argument("--whole", type=int, default=10, help="every how many cases are processed to the end")
    parser.add_argument("--json", action="store_true", help="a line of JSON per case")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    session = Session(folder)
    seeds = range(chosen.seed, chosen.seed + chosen.n) if chosen.seeds is None else chosen.seeds
    if chosen.kind:
        step, place = len(KINDS), list(KINDS).index(chosen.kind)
        first = chosen.seed + (place - chosen.seed) % step
        seeds = range(first, first + chosen.n * step, step)
    wrong: Counter[str] = Counter()
    for seed in seeds:
        found = judge(session, seed, folder / f"case-{seed}", whole=seed > 0 and seed % chosen.whole == 0)
        wrong[list(KINDS)[seed % len(KINDS)]] += bool(found.faults)
        print(json.dumps(asdict(found)) if chosen.json else _text(found), flush=True)
    if not chosen.json:
        kinds = {kind: n for kind, n in wrong.items() if n}
        print(f"{wrong.total()} of {len(seeds)} cases at fault {kinds or ''}; {folder}")
    return int(wrong.total() > 0)


def _text(found: Judged) -> str:
    if found.faults:
        return f"{found.what}\n  " + "\n  ".join(found.faults)
    left = found.outcome["error"] or "; ".join(found.outcome["left_out"].values()) or "used"
    return f"{found.what} ({found.seconds:.1f} s, {found.peak / 1e6:.0f} MB): {left}"


if __name__ == "__main__":
    raise SystemExit(main())
