"""What a product says depends on inputs, config and code, and not on what was done before in its folder."""

import random
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from pipeline.errors import TrxasError
from pipeline.job import load_job
from pipeline.storage import versions
from pipeline.workflow import RESTARTS, process
from tests.history.killing import killed_at_write

SCANS = "runs.energy_scans=[{run: 3, fluence: 32.0}, {run: 4, fluence: 16.0}]"
KNOBS = {
    "scans": [
        SCANS,
        "runs.energy_scans=[{run: 3, fluence: 32.0}]",
        "runs.energy_scans=[{run: 4, fluence: 16.0}, {run: 3, fluence: 32.0}]",
        "runs.energy_scans=[{run: 3, fluence: 32.0, delay: 4.0}, {run: 4, fluence: 8.0}]",
    ],
    "delay scan": ["", "runs.delay_scans=[{run: 5, fluence: 32.0, energy: 600}]", "runs.delay_scans=[]"],
    "flat field": ["", "runs.flat_field=null"],
    "gain": ["detector.gain=1.5", "detector.gain=1.6"],
    "t0": ["", "delay.t0=120.02", "delay.sign=-1"],
    "axis": ["", "energy.offset=0.1", "energy.bins={start: 527.0, stop: 530.0, step: 0.6}", "delay.bin={width: 0.5}"],
    "filters": ["", "filters.min_intensity=0.5", "filters.exclude_pulses=[0]"],
    "detector": ["", "detector.saturation=200", "detector.pedestal=none", "detector.flat_field=none"],
    "beams": ["", "beams={order: [pumped, unpumped, reference]}"],
    "frames": ["", "frames.keep=full", "frames.keep=none"],
    "blocks": ["", "compute.memory=3MiB"],
    "pump": ["", "pump=all", "pump={trains: [1, 0]}"],
    "fits": ["", "kinetics.power=1", "peaks.window=[526.0, 531.0]"],
    "name": ["", "sample.name=another"],
}
"""Parts of the config, each with its ways; the first is what it begins with."""
EDITS = [(knob, way) for knob, ways in KNOBS.items() for way in range(len(ways))]
RUNS = (1, 2, 3, 4, 5)
OUTS = ("a", "b", "a to c")


class Histories(RuleBasedStateMachine):
    """A raw folder, a config and output folders to which all sorts of things happen; then they are processed."""

    sessions: ClassVar[dict]
    fresh: ClassVar[dict]
    """What a fresh folder gives, by config and raw runs."""

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp(prefix="history-"))
        for name in ("config.yaml", "dos_ground.txt", "dos_excited.txt"):
            shutil.copy(self.sessions["one"] / name, self.folder)
        self.raw, self.config, self.extra = {}, dict.fromkeys(KNOBS, 0), []
        for number in RUNS:
            self.put(number, "one")

    def teardown(self):
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    def put(self, number, session):
        target = self.folder / "raw" / f"r{number:04d}"
        shutil.rmtree(target, ignore_errors=True)
        if session != "gone":
            shutil.copytree(self.sessions[session] / "raw" / target.name, target)
        self.raw[number] = session

    @property
    def changes(self):
        return [*(KNOBS[knob][way] for knob, way in self.config.items() if KNOBS[knob][way]), *self.extra]

    @rule(edit=st.sampled_from(EDITS), out=st.sampled_from(OUTS))
    def edit(self, edit, out):
        """Change the config, or change it back."""
        self.config |= dict([edit])
        self.process(out)

    @rule(number=st.sampled_from(RUNS), session=st.sampled_from(["one", "other", "gone"]), out=st.sampled_from(OUTS))
    def change_run(self, number, session, out):
        """Replace a run by another measurement, take it away, or bring it back."""
        self.put(number, session if number > 2 or session != "gone" else "other")
        self.process(out)

    @rule(out=st.sampled_from(OUTS), restart=st.sampled_from(sorted(RESTARTS)))
    def reprocess(self, out, restart):
        """Begin anew at a stage."""
        self.process(out, restart)

    @rule(edit=st.sampled_from(EDITS), out=st.sampled_from(OUTS), number=st.integers(0, 700), back=st.booleans())
    def die(self, edit, out, number, back):
        """Change the config, be killed while it is processed, and perhaps think better of it."""
        before = dict(self.config)
        self.config |= dict([edit])
        with killed_at_write(self.folder, number):
            outcome(self.job(out))
        self.config = before if back else self.config
        self.process(out)

    def process(self, out, restart=None):
        """Process, and compare with a fresh folder."""
        found = outcome(self.job(out), restart=restart)
        if self.state not in self.fresh:
            clean = Path(tempfile.mkdtemp(prefix="fresh-"))
            self.fresh[self.state] = outcome(load_job(self.folder / "config.yaml", clean, self.changes))
            shutil.rmtree(clean)
        assert found == self.fresh[self.state]

    @property
    def state(self):
        return str((self.changes, sorted(self.raw.items())))

    def job(self, out):
        work, _, target = out.partition(" to ")
        places = (self.folder / target, self.folder / work) if target else (self.folder / work, None)
        return load_job(self.folder / "config.yaml", places[0], self.changes, work=places[1])


def outcome(job, **options):
    """Return the hash of the product and what it says of its runs, or the error, without the names of folders."""
    try:
        version, left_out = process(job, **options)
    except TrxasError as error:
        return plain(str(error), job)
    assert versions.check(version) == []
    assert versions.latest(version.parent) == version
    warnings = [plain(note["text"], job) for note in versions.read_summary(version)["warnings"]]
    return versions.read_summary(version)["product_hash"], warnings, {n: plain(r, job) for n, r in left_out.items()}


def plain(text, job):
    for folder in (job.target, job.out, job.base):
        text = text.replace(str(folder), "…")
    return text


def machine_of(sessions):
    return type("Histories", (Histories,), {"sessions": sessions, "fresh": {}})


@contextmanager
def begun(sessions):
    """Yield a history that a test tells itself."""
    history = machine_of(sessions)()
    history.begin()
    try:
        yield history
    finally:
        history.teardown()


def told(sessions, seed, steps):
    """Go through a random history; hypothesis would begin with the plainest one, and each step takes seconds."""
    rng = random.Random(seed)
    with begun(sessions) as history:
        for _ in range(steps):
            kind, out, edit = rng.choice(["edit", "edit", "run", "again", "die"]), rng.choice(OUTS), rng.choice(EDITS)
            if kind == "edit":
                history.edit(edit, out)
            elif kind == "run":
                history.change_run(rng.choice(RUNS), rng.choice(["one", "other", "gone"]), out)
            elif kind == "again":
                history.reprocess(out, rng.choice(sorted(RESTARTS)))
            else:
                history.die(edit, out, rng.randrange(700), rng.random() < 0.5)


def test_a_short_history(sessions, quick):
    told(sessions, 0, 4)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 25))
def test_long_histories(sessions, quick, seed):
    told(sessions, seed, 12)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_histories_that_hypothesis_thinks_of(sessions, quick):
    settings = hypothesis.settings(
        max_examples=20,
        stateful_step_count=12,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    run_state_machine_as_test(machine_of(sessions), settings=settings)
