"""The `trxas` command: a thin door. Every verb parses, calls one function and prints; heavy imports wait until needed."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from cyclopts import App, CycloptsError, Parameter, validators

from flows import settings
from pipeline.errors import ConfigError, TrxasError

if TYPE_CHECKING:
    from flows.process import Stage

__all__ = ["app", "main"]

app = App(
    name="trxas",
    help="From raw European XFEL detector frames of a pump-probe absorption experiment to physics.",
    help_format="plaintext",
    version_flags=["--version"],
)

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """Options of every verb."""

    log_level: Level = "WARNING"
    "How much is logged on stderr."
    progress: bool = True
    "Show progress bars."

    def start(self) -> None:
        """Set up logging and Prefect's environment."""
        # what goes wrong is told in one line of ours; Prefect would add a traceback per task
        quiet = self.log_level in ("WARNING", "ERROR")
        settings.apply(settings.QUIET if quiet else self.log_level)
        logging.basicConfig(level=self.log_level, format="%(levelname)s %(message)s", stream=sys.stderr)
        settings.tell_prefect(min(logging.INFO, logging.getLevelNamesMapping()[self.log_level]))
        for handler in logging.getLogger().handlers:
            handler.setLevel(self.log_level)
            handler.addFilter(lambda record: not quiet or not record.name.startswith("prefect"))


Out = Annotated[str | None, Parameter(name="--out")]
Work = Annotated[Path | None, Parameter(name="--work")]
Json = Annotated[bool, Parameter(name="--json", negative="")]


@app.command
def demo(*, out: Path = Path("demo"), common: Common = Common()) -> None:
    """Simulate the seed experiment small, process it, and print the summary beside the simulated truth.

    Parameters
    ----------
    out
        Folder for raw runs and products.
    """
    common.start()
    from flows.demo import run_demo

    print(run_demo(out, progress=common.progress))


@app.command
def simulate(scenario: str, *, out: Path, seed: int | None = None, common: Common = Common()) -> None:
    """Write a scenario as EuXFEL runs, with a config to process them and the truth.

    Parameters
    ----------
    scenario
        A scenario file, or the name of one in sample_runs (demo, tiny, …).
    out
        Folder for raw/, config.yaml and truth.json.
    seed
        Other random numbers than the scenario's own.
    """
    common.start()
    from flows.demo import run_simulation

    print(run_simulation(scenario, out, seed, progress=common.progress) / "config.yaml")


@app.command
def inspect(
    raw_run: Path,
    *,
    instrument: str = "scs-dssc-boz",
    as_json: Json = False,
    common: Common = Common(),
) -> None:
    """Show what is in a raw run, what moved, and what is wrong with it.

    Parameters
    ----------
    raw_run
        Folder of the run.
    instrument
        Profile name or file.
    as_json
        Print JSON.
    """
    common.start()
    from pipeline.survey import inspect_run, inspect_text

    report = inspect_run(raw_run, _instrument(instrument))
    print(json.dumps(report, indent=1) if as_json else inspect_text(report))


@app.command
def init(
    raw_dir: Path,
    *,
    output: Annotated[Path, Parameter(name=["-o", "--output"])] = Path("config.yaml"),
    instrument: str = "scs-dssc-boz",
    common: Common = Common(),
) -> None:
    """Inspect every run of a folder, classify it, and write a config to edit.

    Parameters
    ----------
    raw_dir
        Folder of rNNNN runs.
    output
        Config file to write; an existing one is not overwritten.
    instrument
        Profile name or file.
    """
    common.start()
    from pipeline.survey import classify, config_text

    if output.exists():
        raise ConfigError(f"{output} exists; name another file with -o")
    if not raw_dir.is_dir():
        raise ConfigError(f"{raw_dir} is not a folder")
    found, overrides = classify(raw_dir, _instrument(instrument))
    output.write_text(config_text(raw_dir.resolve(), found, overrides, instrument=instrument), encoding="utf-8")
    for run in found:
        print(f"run {run['run']:4d}  {run['kind']}")
    print(output)


@app.command
def process(
    config: Path,
    *,
    out: Out = None,
    work: Work = None,
    changes: Annotated[list[str], Parameter(name="--set", consume_multiple=True, negative="")] = [],
    common: Common = Common(),
) -> None:
    """Run the Prefect flow from raw runs to a published product; goes on where it stopped, skips what is current.

    Parameters
    ----------
    config
        Config file.
    out
        Output folder, or a URL to publish to (s3://bucket/prefix); `out` beside the config unless given.
    work
        Folder of the working stores; the output folder, or `out` beside the config where products go to a URL.
    changes
        key=value changes of the config.
    """
    _run_flow(config, out, work, changes, None, common)


