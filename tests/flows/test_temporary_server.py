"""The temporary Prefect server: one at a time at its database, patient with other processes, replaced when it is killed."""

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import psutil
import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows import limits, server, serving
from flows.steady import steady
from pipeline.errors import TrxasError


def test_requests_at_once_wait_for_each_other_and_none_is_refused(api):
    """With several connections to its database the server refused some, and at times stood still for a minute."""

    def ask(number):
        body = {"key": f"many-{number % 3}", "type": "markdown", "data": "x" * 1000}
        limits = {"slots": 1, "names": ["tag:many"]}
        with httpx.Client(base_url=str(api.api_url), timeout=20) as client:
            asked = [client.post("/artifacts/", json=body) for _ in range(10)]
            asked += [client.post("/v2/concurrency_limits/increment-with-lease", json=limits) for _ in range(10)]
        return {answer.status_code for answer in asked}

    with ThreadPoolExecutor(8) as threads:
        assert set().union(*threads.map(ask, range(16))) == {200, 201}


def test_a_killed_server_is_replaced_and_the_flow_goes_on(api, caplog, monkeypatch, tmp_path):
    # the one that takes over must look where the first one did
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))

    @task(tags=["survives"], cache_policy=NO_CACHE)
    def step(number):
        return number

    @flow(name="survives")
    def survives():
        first = step(1)
        (server,) = [p for p in psutil.Process().children() if "flows.serving" in p.cmdline()]
        server.kill()
        return first + step(2)

    state = survives(return_state=True)
    assert state.result() == 3
    assert "was killed; another one takes over" in caplog.text
    assert api.read_flow_run(state.state_details.flow_run_id).state.is_completed()


def test_a_server_that_goes_away_is_told_in_one_line():
    with (
        pytest.raises(TrxasError, match=r"^the Prefect server at there went away \(no way\); what is finished is kept"),
        server._told("there"),
    ):
        raise httpx.ConnectError("no way")


def test_a_task_outlasts_a_server_that_is_away_for_a_while(monkeypatch, caplog):
    waited = []
    monkeypatch.setattr("flows.steady.time.sleep", waited.append)

    def step(times, error):
        if len(waited) < times:
            raise RuntimeError("no slots") from error
        return "done"

    step.name = "step"
    away = httpx.ConnectError("no way")
    assert steady(step, 2, away) == "done"
    assert waited == [5.0, 10.0]
    assert caplog.text.count("step: the Prefect server does not answer") == 2
    with pytest.raises(RuntimeError):
        steady(step, 100, away)
    waited.clear()
    with pytest.raises(RuntimeError):
        steady(step, 100, ValueError("not for a server"))
    refusal = httpx.HTTPStatusError("404", request=httpx.Request("GET", "http://x"), response=httpx.Response(404))
    with pytest.raises(RuntimeError):
        steady(step, 100, refusal)
    assert not waited


def limits_that_are_taken(monkeypatch, times):
    """Let a server that lasts refuse the machine's limit so many times; return what is asked of it."""
    asked = []

    @contextmanager
    def taken(name, **_):
        asked.append(name)
        if len(asked) <= times:
            raise TimeoutError
        yield

    monkeypatch.setattr(server, "lasting", lambda: True)
    monkeypatch.setattr(limits, "concurrency", taken)
    return asked


def test_who_waits_for_the_machine_says_so_and_how_to_free_it(api, monkeypatch, caplog):
    asked = limits_that_are_taken(monkeypatch, times=2)
    with limits.one_at_a_time():
        assert asked == [limits.limit_name()] * 3
    assert caplog.text.count(f"prefect gcl update {limits.limit_name()} --active-slots 0") == 2


def test_a_limit_that_cannot_be_given_back_costs_no_work(api, monkeypatch, caplog):
    @contextmanager
    def lost(name, **_):
        yield
        raise httpx.ConnectError("no way")

    monkeypatch.setattr(server, "lasting", lambda: True)
    monkeypatch.setattr(limits, "concurrency", lost)
    with limits.one_at_a_time():
        pass
    assert "could not be given back" in caplog.text


def test_a_limit_that_is_held_for_ever_stops_nothing(api, monkeypatch, caplog):
    asked = limits_that_are_taken(monkeypatch, times=10**9)
    monkeypatch.setenv("TRXAS_TIMEOUT_HOURS", "1e-5")
    with limits.one_at_a_time():
        assert asked
    assert "going on without it" in caplog.text


def asked(app, body=b"what was sent", **scope):
    """Return what a client gets that posts a body."""
    told = [
        {"type": "http.request", "body": body[:4], "more_body": True},
        {"type": "http.request", "body": body[4:]},
    ]
    answer = []

    async def receive():
        return told.pop(0)

    async def send(message):
        answer.append(message)

    asyncio.run(serving.patient(app)({"type": "http", **scope}, receive, send))
    return answer


def locked(times, error=None):
    """Return an app whose database is locked so many times, and the bodies that it got."""
    bodies = []

    async def app(scope, receive, send):
        assert "path" not in scope
        scope["path"] = "changed on the way"
        message = await receive()
        bodies.append(message["body"])
        status = 503 if len(bodies) <= times else 201
        await send({"type": "http.response.start", "status": status})
        await send({"type": "http.response.body", "body": b"done"})
        if status == 503 and error is not None:
            raise error

    return app, bodies


@pytest.mark.parametrize("error", [None, sqlite3.OperationalError("database is locked")])
def test_a_request_that_finds_the_database_locked_is_made_again_unseen(error, monkeypatch):
    monkeypatch.setattr(serving, "PAUSE", 0.0)
    app, bodies = locked(3, error)
    assert [m.get("status", m.get("body")) for m in asked(app)] == [201, b"done"]
    assert bodies == [b"what was sent"] * 4


def test_a_database_that_stays_locked_is_told(monkeypatch):
    monkeypatch.setattr(serving, "PAUSE", 0.0)
    monkeypatch.setattr(serving, "ATTEMPTS", 5)
    app, bodies = locked(100)
    assert asked(app)[0]["status"] == 503
    assert len(bodies) == 5


def test_a_fault_before_any_answer_is_raised():
    async def app(scope, receive, send):
        raise RuntimeError("no answer")

    with pytest.raises(RuntimeError, match="no answer"):
        asked(app)
