"""What a watcher takes for complete and new, driven by explicit times; no file is touched."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pipeline.watch.decide import LastProcessing, Memory, after_failure, look
from schemas.reading import parse_config

START = 1_000_000.0
SETTLE = 30.0


def config(**watch):
    runs = {"dark": 1, "flat_field": 2, "energy_scans": [{"run": 3, "fluence": 8.0}]}
    runs["delay_scans"] = [{"run": 4, "fluence": 8.0, "energy": 528.0}]
    return parse_config({"dataset": "d", "runs": runs, "watch": {"settle": SETTLE, **watch}})


def files(size=100, age=1000.0, *, now=START, sequences=1):
    return {f"RAW-R0001-DSSC15-S{n:05d}.h5": (size, int((now - age) * 1e9)) for n in range(sequences)}


class Watcher:
    """A memory, and what was asked about which runs."""

    def __init__(self, watched=None, kinds=None, faults=None):
        self.config, self.memory = watched or config(), Memory()
        self.kinds, self.faults = kinds or {}, faults or {}
        self.opened, self.classified = [], []

    def look(self, folder, now=START):
        def faults(number):
            self.opened.append(number)
            return self.faults.get(number, [])

        def kinds(numbers):
            self.classified.append(numbers)
            return {n: self.kinds[n] for n in numbers if n in self.kinds}

        seen, self.memory = look(self.config, folder, self.memory, now, faults=faults, kinds=kinds)
        return seen

    def processed(self, seen, version="v0001", error=None):
        runs = seen.ready if error is None else []
        self.memory = replace(self.memory, processed=LastProcessing(seen.key, runs, version, error))


def test_runs_that_are_there_are_processed_and_the_others_waited_for():
    watcher = Watcher()
    seen = watcher.look({1: files(), 2: files(), 3: files()})
    assert seen.news
    assert seen.ready == [1, 2, 3]
    assert list(seen.waiting) == [4]
    watcher.processed(seen)
    assert not watcher.look({1: files(), 2: files(), 3: files()}).news
    later = watcher.look({1: files(), 2: files(), 3: files(), 4: files()}, START + 60)
    assert later.news
    assert later.ready == [1, 2, 3, 4]
    assert not later.waiting


def test_a_run_that_grows_waits_until_it_is_quiet():
    watcher = Watcher()
    done = {1: files(), 2: files()}
    now = START
    for sequences in (1, 2, 3, 3):
        now += 10
        growing = files(size=100 + int(now), age=0, now=now, sequences=sequences)
        seen = watcher.look(done | {3: growing}, now)
        assert not seen.news
        assert seen.hold == "waiting for the first scan"
        assert seen.settled_in == SETTLE
    assert watcher.look(done | {3: growing}, now + SETTLE - 1).settled_in == 1
    assert 3 not in watcher.opened
    assert watcher.look(done | {3: growing}, now + SETTLE).news
    # one more sequence file: complete no longer, and complete again later
    more = files(age=0, now=now + 40, sequences=4)
    assert 3 not in watcher.look(done | {3: more}, now + 40).ready
    assert watcher.look(done | {3: more}, now + 40 + SETTLE).news


def test_a_clock_of_the_file_server_that_is_ahead_only_delays():
    watcher = Watcher()
    ahead = {n: files(age=-500) for n in (1, 2, 3)}
    assert not watcher.look(ahead).ready
    assert watcher.look(ahead, START + SETTLE).ready == [1, 2, 3]


def test_the_facilitys_marker_ends_the_waiting():
    watcher = Watcher()
    young = files(age=0)
    folder = {1: files(), 2: files(), 3: young}
    assert not watcher.look(folder).news
    marked = folder | {3: young | {"r0003.complete": (0, int(START * 1e9))}}
    assert watcher.look(marked).news


def test_a_folder_without_data_files_is_not_a_run_yet():
    watcher = Watcher()
    assert watcher.look({1: {}, 2: {"log.txt": (3, 0)}}).ready == []
    assert watcher.opened == []


def test_a_broken_run_is_told_once_and_does_not_stop_the_others():
    broken = "run 3: RAW.h5: cannot be read (truncated)"
    watcher = Watcher(faults={3: [broken]})
    folder = {n: files() for n in (1, 2, 3, 4)}
    seen = watcher.look(folder)
    assert seen.news
    assert [(n.code, n.severity, n.run, n.text) for n in seen.notes if n.severity != "info"] == [
        ("watch.unreadable", "fault", 3, broken)
    ]
    watcher.processed(seen, version=None, error="run 3 is at fault")
    again = watcher.look(folder, START + 60)
    assert not again.news
    assert again.notes == []
    assert watcher.opened == [1, 2, 3, 4]
    # the file comes whole: looked at again, and processed again
    watcher.faults = {}
    mended = watcher.look(folder | {3: files(size=101)}, START + 120)
    assert mended.news
    assert [(n.code, n.text) for n in mended.notes] == [("watch.complete", "run 3: complete")]


def test_scans_that_are_not_listed_are_added_with_the_fluence_of_the_config():
    kinds = {7: "delay_scan", 8: "energy_scan", 9: "dark"}
    watcher = Watcher(config(fluence=16.0), kinds)
    folder = {n: files() for n in (1, 2, 3, 4, 7, 8, 9)}
    seen = watcher.look(folder)
    assert seen.ready == [1, 2, 3, 4, 7, 8]
    assert seen.changes == [
        "runs.energy_scans=[{run: 3, fluence: 8.0}, {run: 8, fluence: 16.0}]",
        "runs.delay_scans=[{run: 4, fluence: 8.0, energy: 528.0}, {run: 7, fluence: 16.0}]",
    ]
    said = {n.run: n for n in seen.notes}
    assert (said[7].code, said[8].code, said[9].code) == ("watch.added", "watch.added", "watch.not_used")
    assert said[7].text == "run 7: complete, delay_scan, added with fluence 16 mJ/cm²"
    assert said[9].text == "run 9: complete, dark, not in the config and not used"
    watcher.look(folder, START + 60)
    assert watcher.classified == [[1, 2, 7, 8, 9]]


def test_scans_that_are_not_listed_are_told_once_where_the_fluence_is_not_known():
    watcher = Watcher(kinds={7: "delay_scan"})
    folder = {n: files() for n in (1, 2, 3, 4, 7)}
    first = watcher.look(folder)
    assert first.ready == [1, 2, 3, 4]
    (said,) = [n for n in first.notes if n.code == "watch.not_listed"]
    assert "add {run: 7, fluence: …} to runs.delay_scans" in said.text
    assert watcher.look(folder, START + 60).notes == []


def test_without_calibration_runs_nothing_is_processed_nor_classified():
    watcher = Watcher(config(fluence=1.0), {7: "delay_scan"})
    seen = watcher.look({2: files(), 3: files(), 7: files()})
    assert seen.hold == "waiting for calibration run 1"
    assert [(n.severity, n.text) for n in seen.notes if n.code == "watch.on_hold"] == [("info", seen.hold)]
    assert not seen.news
    assert watcher.classified == []


def test_a_run_of_the_product_that_goes_or_changes_holds_the_next_version():
    watcher = Watcher()
    folder = {n: files() for n in (1, 2, 3, 4)}
    watcher.processed(watcher.look(folder))
    gone = watcher.look({n: f for n, f in folder.items() if n != 4}, START + 60)
    assert not gone.news
    assert "run 4 is in the product and is gone" in gone.hold
    changing = watcher.look(folder | {4: files(age=0, now=START + 120)}, START + 120)
    assert not changing.news
    assert "run 4 is in the product and changes" in changing.hold
    assert watcher.look(folder | {4: files(age=0, now=START + 120)}, START + 120 + SETTLE).news


def test_another_config_is_news():
    watcher = Watcher()
    folder = {n: files() for n in (1, 2, 3, 4)}
    watcher.processed(watcher.look(folder))
    watcher.config = watcher.config.model_copy(update={"dataset": "other"})
    assert watcher.look(folder, START + 60).news


@given(
    st.lists(st.tuples(st.floats(0.5, 50), st.booleans(), st.integers(0, 3)), min_size=1, max_size=20),
)
def test_no_run_is_complete_that_changed_within_the_settling_time(history):
    watcher = Watcher()
    now, changed, size, shift = START, START, 1, 0.0
    for pause, grows, clock in history:
        now += pause
        if grows:
            # clocks of file servers are off by some seconds, never so that a change seems old
            size, changed, shift = size + 1, now, float(clock)
        current = files(size=size, age=-shift, now=changed)
        seen = watcher.look({1: files(), 2: files(), 3: current}, now)
        if now - changed < SETTLE:
            assert 3 not in seen.ready
    assert 3 in watcher.look({1: files(), 2: files(), 3: current}, now + SETTLE).ready


def test_what_failed_unexpectedly_is_tried_three_times_and_what_may_pass_for_ever():
    for failure, tries in (("unexpected", 3), ("passing", 5)):
        watcher, now, waits = Watcher(), START, []
        folder = {1: files(), 2: files(), 3: files()}
        for n in range(tries):
            seen = watcher.look(folder, now)
            assert seen.news
            last = after_failure(watcher.memory.processed, seen.key, "no luck", failure, now)
            watcher.memory = replace(watcher.memory, processed=last)
            assert (last.failure, last.failures) == (failure, n + 1)
            if last.again is None:
                break
            waits.append(last.again - now)
            assert not watcher.look(folder, last.again - 1).news
            now = last.again
        assert waits == ([300, 1200] if failure == "unexpected" else [300, 1200, 3600, 3600, 3600])
        rest = watcher.look(folder, now + 1e6)
        assert rest.news == (failure == "passing")
        assert ("set aside after 3 unexpected errors (no luck)" in rest.text) == (failure == "unexpected")
        # another run comes: it is tried, and not three times more
        seen = watcher.look(folder | {4: files()}, now)
        assert seen.news
        last = after_failure(watcher.memory.processed, seen.key, "no luck", failure, now)
        assert (last.again is None) == (failure == "unexpected")
        # an error of the data begins to count anew
        assert after_failure(last, seen.key, "run 3: empty", "expected", now).failures == 1


def test_other_code_is_tried_once_more():
    watched, folder = config(), {1: files(), 2: files(), 3: files()}
    faults, kinds = (lambda number: []), (lambda numbers: {})
    seen, memory = look(watched, folder, Memory(), START, faults=faults, kinds=kinds, code="one")
    memory = replace(memory, processed=LastProcessing(seen.key, seen.ready, "v0001"))
    assert not look(watched, folder, memory, START, faults=faults, kinds=kinds, code="one")[0].news
    assert look(watched, folder, memory, START, faults=faults, kinds=kinds, code="two")[0].news
