"""Histories that once gave wrong numbers or none, told step by step."""

import pytest

from pipeline.stages import base, calibrate, frames, publish
from pipeline.stages.label import LABEL
from pipeline.storage.record import Records
from tests.history.killing import Killed
from tests.history.test_machine import begun, outcome


def test_edits_and_runs_that_come_and_change_leave_no_trace(sessions, quick, monkeypatch):
    with begun(sessions) as history:
        history.config["scans"] = 1
        history.fresh[history.state] = before = outcome(history.job("a"))
        # an energy is given to a scan, and taken away again; killed, or not
        history.config["delay scan"] = 1
        with monkeypatch.context() as patch:
            patch.setattr(Records, "put", dies_at(LABEL.name, Records.put))
            with pytest.raises(Killed):
                outcome(history.job("a"))
        history.config["delay scan"] = 0
        history.process("a")
        history.config["delay scan"] = 1
        assert outcome(history.job("a"))[0] != before[0]
        history.config["delay scan"] = 0
        history.process("a")
        # a run is added where the beams are not in their usual order; it changes, and is as it was again
        history.config["scans"] = 0
        history.process("a")
        added = outcome(history.job("a"))
        history.put(4, "other")
        history.process("a")
        history.put(4, "one")
        history.process("a")
        assert outcome(history.job("a")) == added


def dies_at(name, put):
    def dying(records, stage, record):
        if stage == name:
            raise Killed
        put(records, stage, record)

    return dying


@pytest.mark.long
def test_a_calibration_knows_whether_its_run_is_a_flat_field(sessions, quick):
    with begun(sessions) as history:
        history.process("a")
        history.config["flat field"] = 1
        history.extra = [
            "runs.energy_scans=[{run: 2, fluence: 32.0, delay: 4.8}, {run: 3, fluence: 32.0}]",
            "energy.bins=[520, 540]",
        ]
        history.process("a")


@pytest.mark.long
def test_other_code_makes_everything_anew(sessions, quick, monkeypatch):
    with begun(sessions) as history:
        first = outcome(history.job("a"))
        made = []
        # as a new release would be
        for module in (base, calibrate, frames, publish):
            monkeypatch.setattr(module, "code_hash", lambda name: f"another {name}")

        def run(stage, context, number):
            if stage.run(context, number):
                made.append((stage.name, number))

        assert outcome(history.job("a"), run=run) == first
        names = [name for name, _ in made if name != "inventory"]
        assert names == ["calibration", *["pulses"] * 4, "labels", "spectra", "fits", "product"]
