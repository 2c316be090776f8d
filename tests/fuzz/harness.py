"""Process a damaged session in a process of its own, and judge what came of it."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import resource
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import TrxasError
from pipeline.euxfel.survey import inspect_run
from pipeline.job import load_job
from pipeline.simulate import load_scenario, simulate_scenario
from pipeline.stages.base import Stage
from pipeline.stages.inventory import inventories
from pipeline.stages.label import LABEL
from pipeline.stages.reduce import REDUCE
from pipeline.storage import store
from pipeline.storage.hashes import tree_hash
from pipeline.storage.record import Record
from pipeline.workflow import STAGES, process
from tests.fuzz.damage import Case

__all__ = ["Judged", "Session", "judge"]

PATIENCE = 240.0
"""Seconds after which a case hangs; a sound one takes two, and twenty where many share the machine."""
MEMORY = 1e9
"""Bytes that a case may need at most."""
CALIBRATIONS = (1, 2)
ABOUT_VALUES = ("train_ids", "strange_values", "ids_of_frames", "other_type")
"""Damage that only what is made of the files can show."""


class _FarEnough(BaseException):
    """All that reads raw files is done."""


@dataclass
class Judged:
    """One case: what was damaged, what came of it, and what is wrong with that."""

    what: str
    outcome: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    peak: int = 0
    faults: list[str] = field(default_factory=list)


class Session:
    """The sound session, and what it gives."""

    def __init__(self, folder: Path):
        self.folder = folder / "sound"
        if not self.folder.exists():
            simulate_scenario(load_scenario(Path(__file__).with_name("session.yaml")), self.folder)
        self.out = folder / "out"
        # in this process, which keeps what was compiled and loaded; cases are its children
        self.expected = _process(self.folder / "config.yaml", self.out, [], last=LABEL)
        if self.expected["error"]:
            raise RuntimeError(self.expected["error"])

    def copy(self, target: Path) -> None:
        """Make a copy whose files are links to these."""
        shutil.copytree(self.folder, target, copy_function=os.link)


def judge(session: Session, seed: int, folder: Path, *, whole: bool = False) -> Judged:
    """Damage a copy of the session as a seed says and process it, to the end or as long as raw files are read."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    session.copy(folder / "session")
    case = Case(seed, folder / "session" / "raw")
    found = Judged(f"seed {seed}: {case.damage()}")
    if case.run not in CALIBRATIONS:
        # the calibration depends on no scan
        shutil.copytree(session.out / "calibration", folder / "out" / "calibration")

    last = STAGES[-1] if whole else LABEL if case.kind in ABOUT_VALUES else REDUCE

    def work() -> dict[str, Any]:
        outcome = _process(folder / "session" / "config.yaml", folder / "out", case.meanwhile, last=last)
        with contextlib.suppress(TrxasError):
            inspect_run(case.folder, load_job(folder / "session" / "config.yaml").instrument)
        return outcome

    _in_child(work, folder, found)
    if not found.faults:
        found.faults = list(_faults(case, found.outcome, session.expected))
    if found.peak > MEMORY:
        found.faults.append(f"peak memory {found.peak / 1e9:.1f} GB")
    if not found.faults:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def _process(config: Path, out: Path, meanwhile: list[tuple[str, int, Callable[[], object]]], *, last: Stage) -> Any:
    """Return what processing gives, as plain data."""
    outcome: dict[str, Any] = {"error": "", "unexpected": "", "left_out": {}, "audit": {}, "hash": {}, "counts": {}}
    todo = list(meanwhile)
    stages = STAGES[: STAGES.index(last) + 1]
    contexts = []

    def run(stage: Any, context: Any, number: int | None) -> Any:
        if not contexts:
            contexts.append(context)
        for one in [m for m in todo if m[0] == stage.name and number in (None, m[1])]:
            todo.remove(one)
            one[2]()
        if stage not in stages:
            raise _FarEnough
        return stage.run(context, number)

    try:
        keep = "beams" if last is STAGES[-1] else "none"
        process(load_job(config, out, [f"frames.keep={keep}"]), run=run)
    except _FarEnough:
        pass
    except TrxasError as error:
        outcome["error"] = str(error)
    except Exception:
        outcome["unexpected"] = traceback.format_exc()
    if not contexts or outcome["error"] or outcome["unexpected"]:
        return outcome
    job = contexts[0].job
    outcome["left_out"] = {str(n): reason for n, reason in job.failed.items()}
    labels = LABEL.result(job) if LABEL in stages else {}
    record = LABEL.records(job).get(LABEL.name, Record)
    notes = [] if record is None else [one.text for one in record.notes]
    for number, one in inventories(job).items():
        outcome["audit"][str(number)] = one.audit
    for number in job.reduced_runs:
        pulses = store.open_tree(REDUCE.where(job, number))
        outcome["hash"][str(number)] = tree_hash(pulses)
        reasons = labels[f"r{number:04d}"]["drop_reason"].values if f"r{number:04d}" in labels else None
        outcome["counts"][str(number)] = {
            "frames": int(pulses["present"].values.sum()),
            "dropped": {} if reasons is None else _counted(reasons),
            "notes": [text for text in notes if f"run {number}" in text],
        }
    return outcome


