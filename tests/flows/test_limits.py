"""The limit of one heavy task per machine, on a server that others use too."""

from contextlib import contextmanager

import httpx

from flows import limits, server


def test_nobody_shares_a_temporary_server(monkeypatch):
    monkeypatch.setattr(server, "is_persistent", lambda: False)
    asked = limits_that_are_taken(monkeypatch, times=10**9)
    with limits.one_at_a_time():
        assert not asked


def test_only_one_heavy_task_runs_at_a_time(api):
    with limits.one_at_a_time():
        assert api.read_global_concurrency_limit_by_name(limits.limit_name()).active_slots == 1
    limit = api.read_global_concurrency_limit_by_name(limits.limit_name())
    assert (limit.limit, limit.active_slots) == (1, 0)


def limits_that_are_taken(monkeypatch, times):
    """Let the server refuse the machine's limit so many times; return what is asked of it."""
    asked = []

    @contextmanager
    def taken(name, **_):
        asked.append(name)
        if len(asked) <= times:
            raise TimeoutError
        yield

    monkeypatch.setattr(limits, "concurrency", taken)
    return asked


def test_who_waits_for_the_machine_says_so_and_how_to_free_it(api, monkeypatch, caplog):
    asked = limits_that_are_taken(monkeypatch, times=2)
    with limits.one_at_a_time():
        assert asked == [limits.limit_name()] * 3
    assert caplog.text.count(f"prefect gcl update {limits.limit_name()} --active-slots 0") == 2


def test_a_limit_that_cannot_be_released_costs_no_work(api, monkeypatch, caplog):
    @contextmanager
    def lost(name, **_):
        yield
        raise httpx.ConnectError("no way")

    monkeypatch.setattr(limits, "concurrency", lost)
    with limits.one_at_a_time():
        pass
    assert "could not be released" in caplog.text


def test_a_limit_that_is_held_for_ever_stops_nothing(api, monkeypatch, caplog):
    asked = limits_that_are_taken(monkeypatch, times=10**9)
    monkeypatch.setenv("TRXAS_TIMEOUT_HOURS", "1e-5")
    with limits.one_at_a_time():
        assert asked
    assert "going on without it" in caplog.text
