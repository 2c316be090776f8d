"""What is told where stderr is no terminal."""

import re

from flows import progress


def test_a_line_per_piece_of_work_with_its_time(capsys):
    with progress.shown(True):
        assert progress.timed("run 2", lambda: True) is True
        assert progress.timed("run 3", lambda: False) is False
        progress.report("run 2", 1, 2)
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"INFO \d\d:\d\d:\d\d run 2: \d+\.\d s", first)
    assert second.endswith("run 3: is current")


def test_nothing_is_told_unless_asked_for(capsys):
    progress.timed("work", lambda: None)
    with progress.shown(False):
        progress.timed("work", lambda: None)
    assert capsys.readouterr().err == ""


def test_long_work_shows_that_it_lives(capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with progress.shown(True):
        for done in range(1, 5):
            progress.report("frames", done, 4)
    assert [line.split(": ")[1] for line in capsys.readouterr().err.splitlines()] == ["25 %", "50 %", "75 %"]