def _counted(reasons: np.ndarray) -> dict[str, int]:
    values, counts = np.unique(reasons, return_counts=True)
    return dict(zip(map(str, values.tolist()), counts.tolist(), strict=True))


def _in_child(work: Callable[[], dict[str, Any]], folder: Path, found: Judged) -> None:
    """Run `work` in a child, with its own memory and a limit of time; what it gives comes back as a file."""
    begun, result, log = time.monotonic(), folder / "outcome.json", folder / "log"
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            handle = os.open(log, os.O_CREAT | os.O_WRONLY)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            faulthandler.enable()
            faulthandler.dump_traceback_later(PATIENCE - 5)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            outcome = work()
            result.write_text(json.dumps(outcome), encoding="utf-8")
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    usage = None
    while usage is None:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done == 0:
            usage = None
            if time.monotonic() - begun > PATIENCE:
                os.kill(pid, 9)
                _, status, usage = os.wait4(pid, 0)
                found.faults.append(f"hangs; {log}")
                break
            time.sleep(0.02)
    found.seconds = time.monotonic() - begun
    found.peak = usage.ru_maxrss * 1024
    text = log.read_text(errors="replace") if log.exists() else ""
    if result.exists() and not found.faults:
        found.outcome = json.loads(result.read_text(encoding="utf-8"))
        if "Traceback" in text or "Warning" in text:
            found.faults.append(f"on stderr: {text[-2000:]}")
    elif not found.faults:
        found.faults.append(f"ended with status {status}: {text[-3000:]}")


def _faults(case: Case, outcome: dict[str, Any], expected: dict[str, Any]) -> Any:
    """Yield what must not be."""
    if outcome["unexpected"]:
        yield f"unexpected: {outcome['unexpected']}"
        return
    if outcome["error"]:
        if "\n" in outcome["error"]:
            yield f"several lines: {outcome['error']}"
        if f"{case.run}" not in outcome["error"]:
            yield f"does not name run {case.run}: {outcome['error']}"
        if case.run not in CALIBRATIONS:
            yield f"one scan costs the dataset: {outcome['error']}"
        return
    mine = str(case.run)
    for number, text in outcome["left_out"].items():
        if number != mine:
            yield f"run {number} is left out: {text}"
    if case.run not in CALIBRATIONS:
        for number in expected["hash"].keys() - {mine}:
            if outcome["hash"].get(number) != expected["hash"][number]:
                yield f"run {number} was not touched and differs"
    if not _told(case, outcome, expected):
        yield "numbers of the run differ, and nothing tells"


def _told(case: Case, outcome: dict[str, Any], expected: dict[str, Any]) -> bool:
    mine = str(case.run)
    if mine in outcome["left_out"]:
        return True
    changed = outcome["hash"].get(mine) != expected["hash"].get(mine)
    if case.run == 1:
        changed = outcome["hash"] != expected["hash"]
    said = outcome["audit"].get(mine) != expected["audit"].get(mine)
    ours, theirs = (o["counts"].get(mine, {}) for o in (outcome, expected))
    counted = ours.get("frames") != theirs.get("frames") or (bool(ours) and ours["dropped"] != {} and ours != theirs)
    return not changed or said or counted
