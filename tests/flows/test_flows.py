"""Real flow runs against a real API: names, tags, states, logs and artifacts, as a person finds them in Prefect."""

import base64
import errno
import io
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prefect import flow
from prefect.client.schemas.filters import FlowRunFilter, LogFilter
from prefect.exceptions import ParameterTypeError

import flows.watch as watching
from flows import artifacts, progress, server, tasks
from flows.process import process, reprocess
from flows.states import kind_of
from flows.watch import watch
from pipeline import workflow
from pipeline.errors import BusyError, ConfigError, DataError
from pipeline.job import load_job
from pipeline.storage.claim import claimed
from pipeline.storage.hashes import digest
from pipeline.watch import look as watcher
from pipeline.workflow import context_of
from tests.flows.conftest import aged

SETTLED = ["watch.settle=1800"]
"""Files are made an hour old where they are to count as closed, so that nothing depends on how long a test takes."""
LESS = ["runs.energy_scans=[{run: 3, fluence: 32.0}, {run: 5, fluence: 16.0}]"]


def until(ask, enough, seconds=20.0):
    """Ask until there is enough: the server records states, logs and artifacts a moment later."""
    end = time.monotonic() + seconds
    while not enough(answer := ask()) and time.monotonic() < end:
        time.sleep(0.1)
    return answer


def of_run(client, state):
    run = client.read_flow_run(state.state_details.flow_run_id)
    mine = {"flow_run_filter": FlowRunFilter(id={"any_": [run.id]})}
    return run, mine


@pytest.fixture(scope="module")
def broken(tiny, tmp_path_factory):
    """Return the config of the tiny experiment with one broken run."""
    folder = tmp_path_factory.mktemp("broken") / "tiny"
    shutil.copytree(tiny.out, folder)
    damaged = next((folder / "raw" / "r0005").glob("*DSSC*"))
    damaged.write_bytes(damaged.read_bytes()[:3000])
    return folder / "config.yaml"


@pytest.fixture(scope="module")
def ran(api, broken, tmp_path_factory, all_figures):
    out = tmp_path_factory.mktemp("out")
    return out, process(str(broken), str(out), LESS, return_state=True)


def test_a_run_that_is_left_out_is_named_in_the_final_state(api, ran):
    run, _ = of_run(api, ran[1])
    assert run.name == "process-tiny"
    assert "dataset:tiny" in run.tags
    assert run.state.is_completed()
    assert run.state.message.startswith("v0001; run 5 is left out: ")
    assert "\n" not in run.state.message
    assert Path(ran[1].result()).name == "v0001"


def test_every_stage_and_run_is_a_task_with_name_and_tags(api, ran):
    _, mine = of_run(api, ran[1])

    def final():
        return {t.name: t for t in api.read_task_runs(**mine) if t.state is not None and t.state.is_final()}

    found = until(final, lambda t: any(n.startswith("show") for n in t))
    assert {
        "inventory-r0001",
        "inventory-r0003",
        "inventory-r0005",
        "pulses-r0002",
        "pulses-r0003",
        "pulses-r0006",
    } <= set(found)
    assert set(found["pulses-r0003"].tags) == {"dataset:tiny", "run:3", "pulses"}
    lost = next(t for t in found.values() if not t.state.is_completed())
    assert lost.name in ("inventory-r0005", "pulses-r0005")
    # what is wrong with the data does not pass
    assert lost.run_count == 1


def test_logs_with_run_numbers_are_with_the_flow_run(api, ran):
    run, _ = of_run(api, ran[1])
    wanted = LogFilter(flow_run_id={"any_": [run.id]})
    lines = until(
        lambda: [log.message for log in api.read_logs(wanted)], lambda ls: any("run 6: " in line for line in ls)
    )
    assert "run 3: reduced to pulses" in lines
    assert any(line.startswith("run 5 is left out: ") for line in lines)


