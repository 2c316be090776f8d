"""What is told where stderr is no terminal."""

import re

from flows import progress


def test_a_line_per_piece_of_work_with_its_time(capsys):
    work = progress.timed(lambda run: f"run {run}", lambda run: run != 3)
    with progress.shown(True):
        assert work(2) is True
        assert work(3) is False
        progress.report("run 2", 1, 2)
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"INFO \d\d:\d\d:\d\d run 2: \d+\.\d s", first)
    assert second.endswith("run 3: is current")


def test_nothing_is_told_unless_asked_for(capsys):
    work = progress.timed(lambda: "work", lambda: None)
    work()
    with progress.shown(False):
        work()
    assert capsys.readouterr().err == ""


def test_long_work_shows_that_it_lives(capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with progress.shown(True):
        for done in range(1, 5):
            progress.report("frames", done, 4)
    assert [line.split(": ")[1] for line in capsys.readouterr().err.splitlines()] == ["25 %", "50 %", "75 %"]
