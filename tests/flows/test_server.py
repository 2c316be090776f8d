"""A real Prefect server, a process worker and the deployments, by the commands that the documentation names."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import httpx
import pytest
import yaml

from flows import deploy
from tests.flows.conftest import aged

ROOT = Path(__file__).parents[2]
PREFECT = [sys.executable, "-m", "prefect"]


def until(ask, seconds=100.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := ask():
            return found
        time.sleep(0.2)
    raise AssertionError(f"nothing after {seconds} s")


@pytest.fixture(scope="module")
def served(first_run, tmp_path_factory):
    """Start a server on loopback; return the environment of its users and a client."""
    home = tmp_path_factory.mktemp("server") / "home"
    home.mkdir()
    # making the tables takes the server ten seconds
    shutil.copy(next((first_run / "prefect").glob("trxas-tables-*.db")), home / "prefect.db")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | settings
    command = [*PREFECT, "server", "start", "--no-ui", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def healthy():
        try:
            return urllib.request.urlopen(f"{settings['PREFECT_API_URL']}/health").status == 200
        except OSError:
            return False

    try:
        until(healthy)
        with httpx.Client(base_url=settings["PREFECT_API_URL"], timeout=60) as client:
            yield environment, client, home
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.fixture(scope="module")
def deployed(served, tiny, tmp_path_factory):
    """Deploy a dataset of which only the calibration runs are there; return its deployments by flow name."""
    environment, client, _ = served
    folder = tmp_path_factory.mktemp("deployed")
    for name in ("config.yaml", "dos_ground.txt", "dos_excited.txt"):
        shutil.copy(tiny.out / name, folder)
    for number in (1, 2):
        shutil.copytree(tiny.out / "raw" / f"r{number:04d}", folder / "raw" / f"r{number:04d}")
    aged(folder)
    command = [sys.executable, "-m", "flows.cli", "deploy", str(folder / "config.yaml"), "--interval", "600"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "prefect worker start --pool trxas" in done.stdout
    flows = {f["id"]: f["name"] for f in client.post("/flows/filter", json={}).json()}
    return {flows[d["flow_id"]]: d for d in client.post("/deployments/filter", json={}).json()}


def test_deployments_have_tags_schedule_pool_and_typed_parameters(deployed, served):
    assert set(deployed) == {"trxas-process", "trxas-reprocess", "trxas-watch"}
    for one in deployed.values():
        assert one["name"] == "tiny"
        assert one["work_pool_name"] == "trxas"
        assert set(one["tags"]) == {"trxas", "dataset:tiny"}
        assert one["enforce_parameter_schema"]
    assert [s["schedule"]["interval"] for s in deployed["trxas-watch"]["schedules"]] == [600.0]
    assert deployed["trxas-watch"]["schedules"][0]["active"]
    assert not deployed["trxas-process"]["schedules"]
    wrong = {"parameters": {"stage": "everything"}, "state": {"type": "SCHEDULED"}}
    answer = served[1].post(f"/deployments/{deployed['trxas-reprocess']['id']}/create_flow_run", json=wrong)
    assert answer.status_code in (409, 422)
    assert "everything" in answer.text


def test_a_worker_runs_a_deployment(deployed, served):
    environment, client, home = served
    command = [*PREFECT, "worker", "start", "--pool", "trxas", "--type", "process", "--run-once"]
    made = {"state": {"type": "SCHEDULED"}}
    run = client.post(f"/deployments/{deployed['trxas-watch']['id']}/create_flow_run", json=made).json()
    with (home / "worker.log").open("w") as log:
        worker = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def ended():
        state = client.get(f"/flow_runs/{run['id']}").json()
        return state if state["state_type"] in ("COMPLETED", "FAILED", "CRASHED") else None

    try:
        final = until(ended, 180)
        # the flow's process still sends its last logs, and the worker waits for it
        worker.wait(timeout=60)
    finally:
        worker.kill()
        worker.wait()
    assert (final["state"]["name"], final["name"]) == ("Unchanged", "watch-tiny"), (home / "worker.log").read_text()
    assert final["state"]["message"] == "complete runs: 1, 2; waiting: 3, 4, 5, 6; waiting for the first scan"
    wanted = {"logs": {"flow_run_id": {"any_": [run["id"]]}}}
    # the server records logs a moment after states
    until(lambda: "run 1: complete" in [line["message"] for line in client.post("/logs/filter", json=wanted).json()])


def test_the_server_schedules_the_watcher(deployed, served):
    wanted = {
        "deployments": {"id": {"any_": [deployed["trxas-watch"]["id"]]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
    }
    assert until(lambda: served[1].post("/flow_runs/filter", json=wanted).json())


def test_the_checked_in_file_is_what_prefect_reads():
    """`prefect deploy --prefect-file` and `trxas deploy` take the same entries."""
    entries = yaml.safe_load(deploy.FILE.read_text(encoding="utf-8"))["deployments"]
    filled = deploy.definitions("/data/config.yaml", "mine")
    assert [e["entrypoint"] for e in entries] == [f["entrypoint"] for f in filled]
    assert {f["name"] for f in filled} == {"mine"}
    assert {f["parameters"]["config"] for f in filled} == {"/data/config.yaml"}
    assert "TRXAS" not in str(filled)
    assert all(f["work_pool"]["job_variables"]["env"]["DO_NOT_TRACK"] == "1" for f in filled)