def test_summary_quality_progress_and_figures_are_artifacts(api, ran):
    _, mine = of_run(api, ran[1])
    shown = until(lambda: {a.key: a for a in api.read_artifacts(**mine)}, lambda a: "tiny-figure-spectra" in a)
    assert shown["tiny-summary"].type == "markdown"
    assert "tau1" in shown["tiny-summary"].data
    table = json.loads(shown["tiny-quality"].data)
    assert [row["run"] for row in table] == [2, 3, 6]
    assert {shown[f"tiny-pulses-r000{n}"].type for n in (2, 3, 6)} == {"progress"}
    assert {shown[f"tiny-pulses-r000{n}"].data for n in (2, 3, 6)} == {100.0}
    drawn = {f"tiny-figure-{p.stem.replace('_', '-')}": p for p in Path(ran[1].result(), "figures").glob("*.png")}
    assert drawn
    assert {key for key in shown if "-figure-" in key} == set(drawn)
    for key, path in drawn.items():
        kind, _, data = shown[key].data.partition(",")
        assert (shown[key].type, kind) == ("image", "data:image/png;base64")
        content = base64.b64decode(data)
        with Image.open(io.BytesIO(content)) as sent, Image.open(path) as figure:
            assert sent.size == figure.size
            difference = np.abs(np.asarray(sent.convert("RGB"), float) - np.asarray(figure.convert("RGB"), float))
            assert difference.mean() < 4
        assert len(content) < 0.6 * path.stat().st_size


def test_a_temporary_server_is_sent_no_artifacts(api, ran, monkeypatch):
    monkeypatch.setattr(server, "is_persistent", lambda: False)

    @flow(name="shows-nothing")
    def shows():
        artifacts.show_product(Path(ran[1].result()))
        with artifacts.progress_artifact("tiny", "work", "work") as tell:
            tell("work", 1, 1)
        return tell

    state = shows(return_state=True)
    assert state.result() is progress.report
    assert api.read_artifacts(**of_run(api, state)[1]) == []


def test_reprocess_makes_another_version_from_typed_parameters(api, ran, broken):
    state = reprocess(str(broken), "fits", [*LESS, "kinetics.power=1"], str(ran[0]), return_state=True)
    run, mine = of_run(api, state)
    assert run.name == "reprocess-fits-tiny"
    assert run.state.message.startswith("v0002; run 5 is left out: ")
    assert run.state.message.endswith("other settings than v0001: kinetics.power 2 → 1")
    assert run.parameters["stage"] == "fits"
    # pulses were current: nothing heavy was told
    assert not [a for a in api.read_artifacts(**mine) if a.type == "progress"]
    with pytest.raises(ParameterTypeError, match="stage"):
        reprocess(str(broken), "everything", [], str(ran[0]))
    with pytest.raises(ParameterTypeError, match="changes"):
        reprocess(str(broken), "fits", ["kinetics power"], str(ran[0]))


def test_failure_is_the_one_line_in_the_state(api, broken, tmp_path):
    state = process(str(broken), str(tmp_path), ["kinetics.powr=1"], return_state=True)
    run, _ = of_run(api, state)
    assert run.state.is_failed()
    assert run.state.message == "kinetics.powr: unknown key; did you mean power?"
    with pytest.raises(ConfigError, match=r"kinetics\.powr"):
        process(str(broken), str(tmp_path), ["kinetics.powr=1"])


@pytest.mark.parametrize(
    ("error", "runs"),
    [
        (OSError(errno.EIO, "Input/output error"), 3),
        (OSError(errno.ENOENT, "No such file"), 1),
        (DataError("run 3: nothing in it"), 1),
    ],
)
def test_only_what_a_file_system_gets_over_is_tried_again(api, broken, monkeypatch, error, runs):
    tried = []

    def fails_twice(context, run):
        tried.append(1)
        if len(tried) < 3:
            raise error
        return True

    task = tasks.TASKS["labels"]
    monkeypatch.setattr(task, "fn", fails_twice)
    monkeypatch.setattr(task, "retry_delay_seconds", [0.0] * 4)

    @flow
    def labels():
        return task(context_of(load_job(broken)), None)

    state = labels(return_state=True)
    assert len(tried) == runs
    assert state.is_completed() == (runs == 3)


