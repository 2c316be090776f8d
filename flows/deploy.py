"""`trxas deploy`: the deployments of `prefect.yaml` for one dataset, on a running Prefect server."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectAlreadyExists
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.types.entrypoint import EntrypointType

from flows import server
from pipeline.errors import ConfigError
from pipeline.job import load_job

__all__ = ["definitions", "deploy"]

FILE = Path(__file__).with_name("prefect.yaml")


def deploy(
    config: Path, out: str | None, work: str | None = None, *, interval: float | None, cron: str | None, pool: str
) -> str:
    """Create or update the deployments of a dataset and the work pool; returns what to do next, as text.

    Raises
    ------
    ConfigError
        If the config is wrong, both kinds of schedule are given, or there is no server.
    """
    job = load_job(config, out, work=work)
    if interval is not None and cron is not None:
        raise ConfigError("--interval and --cron: give one of them")
    if not server.is_persistent():
        raise ConfigError(
            "PREFECT_API_URL: deployments need a Prefect server: run `prefect server start`, then set it to "
            "http://127.0.0.1:4200/api here and for the worker"
        )
    dataset = job.config.dataset
    parameters = {"config": str(config.resolve())}
    # a worker has another working folder: absolute paths
    parameters |= {} if out is None else {"out": str(job.target or job.out)}
    parameters |= {} if work is None else {"work": str(Path(work).resolve())}
    with server.running():
        with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        for one in definitions(parameters["config"], dataset):
            _apply(one, dataset, parameters, pool, interval, cron)
    return "\n".join(
        [
            f"deployments: trxas-process/{dataset}, trxas-reprocess/{dataset}, trxas-watch/{dataset}",
            "work is done by a worker (one per machine is enough):",
            f"  prefect worker start --pool {pool} --type process",
            "on demand:",
            f"  prefect deployment run trxas-process/{dataset} --watch",
            f"  prefect deployment run trxas-reprocess/{dataset} --param stage=fits --param 'changes=[\"kinetics.power=1\"]'",
        ]
    )


def definitions(config: str, dataset: str) -> list[dict[str, Any]]:
    """Return the deployments of `prefect.yaml` with the two variables filled in."""
    text = FILE.read_text(encoding="utf-8")
    for name, value in (("TRXAS_CONFIG", config), ("TRXAS_DATASET", dataset)):
        text = text.replace(f"{{{{ ${name} }}}}", value)
    return list(yaml.safe_load(text)["deployments"])


def _apply(
    one: dict[str, Any], dataset: str, parameters: dict[str, str], pool: str, interval: float | None, cron: str | None
) -> None:
    flow: Flow[..., Any] = load_flow_from_entrypoint(one["entrypoint"], use_placeholder_flow=False)
    limit = one["concurrency_limit"]
    scheduled = "schedules" in one
    deployment = RunnerDeployment.from_flow(
        flow,
        name=dataset,
        description=one["description"],
        tags=one["tags"],
        parameters=one["parameters"] | parameters,
        concurrency_limit=ConcurrencyLimitConfig.model_validate(limit) if isinstance(limit, dict) else limit,
        interval=timedelta(seconds=interval) if scheduled and interval is not None else None,
        cron=cron if scheduled else None,
        work_pool_name=pool,
        job_variables=one["work_pool"]["job_variables"],
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    deployment.apply()
