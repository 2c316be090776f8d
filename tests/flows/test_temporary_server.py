"""The temporary Prefect server, and what becomes of flows whose server cannot be reached."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import psutil
import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from flows import compat, server
from pipeline.errors import ConfigError, TrxasError


@pytest.fixture
def temporary(prefect_home, monkeypatch):
    """Let flows use a temporary server, whatever server other tests use; end it afterwards."""
    monkeypatch.setenv("PREFECT_HOME", str(prefect_home))
    monkeypatch.setattr(server, "_process", None)
    monkeypatch.setattr(server, "_url", "")
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        yield
    if server._process is not None:
        with server._process as process:
            process.kill()


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


@pytest.mark.long
def test_a_killed_server_ends_the_flow_with_one_line(temporary):
    @task(tags=["step"], cache_policy=NO_CACHE)
    def step():
        server._process.kill()
        server._process.wait()

    @flow(name="loses-its-server")
    def loses():
        assert not server.is_persistent()
        server.retry_while_unreachable(step)
        server.retry_while_unreachable(step)

    lost = r"^Prefect's temporary server went away \(.*\); what is finished is kept: run the same command again$"
    with pytest.raises(TrxasError, match=lost), server.running():
        loses()


def test_it_ends_with_its_process_however_that_ends(prefect_home):
    code = (
        "from flows import server\n"
        "server.start()\n"
        "with server.running():\n"
        "    print(server._process.pid, flush=True)\n"
        "    input()\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as user:
        serving = psutil.Process(int(user.stdout.readline()))
        user.kill()
    serving.wait(timeout=30)


def test_tables_are_made_once_and_again_where_they_are_damaged(temporary, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    import prefect

    tables = tmp_path / f"trxas-tables-{prefect.__version__}.db"
    tables.write_bytes(b"no database")
    with server.running():
        pass
    with closing(sqlite3.connect(tables)) as saved:
        assert saved.execute("SELECT count(*) FROM flow_run").fetchone() == (0,)
    assert [path.name for path in tmp_path.glob("trxas-*")] == [tables.name]


def test_a_temporary_server_that_does_not_start_is_told(temporary, monkeypatch):
    monkeypatch.setattr(server.sys, "executable", "/bin/false")
    with (
        pytest.raises(TrxasError, match=r"^Prefect's temporary server does not start; `trxas"),
        server.running(),
    ):
        pass


def test_without_an_application_to_serve_prefect_starts_its_own_server(temporary, tmp_path, monkeypatch, caplog):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexit {compat.NOT_SERVED}\n")
    python.chmod(0o755)
    monkeypatch.setattr(server.sys, "executable", str(python))
    with server.running():
        assert not server.is_persistent()
        assert get_current_settings().api.url is None
        assert get_current_settings().server.ephemeral.enabled
    assert "this Prefect serves no temporary API to trxas" in caplog.text


def test_the_application_is_there_and_known_to_be_missing(monkeypatch):
    assert "/api" in {route.path for route in compat.prefect_app().routes}
    monkeypatch.setitem(sys.modules, "prefect.server.api.server", None)
    assert compat.prefect_app() is None


def test_a_configured_server_that_does_not_answer_is_told(temporary):
    with server.socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/api"
    # as where a profile names the server, which is not known before Prefect is imported
    server.start()
    with (
        temporary_settings({PREFECT_API_URL: url}),
        pytest.raises(ConfigError, match=f"^PREFECT_API_URL: no Prefect server answers at {url}; start it, or unset"),
        server.running(),
    ):
        pass
    assert server._process.wait(timeout=30)


def test_a_configured_server_that_goes_away_is_told_by_its_address(api):
    url = str(api.api_url).rstrip("/")
    with (
        pytest.raises(
            TrxasError, match=rf"^the Prefect server at {url} went away \(no way\); what is finished is kept"
        ),
        server.running(),
    ):
        raise httpx.ConnectError("no way")


def test_other_errors_pass_unchanged(api):
    with pytest.raises(ZeroDivisionError), server.running():
        raise ZeroDivisionError


def failing(times, error):
    """Return a task that fails so many times because of an error, and what it waited before each attempt."""
    waited = []

    def step():
        if len(waited) < times:
            raise RuntimeError("no slots") from error
        return "done"

    step.name = "step"
    return step, waited


REFUSAL = httpx.HTTPStatusError("404", request=httpx.Request("GET", "http://x"), response=httpx.Response(404))


def test_a_task_is_tried_again_while_its_server_is_away(api, monkeypatch, caplog):
    step, waited = failing(2, httpx.ConnectError("no way"))
    monkeypatch.setattr(server.time, "sleep", waited.append)
    assert server.retry_while_unreachable(step) == "done"
    assert waited == [5.0, 10.0]
    assert caplog.text.count("step: cannot reach the Prefect server") == 2


def test_a_server_that_stays_away_ends_the_task(api, monkeypatch):
    step, waited = failing(100, httpx.ConnectError("no way"))
    monkeypatch.setattr(server.time, "sleep", waited.append)
    with pytest.raises(RuntimeError, match="no slots"):
        server.retry_while_unreachable(step)
    assert waited == server.PAUSES


@pytest.mark.parametrize("error", [ValueError("not for a server"), REFUSAL])
def test_an_answer_of_the_server_is_not_asked_for_again(api, monkeypatch, error):
    step, waited = failing(100, error)
    monkeypatch.setattr(server.time, "sleep", waited.append)
    with pytest.raises(RuntimeError, match="no slots"):
        server.retry_while_unreachable(step)
    assert not waited
