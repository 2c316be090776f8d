"""After processing: `show`, `t0`, `inject`, `validate`, `export`, `dashboard`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal, cast

from cyclopts import Parameter, validators

from flows.cli.options import COMMON, Changes, Common, ConfigFile, Json, Out, ProductName, Work
from pipeline.errors import ConfigError, ProductError

__all__ = ["dashboard", "export", "inject", "print_summary", "show", "t0", "validate"]


def show(
    product: ProductName,
    other: str | None = None,
    *,
    against: str | None = None,
    everything: Annotated[bool, Parameter(name="--all", negative="")] = False,
    budget: Annotated[bool, Parameter(negative="")] = False,
    as_json: Json = False,
    common: Common = COMMON,
) -> None:
    """Print the summary of a product, or what changed between two versions: config, code, inputs, numbers and arrays.

    Parameters
    ----------
    other
        A second product: show what changed from the first to this one.
    against
        An earlier product: show what changed from it to PRODUCT. A bare name (v0001) is a version beside PRODUCT.
    everything
        Show every change between two versions, not only the largest.
    budget
        Show what each source adds to the error of each number.
    """
    common.start()
    if other is not None and against is not None:
        raise ConfigError("--against: two products are named already")
    if other is not None or against is not None:
        from pipeline.results.compare import compare_versions, comparison_text

        compared = compare_versions(*((str(against), product) if other is None else (product, other)))
        if as_json:
            print(json.dumps(compared, indent=1, ensure_ascii=False))
        else:
            print(comparison_text(compared, **({"most": None} if everything else {})))
        return
    from pipeline.storage import versions

    version = versions.resolve_intact(product)
    if budget:
        from pipeline.results.budget_report import budget_text

        rows = cast("list[dict[str, object]]", versions.read_summary(version).get("budget", []))
        print(json.dumps(rows, indent=1, ensure_ascii=False) if as_json else budget_text(rows))
    elif as_json:
        print(json.dumps(versions.read_summary(version), indent=1, ensure_ascii=False))
    else:
        print_summary(str(version))


def t0(
    product: ProductName,
    *,
    write: Annotated[Path | None, Parameter(name="--write")] = None,
    common: Common = COMMON,
) -> None:
    """Tell where the delay scans of a product have time zero, in units of the stage, and where the figure is.

    Parameters
    ----------
    write
        Config file into which it is written as delay.t0; its comments stay.
    """
    common.start()
    from pipeline.results.time_zero_report import time_zero_text, write_t0

    text, position = time_zero_text(product)
    print(text)
    if write is not None:
        write_t0(write, position)
        print(f"{write}: delay.t0 is {position!r}")


def inject(
    config: ConfigFile,
    *,
    n: Annotated[int, Parameter(name="--n", validator=validators.Number(gte=1))] = 100,
    seed: int = 0,
    out: Out = None,
    work: Work = None,
    changes: Changes = [],
    common: Common = COMMON,
) -> None:
    """Put known signals into the pulses of a processed dataset and fit them: do errors hold, and how small a signal is found?

    Publishes the product with the group /injection; raw data are not read.

    Parameters
    ----------
    n
        Number of injected signals.
    seed
        Seed of the draws.
    """
    common.start()
    from flows import progress
    from pipeline import workflow
    from pipeline.job import load_job
    from pipeline.storage.claim import claimed

    job = load_job(config, out, changes, work=work)
    with claimed(job.out, "inject"), progress.shown(common.progress):
        version = workflow.inject(job, n=n, seed=seed, progress=progress.report)
    print_summary(str(version))


def validate(product: ProductName, *, common: Common = COMMON) -> None:
    """Check the files of a product, the hash of its arrays, and both against their schema; exit 1 and one line per fault."""
    common.start()
    from pipeline.storage import versions

    version = versions.resolve(product)
    faults = versions.check(version)
    if faults:
        raise ProductError("\n".join(faults))
    print(f"{version}: valid{versions.schema_remark(version)}")


def export(
    product: ProductName,
    *,
    format_name: Annotated[Literal["nexus", "xdi", "csv"], Parameter(name="--format")],
    out: Path | None = None,
    common: Common = COMMON,
) -> None:
    """Write a product for other programs.

    Parameters
    ----------
    format_name
        nexus, xdi or csv.
    out
        Folder for the files; `export` in the current folder unless given.
    """
    common.start()
    from pipeline.results.export import export as write
    from pipeline.storage import versions

    tree = versions.open_product(versions.resolve_intact(product))
    for path in write(tree, format_name, out or Path("export")):
        print(path)


def dashboard(out: Path, *, port: int = 8080, host: str = "127.0.0.1", common: Common = COMMON) -> None:
    """Serve the products of an output folder to a browser: linked figures, quality, provenance; follows new versions.

    Parameters
    ----------
    out
        Output folder.
    port
        Port to listen on; 0 picks a free one.
    host
        Address to listen on. Anybody who can reach it can read the products.
    """
    common.start()
    from pipeline.dashboard.serve import make_server

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


def print_summary(where: str) -> None:
    """Print the summary of a product, and where it and its figures are."""
    from pipeline.results.summary import summary_text
    from pipeline.storage import versions

    version = versions.resolve(where)
    try:
        print(summary_text(versions.read_summary(version)))
    except (KeyError, TypeError, AttributeError) as error:
        raise ProductError(
            f"{version}: summary.json lacks {error}; `trxas validate` lists every fault, processing again writes it anew"
        ) from None
    print(f"product  {version / 'product.zarr'}{versions.schema_remark(version)}\nfigures  {version / 'figures'}")