@app.command
def reprocess(
    config: Path,
    *,
    stage: Annotated[str, Parameter(name="--from")],
    changes: Annotated[list[str], Parameter(name="--set", consume_multiple=True, negative="")] = [],
    out: Out = None,
    work: Work = None,
    common: Common = Common(),
) -> None:
    """Process again from a stage on; what comes before is taken from the stores.

    Parameters
    ----------
    config
        Config file.
    stage
        frames, pulses, spectra or fits.
    changes
        key=value changes of the config, e.g. kinetics.power=1.
    out
        Output folder, or a URL to publish to (s3://bucket/prefix); `out` beside the config unless given.
    work
        Folder of the working stores; the output folder, or `out` beside the config where products go to a URL.
    """
    _run_flow(config, out, work, changes, stage, common)


def _run_flow(
    config: Path, out: str | None, work: Path | None, changes: list[str], stage: str | None, common: Common
) -> None:
    common.start()
    from flows import server

    # the temporary server gets ready while the rest is imported
    server.start()
    from pipeline.job import load_job
    from pipeline.workflow import STAGES

    # a config that is wrong is told before a flow starts
    load_job(config, out, changes, work=work)
    if stage is not None and stage not in STAGES:
        raise ConfigError(f"--from {stage}: not one of {', '.join(STAGES)}")
    from flows import progress
    from flows.process import process as flow
    from flows.process import reprocess as flow_from

    stores = None if work is None else str(work)
    with server.running(), progress.shown(common.progress):
        if stage is None:
            version = flow(str(config), out, changes, work=stores)
        else:
            version = flow_from(str(config), cast("Stage", stage), changes, out, work=stores)
    _print_summary(version)


@app.command
def watch(
    config: Path,
    *,
    out: Out = None,
    work: Work = None,
    once: Annotated[bool, Parameter(negative="")] = False,
    interval: Annotated[float, Parameter(validator=validators.Number(gt=0))] = 60.0,
    changes: Annotated[list[str], Parameter(name="--set", consume_multiple=True, negative="")] = [],
    common: Common = Common(),
) -> None:
    """Look at the raw folder again and again; process and publish runs as they become complete.

    Parameters
    ----------
    config
        Config file; its `watch:` section says what becomes of runs that are not listed.
    out
        Output folder, or a URL to publish to; `out` beside the config unless given.
    work
        Folder of the working stores; the output folder, or `out` beside the config where products go to a URL.
    once
        Look once and end.
    interval
        Seconds between looks.
    changes
        key=value changes of the config.
    """
    common.start()
    from flows import progress
    from flows.keep_watching import keep_watching

    with progress.shown(common.progress):
        keep_watching(
            str(config),
            out,
            changes,
            work=None if work is None else str(work),
            once=once,
            interval=interval,
            tell=lambda text: print(text, flush=True),
        )


@app.command
def deploy(
    config: Path,
    *,
    out: Out = None,
    work: Work = None,
    interval: Annotated[float | None, Parameter(validator=validators.Number(gt=0))] = None,
    cron: str | None = None,
    pool: str = "trxas",
    common: Common = Common(),
) -> None:
    """Make the Prefect deployments of a dataset: process, reprocess and watch; needs a Prefect server.

    Parameters
    ----------
    config
        Config file.
    out
        Output folder, or a URL to publish to; `out` beside the config unless given.
    work
        Folder of the working stores; the output folder, or `out` beside the config where products go to a URL.
    interval
        Seconds between looks of the watching deployment.
    cron
        When the watching deployment looks, e.g. "*/10 * * * *".
    pool
        Work pool; made (for workers that start processes) where it is missing.
    """
    common.start()
    from flows.deploy import deploy as make

    print(make(config, out, work, interval=interval, cron=cron, pool=pool))


@app.command
def validate(product: str, *, common: Common = Common()) -> None:
    """Check a product against its schema; exit 1 and one line per fault.

    Parameters
    ----------
    product
        A version, its product.zarr, or an output folder; a path or a URL.
    """
    common.start()
    from pipeline.errors import ProductError
    from pipeline.io import publish

    version = publish.resolve(product)
    faults = publish.check(version)
    if faults:
        raise ProductError("\n".join(faults))
    print(f"{version}: valid{publish.age(version)}")


@app.command
def show(
    product: str,
    other: str | None = None,
    *,
    against: str | None = None,
    as_json: Json = False,
    common: Common = Common(),
) -> None:
    """Print the summary of a product, or what changed between two versions: config, code, inputs, numbers and arrays.

    Parameters
    ----------
    product
        A version, its product.zarr, or an output folder; a path or a URL.
    other
        A second one: what changed from the first to this.
    against
        The same the other way round: what changed from this one to PRODUCT. A bare name (v0001) is a version beside PRODUCT.
    as_json
        Print JSON: summary.json, or the comparison.
    """
    common.start()
    if other is not None and against is not None:
        raise ConfigError("--against: two products are named already")
    if other is not None or against is not None:
        _print_comparison(*((against, product) if other is None else (product, other)), as_json=as_json)
        return
    from pipeline.io import publish

    version = publish.resolve(product)
    if as_json:
        print(json.dumps(publish.read_summary(version), indent=1, ensure_ascii=False))
    else:
        _print_summary(str(version))


