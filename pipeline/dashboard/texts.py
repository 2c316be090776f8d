"""Everything that is words on the dashboard, as HTML; whatever comes from a product is escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import urlencode

import numpy as np
import xarray as xr
import yaml

from pipeline.results.lookup import Interval, measured_near
from schemas.notes import SEVERITIES, WORDS, Note, read_notes

__all__ = [
    "configuration",
    "empty",
    "failure",
    "fractions",
    "inputs",
    "note",
    "provenance",
    "readout",
    "runs",
    "taus",
    "versions",
    "warning_list",
    "warnings",
]

_TAU = {"tau1": "τ<sub>1</sub>", "tau2": "τ<sub>2</sub>", "tau3": "τ<sub>3</sub>"}


def note(text: str) -> str:
    """Return a sentence in place of a figure that has no data."""
    return f"<div class='note'>{escape(text)}</div>"


def failure(what: str, error: object) -> str:
    """Return the panel that stands where something cannot be shown."""
    return f"<div class='failure' role='alert'><b>{escape(what)}</b><br>{escape(str(error))}</div>"


def empty(out: str) -> str:
    """Return the page of an output folder without products; it goes away by itself."""
    return (
        f"<div class='empty'><h2>No products yet</h2><p>Nothing has been published in <code>{escape(out)}</code>.</p>"
        f"<p><code>trxas process CONFIG --out {escape(out)}</code></p>"
        "<p>This page shows the first version as soon as it is there.</p></div>"
    )


def warnings(found: Sequence[Note]) -> str:
    """Return the warnings of a version, the most severe first: the first two in sight and all of them on a click."""
    if not found:
        return "<div class='fine'>✓ no warnings</div>"
    counts = {word: sum(n.severity == word for n in found) for word in reversed(SEVERITIES)}
    head = ", ".join(f"{n} {WORDS[word].lower()}{'s' if n > 1 else ''}" for word, n in counts.items() if n)
    first = " · ".join(escape(n.text) for n in found[:2])
    harmless = counts["info"] == len(found)
    opening = "<details class='infos'>" if harmless else "<details class='warnings' role='alert'>"
    sign = "ⓘ" if harmless else "⚠"
    return f"{opening}<summary><b>{sign} {head}</b> {first}</summary>{warning_list(found)}</details>"


def warning_list(found: Sequence[Note]) -> str:
    """Return warnings as a list, each with its severity and, where the pointer rests on it, its code."""
    items = (
        f"<li class='{n.severity}' title='{escape(n.code)}'><b>{WORDS[n.severity]}</b> {escape(n.text)}</li>"
        for n in found
    )
    return f"<ul>{''.join(items)}</ul>"


def plus_minus(value: float | None, stderr: float | None) -> str:
    """Return value ± error with the digits that the error allows."""
    if value is None or not np.isfinite(value):
        return "–"
    if not stderr or not np.isfinite(stderr):
        return f"{value:.4g}"
    digits = max(0, int(np.ceil(1 - np.log10(stderr)))) if stderr < 10 else 0
    return f"{value:.{digits}f} ± {stderr:.{digits}f}"


def readout(spectra: xr.Dataset, fluences: Iterable[float], delay: float | None, energy: float | None) -> str:
    """Return what is picked, and the difference there with its error per fluence."""
    if delay is None or energy is None:
        return "<div class='readout'>no energy scan in this product</div>"
    parts = []
    for fluence in fluences:
        here = measured_near(spectra, fluence, delay)
        if here is None:
            continue
        one = spectra.sel(fluence=fluence, delay=here).sel(energy=energy, method="nearest")
        if int(one["n_pulses"]):
            number = plus_minus(1e3 * float(one["delta_xas"]), 1e3 * float(one["delta_xas_stderr"]))
            parts.append(f"{fluence:g} mJ/cm²: <b>{number} mOD</b>")
    shown = " &nbsp; ".join(parts) or "not measured at these fluences and this delay"
    return f"<div class='readout'>picked <b>{energy:.2f} eV</b>, <b>{delay:.3g} ps</b> &nbsp;→&nbsp; ΔXAS {shown}</div>"


def taus(found: Sequence[Interval], redchi: Mapping[float, float | None]) -> str:
    """Return the table of the times; a time that the data do not determine gets its interval and no value."""
    if not found:
        return note("no kinetic fit in this product")
    rows = []
    for one in found:
        value = (
            f"<b>{plus_minus(one.value, one.stderr)} ps</b>"
            if one.determined and one.value is not None
            else f"<b class='bad'>{one.instead_of_value}</b>"
        )
        rows.append(
            f"<tr><td>{_TAU[one.name]}</td><td>{one.fluence:g}</td><td>{value}</td>"
            f"<td>{_range(one.ci68)}</td><td>{_range(one.ci95)}</td></tr>"
        )
    fits = ", ".join(f"{f:g} mJ/cm²: χ²/dof {x:.2f}" for f, x in redchi.items() if x is not None)
    words = "".join(
        f"<li>{one.fluence:g} mJ/cm²: {escape(one.verdict)}</li>" for one in found if not one.determined and one.verdict
    )
    return (
        "<table><tr><th></th><th>mJ/cm²</th><th>value</th><th>68 % (ps)</th><th>95 % (ps)</th></tr>"
        f"{''.join(rows)}</table><p>{fits}</p>" + (f"<ul class='bad'>{words}</ul>" if words else "")
    )


def fractions(summary: Mapping[str, Any]) -> str:
    """Return the excited fractions with standard and model error, and the line through them."""
    rows = []
    for row in summary["alpha"]:
        value = row["alpha"]["value"]
        if value is not None:
            model = row.get("model_stderr")
            other = "–" if model is None else f"{100 * model:.2g} %"
            number = plus_minus(100 * value, 100 * (row["alpha"]["stderr"] or 0))
            rows.append(f"<tr><td>{row['fluence']:g}</td><td><b>{number} %</b></td><td>{other}</td></tr>")
    if not rows:
        return note("no mixture fit in this product")
    head = "<tr><th>mJ/cm²</th><th>excited fraction α</th><th>model error (other DOS)</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _range(pair: tuple[float | None, float | None]) -> str:
    low, high = ("open" if v is None else f"{v:.3g}" for v in pair)
    return f"{low} … {high}"


_REASONS = "dropped_"


def runs(summary: Mapping[str, Any], quality: xr.Dataset) -> str:
    """Return the runs with their bookkeeping, quality and what the audit said about them."""
    head = ("run", "kind", "frames read", "pulses used", "left out", "noise / photon noise", "null χ²", "drift (mOD)")
    rows = []
    for run in summary["runs"]:
        number = run["run"]
        row = quality.sel(run=number) if number in quality["run"].values else None
        cells = [
            str(number),
            escape(run["kind"].replace("_", " ")),
            _of(run["frames_read"], run["frames_expected"]),
            f"{run['pulses_used']:,}".replace(",", " "),
            _dropped(row),
            _flagged(run["noise_ratio"], bad=(run["noise_ratio"] or 0) > 1.5),
            _flagged(run["null_chi2"], bad=row is not None and float(row["null_p"]) < 1e-4),
            "–" if row is None else plus_minus(1e3 * float(row["drift"]), 1e3 * float(row["drift_stderr"])),
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        rows += [
            f"<tr class='audit'><td></td><td colspan={len(head) - 1}>⚠ {escape(a)}</td></tr>" for a in run["audit"]
        ]
    titles = "".join(f"<th>{title}</th>" for title in head)
    return f"<table><tr>{titles}</tr>{''.join(rows)}</table>"


def _of(part: int, whole: int) -> str:
    text = f"{part:,} of {whole:,}".replace(",", " ")
    return text if part >= 0.99 * whole else f"<b class='bad'>{text}</b>"


def _dropped(row: xr.Dataset | None) -> str:
    if row is None:
        return "–"
    names = [str(n) for n in row.data_vars if str(n).startswith(_REASONS) and int(row[n])]
    return ", ".join(f"{int(row[n])} {escape(n.removeprefix(_REASONS).replace('_', ' '))}" for n in names) or "none"


def _flagged(value: float | None, *, bad: bool) -> str:
    if value is None:
        return "–"
    return f"<b class='bad'>{value:.2f}</b>" if bad else f"{value:.2f}"


def provenance(attrs: Mapping[str, Any], folder: str) -> str:
    """Return where the numbers come from: versions, hashes, environment."""
    known = ("dataset", "created", "schema_version", "code_version", "product_hash", "calibration", "beam_order")
    rows = [("folder", folder), *((n, attrs[n]) for n in known if n in attrs)]
    rows += [(str(n), v) for n, v in dict(attrs.get("environment", {})).items()]
    body = "".join(f"<tr><th>{escape(str(n))}</th><td><code>{escape(str(v))}</code></td></tr>" for n, v in rows)
    return f"<table class='plain'>{body}</table>"


def configuration(attrs: Mapping[str, Any]) -> str:
    """Return the config of a version, as YAML."""
    try:
        text = yaml.safe_dump(json.loads(attrs.get("config", "{}")), sort_keys=False, allow_unicode=True, width=110)
    except (TypeError, ValueError):
        text = str(attrs.get("config"))
    return f"<pre>{escape(text)}</pre>"


def inputs(attrs: Mapping[str, Any]) -> str:
    """Return the raw files with size and hash."""
    rows = [
        f"<tr><td>{escape(str(run))}</td><td>{escape(str(f.get('name')))}</td><td>{int(f.get('size', 0)) / 1e6:,.1f}</td>"
        f"<td><code>{escape(str(f.get('sha256', ''))[:16])}…</code></td></tr>"
        for run, files in dict(attrs.get("inputs", {})).items()
        for f in files
    ]
    return f"<table><tr><th>run</th><th>file</th><th>MB</th><th>sha256</th></tr>{''.join(rows)}</table>"


def versions(found: Mapping[str, Sequence[tuple[str, Any]]], shown: tuple[str, str], theme: str) -> str:
    """Return all datasets and versions with their first numbers; each is a link.

    Parameters
    ----------
    found
        Per dataset (version, summary or the error that it gave), newest first.
    shown
        Dataset and version that are shown now.
    theme
        Kept in the links.
    """
    parts = []
    for dataset, entries in found.items():
        rows = []
        for version, summary in entries:
            link = "?" + urlencode({"dataset": dataset, "version": version, "theme": theme})
            name = f"<a href='{escape(link)}'>{escape(version)}</a>" + (
                " ← shown" if (dataset, version) == shown else ""
            )
            if isinstance(summary, Exception):
                rows.append(f"<tr><td>{name}</td><td colspan=6 class='bad'>{escape(str(summary))}</td></tr>")
            else:
                rows.append(f"<tr><td>{name}</td>{_numbers(summary)}</tr>")
        titles = ("version", "created", "runs", "pulses used", "τ1, τ2, τ3 (ps)", "α", "warnings")
        head = "".join(f"<th>{t}</th>" for t in titles)
        parts.append(f"<h3>{escape(dataset)}</h3><table><tr>{head}</tr>{''.join(rows)}</table>")
    return "".join(parts)


def _numbers(summary: Mapping[str, Any]) -> str:
    fits = []
    for fit in summary["kinetics"]:
        if fit["redchi"] is not None:
            p = [fit["parameters"].get(n) for n in _TAU]
            words = ", ".join("not determined" if not q or not q["identifiable"] else f"{q['value']:.3g}" for q in p)
            fits.append(f"{fit['fluence']:g} mJ/cm²: {words}")
    fractions = [
        f"{a['fluence']:g} mJ/cm²: {100 * a['alpha']['value']:.1f} %"
        for a in summary["alpha"]
        if a["alpha"]["value"] is not None
    ]
    n = sum(said.severity != "info" for said in read_notes(summary["warnings"]))
    used = sum(run["pulses_used"] for run in summary["runs"])
    cells = [
        escape(summary["created"][:19].replace("T", " ")),
        str(len(summary["runs"])),
        f"{used:,}".replace(",", " "),
        "<br>".join(fits) or "–",
        "<br>".join(fractions) or "–",
        f"<b class='bad'>{n}</b>" if n else "0",
    ]
    return "".join(f"<td>{cell}</td>" for cell in cells)