def test_an_error_that_hides_a_passing_one_is_tried_again_too():
    from pipeline.errors import is_transient

    def hidden():
        try:
            raise OSError(errno.ESTALE, "Stale file handle")
        except OSError as error:
            raise DataError(f"run 3: cannot be read: {error}") from None

    with pytest.raises(DataError) as caught:
        hidden()
    assert is_transient(caught.value)
    assert not is_transient(DataError("x"))
    assert not is_transient(TimeoutError("given up"))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DataError("run 1: nothing in it"), "expected"),
        (OSError(errno.ENOSPC, "No space left on device"), "passing"),
        (RuntimeError("killed"), "unexpected"),
        (TimeoutError("no answer"), "passing"),
        (BusyError("out: another works here"), "passing"),
    ],
)
def test_failures_of_data_of_machines_and_of_trxas_are_told_apart(error, expected):
    assert kind_of(error) == expected
    if isinstance(error, TimeoutError):
        wrapped = ConfigError("compute.cluster: no dask scheduler answers")
        wrapped.__context__ = error
        assert kind_of(wrapped) == "passing"


# --- watching --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def incoming(tiny, tmp_path_factory):
    """Return a raw folder with calibration, one energy scan and one that has only begun; the rest is still to come."""
    folder = tmp_path_factory.mktemp("incoming")
    for name in ("config.yaml", "dos_ground.txt", "dos_excited.txt"):
        shutil.copy(tiny.out / name, folder)
    for number in (1, 2, 3):
        shutil.copytree(tiny.out / "raw" / f"r{number:04d}", folder / "raw" / f"r{number:04d}")
    aged(folder)
    growing = folder / "raw" / "r0006"
    growing.mkdir()
    shutil.copy(next((tiny.out / "raw" / "r0006").glob("*DA01*")), growing)
    return folder


