"""A stage looks at no part of the config that it does not name: what it looks at and does not name would make it stale."""

import dataclasses

from pipeline.job import load_job
from pipeline.stages import publish
from pipeline.workflow import STAGES, process
from schemas.config import Config

HARMLESS = {
    # where and how, never what
    "compute",
    # the name in messages and the summary
    "dataset",
}
WHOLE = {
    # which runs a stage is made of is in its inputs, by the keys of the runs
    "calibration": {"runs"},
    "pulses": {"runs"},
    "inventory": {"runs"},
    # a product shows its config whole
    "product": set(Config.model_fields),
}


class Watched:
    """A config that notes which of its parts are looked at."""

    def __init__(self, config):
        self._config, self.seen = config, set()

    def __getattr__(self, name):
        if name in Config.model_fields:
            self.seen.add(name)
        if name in ("run_of", "kind_of"):
            self.seen.add("runs")
        return getattr(self._config, name)


def test_stages_look_at_what_they_name(sessions, tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "draw_product", lambda tree, summary, folder: None)
    changes = ["kinetics.n_exponentials=1", "kinetics.global=false", "burst.resolve=true", "delay.t0=fit"]
    job = load_job(sessions["one"] / "config.yaml", tmp_path / "out", changes)
    config = Watched(job.config)
    seen, read = ({stage.name: set() for stage in STAGES} for _ in range(2))

    def run(stage, context, number):
        config.seen.clear()
        stage.reads(context.job)
        read[stage.name] |= config.seen
        config.seen.clear()
        stage.run(context, number)
        seen[stage.name] |= config.seen

    process(dataclasses.replace(job, config=config), run=run)
    for stage in STAGES:
        rests_on = [*stage.lineage(), stage]
        named = {option for one in rests_on for option in one.options}.union(*(read[one.name] for one in rests_on))
        assert seen[stage.name] <= named | HARMLESS | WHOLE.get(stage.name, set()), stage.name
    assert {"delay", "energy", "runs", "filters"} <= seen["labels"]