def _print_summary(where: str) -> None:
    from pipeline.errors import ProductError
    from pipeline.io import publish
    from pipeline.summary import summary_text

    version = publish.resolve(where)
    try:
        print(summary_text(publish.read_summary(version)))
    except (KeyError, TypeError, AttributeError) as error:
        raise ProductError(
            f"{version}: summary.json lacks {error}; `trxas validate` lists every fault, processing again writes it anew"
        ) from None
    print(f"product  {version / 'product.zarr'}{publish.age(version)}\nfigures  {version / 'figures'}")


def _print_comparison(old: str | None, new: str | None, *, as_json: bool) -> None:
    from pipeline.comparing import compare_versions, comparison_text

    compared = compare_versions(str(old), str(new))
    print(json.dumps(compared, indent=1, ensure_ascii=False) if as_json else comparison_text(compared))


@app.command
def dashboard(out: Path, *, port: int = 8080, host: str = "127.0.0.1", common: Common = Common()) -> None:
    """Serve the products of an output folder to a browser: linked views, quality, provenance; follows new versions.

    Parameters
    ----------
    out
        Output folder.
    port
        Port to listen on; 0 takes a free one.
    host
        Address to listen on. Anybody who can reach it can read the products.
    """
    common.start()
    from pipeline.dashboard.server import make_server

    if not out.is_dir():
        raise ConfigError(f"{out} is not a folder")
    try:
        server = make_server(out, port, host=host)
    except OSError as error:
        raise ConfigError(f"--host {host} --port {port}: {error.strerror}; choose another") from None
    server.start()
    print(f"http://{host}:{server.port}", flush=True)
    try:
        server.io_loop.start()
    except KeyboardInterrupt:
        server.stop()


@app.command
def plan(
    path: str,
    *,
    as_json: Json = False,
    changes: Annotated[list[str], Parameter(name="--set", consume_multiple=True, negative="")] = [],
    planned: Annotated[bool, Parameter(name="--planned", negative="")] = False,
    out: Out = None,
    common: Common = Common(),
) -> None:
    """Tell which errors on the times to expect, how many shots a target takes, and which delays would be better.

    Parameters
    ----------
    path
        A product (a path or a URL), or a config: its product if it was processed, else its `plan` section or that section's defaults.
    as_json
        Print JSON.
    changes
        key=value changes of the config, e.g. plan.trains=20.
    planned
        Use the config's `plan` section even if there is a product.
    out
        Output folder of the config's product; `out` beside the config unless given.
    """
    common.start()
    from pipeline.planning import make_plan, plan_text

    result = make_plan(path, changes, out=out, from_config=planned)
    print(json.dumps(result, indent=1, ensure_ascii=False) if as_json else plan_text(result))


@app.command
def export(
    product: str,
    *,
    format_name: Annotated[Literal["nexus", "xdi", "csv"], Parameter(name="--format")],
    out: Path | None = None,
    common: Common = Common(),
) -> None:
    """Write a product for other programs.

    Parameters
    ----------
    product
        A version, its product.zarr, or an output folder; a path or a URL.
    format_name
        nexus, xdi or csv.
    out
        Folder for the files; `export` in the current folder unless given.
    """
    common.start()
    from pipeline.io import publish, store
    from pipeline.io.export import export as write

    tree = store.open_tree(publish.resolve(product) / "product.zarr")
    for path in write(tree, format_name, out or Path("export")):
        print(path)


@app.command
def doctor(*, common: Common = Common()) -> None:
    """Show versions, settings, disk and memory, and what would stop a run here."""
    common.start()
    from flows.doctor import examine

    report, faults = examine()
    print(report)
    if faults:
        raise TrxasError("\n".join(faults))


def _instrument(name: str) -> Any:
    from schemas.instrument import load_instrument

    try:
        return load_instrument(name)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit: 0 done, 1 data or product at fault, 2 usage or config error."""
    arguments = _common_last(sys.argv[1:] if arguments is None else arguments)
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        _fail(" ".join(str(error).split()), 2)
    except TrxasError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted; the next run goes on from here", 130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        logging.getLogger("trxas").debug("traceback", exc_info=True)
        text = str(error).splitlines()[0] if str(error) else ""
        _fail(f"unexpected {type(error).__name__}: {text} (--log-level DEBUG shows where; this is a fault of trxas)", 1)
    sys.exit(0)


def _common_last(arguments: list[str]) -> list[str]:
    """Move the common options behind the verb, where the parser knows them: they may be written before it too."""
    first = 0
    while first < len(arguments) and arguments[first].startswith(("--log-level", "--no-progress", "--progress")):
        first += 2 if arguments[first] == "--log-level" else 1
    return arguments[first:] + arguments[:first] if first < len(arguments) else arguments


def _fail(message: str, code: int) -> None:
    for line in message.splitlines() or [""]:
        print(f"trxas: {line}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