def test_a_watcher_publishes_what_is_complete_and_again_when_more_is(api, incoming, tiny):
    config = str(incoming / "config.yaml")
    first = watch(config, None, SETTLED, return_state=True)
    run, _ = of_run(api, first)
    assert run.name == "watch-tiny"
    assert first.message.startswith("v0001; run 4 is left out: it is not complete yet")
    assert "run 6 is left out: it is not complete yet" in first.message
    unchanged = watch(config, None, SETTLED, return_state=True)
    assert unchanged.name == "Unchanged"
    assert "waiting: 4, 5, 6" in unchanged.message
    # the rest of run 6 comes, and run 4, of which nothing can be read
    shutil.copy(next((tiny.out / "raw" / "r0006").glob("*DSSC*")), incoming / "raw" / "r0006")
    (incoming / "raw" / "r0004").mkdir()
    (incoming / "raw" / "r0004" / "RAW-R0004-DSSC15-S00000.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    aged(incoming / "raw" / "r0006")
    aged(incoming / "raw" / "r0004")
    second = watch(config, None, SETTLED, return_state=True)
    assert second.message.startswith("v0002")
    assert "run 4: " in second.message
    assert "run 6" not in second.message
    logs = LogFilter(flow_run_id={"any_": [second.state_details.flow_run_id]})
    told = until(lambda: [log.message for log in api.read_logs(logs)], lambda ls: "run 6: complete" in ls)
    assert len([line for line in told if line.startswith("run 4: ") and "is left out" not in line]) == 1
    # only runs have changed, no settings
    assert "other settings" not in second.message
    # the broken run is not told again, nor tried again
    assert watch(config, None, SETTLED, return_state=True).name == "Unchanged"


def test_two_watchers_do_no_harm(api, incoming, monkeypatch):
    job = load_job(incoming / "config.yaml")
    state_file = job.out / "watch" / "tiny.json"
    before = digest(state_file.read_text(encoding="utf-8"))
    with claimed(job.out, "watch"), monkeypatch.context() as other:
        # as another process would find it
        other.setattr("pipeline.storage.claim._held", {})
        state = watch(str(incoming / "config.yaml"), None, SETTLED, return_state=True)
    assert state.is_completed()
    assert state.name == "Skipped"
    assert "works here (watch, since" in state.message
    assert digest(state_file.read_text(encoding="utf-8")) == before


def test_a_failure_is_not_repeated_before_something_changes(api, incoming, tmp_path):
    config = incoming / "config.yaml"
    other = [*SETTLED, "detector.saturation=1"]
    failed = watch(str(config), str(tmp_path), other, return_state=True)
    assert failed.is_failed()
    assert "\n" not in failed.message
    again = watch(str(config), str(tmp_path), other, return_state=True)
    assert again.name == "Unchanged"


class Clock:
    """A clock that a test sets, in the place of the module `time`."""

    def __init__(self, monkeypatch, *modules):
        self.now = time.time()
        for module in modules:
            monkeypatch.setattr(module, "time", self)

    def time(self):
        return self.now

    def sleep(self, seconds):
        raise KeyboardInterrupt


@pytest.mark.long
def test_an_unexpected_error_is_tried_again_later_and_later_then_set_aside(api, incoming, tmp_path, monkeypatch):
    config, out = incoming / "config.yaml", tmp_path / "out"
    clock = Clock(monkeypatch, watching, watcher)
    tried = []

    def broken(*_args, **_options):
        tried.append(clock.now)
        raise ValueError("beams do not fit\nat all")

    def look(changes=SETTLED):
        """Look as the command does; returns what it prints."""
        said = []
        with pytest.raises(KeyboardInterrupt):
            watching.keep_watching(str(config), str(out), changes, once=False, interval=60.0, tell=said.append)
        return said

    with monkeypatch.context() as patch:
        patch.setattr(workflow, "process", broken)
        assert "unexpected ValueError: beams do not fit" in look()
        start = clock.now
        for _ in range(30):
            clock.now += 300.0
            look()
        assert [round(t - start) for t in tried] == [0, 300, 1500]
        aside = "set aside after 3 unexpected errors (unexpected ValueError: beams do not fit): nothing is tried before files,"
        assert watch(str(config), str(out), SETTLED, return_state=True).name == "Unchanged"
        assert aside in watch(str(config), str(out), SETTLED, return_state=True).message
        # something else: once more
        look([*SETTLED, "kinetics.power=1"])
        assert len(tried) == 4
        look([*SETTLED, "kinetics.power=1"])
        assert len(tried) == 4
    # other datasets are none the worse, and the cure works
    done = watch(str(config), str(tmp_path / "other"), SETTLED, return_state=True)
    assert done.message.startswith("v0001")
    done = watch(str(config), str(out), [*SETTLED, "kinetics.power=2"], return_state=True)
    assert done.message.startswith("v0001")


def test_a_look_that_fails_is_not_repeated_at_once(api, incoming, tmp_path, monkeypatch):
    config, out = str(incoming / "config.yaml"), str(tmp_path / "out")
    clock = Clock(monkeypatch, watching, watcher)
    looked = []

    def broken(*_args, **_options):
        looked.append(clock.now)
        raise RecursionError("too deep")

    monkeypatch.setattr(watcher, "look", broken)
    failed = watch(config, out, SETTLED, return_state=True)
    assert failed.is_failed()
    assert failed.message == "unexpected RecursionError: too deep"
    again = watch(config, out, SETTLED, return_state=True)
    assert again.name == "Unchanged"
    assert again.message == "failed, 1 in a row (unexpected RecursionError: too deep): tried again later"
    said = []
    with pytest.raises(KeyboardInterrupt):
        watching.keep_watching(config, out, SETTLED, once=False, interval=60.0, tell=said.append)
    assert said == [again.message]
    clock.now += 301
    assert watch(config, out, SETTLED, return_state=True).is_failed()
    assert len(looked) == 2
