"""The first page of a product: map, trace, difference and absorption, linked by what is picked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import panel as pn

from pipeline.dashboard import curves, texts, views
from pipeline.dashboard.data import Product
from pipeline.results import lookup

__all__ = ["Explore", "Pick"]


@dataclass(frozen=True)
class Pick:
    """What a person looks at; kept when another version is shown."""

    fluence: float | None = None
    overlay: tuple[float, ...] | None = None
    delay: float | None = None
    energy: float | None = None
    even: bool = False


class Explore:
    """Four linked figures and the controls above them.

    Parameters
    ----------
    product
        What is shown.
    other
        A second version to compare with, dashed.
    style
        Colours.
    pick
        What was looked at before.
    """

    def __init__(self, product: Product, other: Product | None, style: views.Style, pick: Pick) -> None:
        self.product, self.other, self.style = product, other, style
        self.spectra, self.scan, self.kinetics = (product.group(n) for n in ("spectra", "delay_scan", "kinetics"))
        self.delays = lookup.delays_of(self.spectra)
        self.has_spectra = bool(self.delays)
        fluence, delay, energy = lookup.default_pick(self.spectra, self.scan)
        self.fluences = lookup.fluences_of(self.spectra, self.scan)
        wanted = lookup.nearest(self.fluences, fluence if pick.fluence is None else pick.fluence)
        self.controls = self._controls(
            pick, wanted, delay if pick.delay is None else pick.delay, energy if pick.energy is None else pick.energy
        )
        self.readout = pn.pane.HTML(sizing_mode="stretch_width", margin=(0, 10), stylesheets=[])
        self.plots = self._plots()
        self._link()
        self.update()

    @property
    def pick(self) -> Pick:
        """What is looked at now."""
        c = self.controls
        return Pick(
            c["fluence"].value,
            tuple(c["overlay"].value),
            c["delay"].value,
            c["energy"].value,
            c["axis"].value == "even",
        )

    def layout(self) -> pn.viewable.Viewable:
        """Return the page."""
        c = self.controls
        bar = pn.Row(*(_named(c[n]) for n in c if c[n].visible), margin=(2, 8))
        shown = {
            name: pn.pane.Bokeh(plot.figure, sizing_mode="stretch_width", margin=(0, 2))
            for name, plot in self.plots.items()
        }
        if not self.has_spectra:
            return pn.Column(
                bar,
                pn.pane.HTML(texts.note("no energy scan in this product: delay scans only")),
                shown["trace"],
                sizing_mode="stretch_width",
            )
        left = pn.Column(shown["map"], shown["difference"], sizing_mode="stretch_width", margin=0)
        right = pn.Column(shown["trace"], shown["absorption"], sizing_mode="stretch_width", margin=0)
        return pn.Column(
            bar,
            self.readout,
            pn.Row(left, right, sizing_mode="stretch_width", margin=0),
            sizing_mode="stretch_width",
            margin=0,
        )

    # --- made once --------------------------------------------------------------------------------------------------

    def _controls(self, pick: Pick, fluence: float | None, delay: float | None, energy: float | None) -> dict[str, Any]:
        names = {f"{f:g}": f for f in self.fluences}
        kept = [f for f in pick.overlay or () if f in self.fluences] or list(self.fluences)
        energies = [float(e) for e in self.spectra["energy"].values] or sorted(
            {float(e) for e in self.scan["energy"].values}
        )
        button = {"color": "primary", "variant": "outline", "margin": (0, 4), "height": 30}
        several = len(self.fluences) > 1
        return {
            "fluence": pn.widgets.RadioButtonGroup(
                label="map at (mJ/cm²)", options=names, value=fluence, visible=several, **button
            ),
            "overlay": pn.widgets.CheckButtonGroup(
                label="curves at (mJ/cm²)", options=names, value=kept, visible=several, **button
            ),
            "axis": pn.widgets.RadioButtonGroup(
                label="delay axis",
                options={"log": "log", "even": "even"},
                value="even" if pick.even else "log",
                visible=self.has_spectra,
                **button,
            ),
            "delay": pn.widgets.DiscreteSlider(
                label="delay (ps)",
                options={f"{t:.3g}": t for t in self.delays} or {"–": None},
                value=lookup.nearest(self.delays, delay),
                width=250,
                margin=(0, 8),
                visible=self.has_spectra,
            ),
            "energy": pn.widgets.DiscreteSlider(
                label="photon energy (eV)",
                options={f"{e:.2f}": e for e in energies} or {"–": None},
                value=lookup.nearest(energies, energy),
                width=250,
                margin=(0, 8),
                visible=len(energies) > 1,
            ),
        }

    def _plots(self) -> dict[str, views.Plot]:
        everywhere = [*self.delays, *self.scan["delay"].values.tolist()]
        plots = {
            "trace": views.series_plot(
                self._trace(),
                self.style,
                x_label="delay (ps)",
                y_label="ΔXAS (mOD)",
                title="trace",
                delay_axis=True,
                x_range=views.delay_range(everywhere),
                zero=True,
                height=0,
            )
        }
        if not self.has_spectra:
            return plots
        pick = self.pick
        cells = curves.map_cells(self.spectra, self._map_fluence(), even=pick.even)
        plots["map"] = views.map_plot(cells, self.style, title="map", even=pick.even, height=0)
        shared = plots["map"].figure.x_range
        energy: dict[str, Any] = {"x_label": "photon energy (eV)", "x_range": shared, "height": 0}
        plots["difference"] = views.series_plot(
            self._difference(), self.style, y_label="ΔXAS (mOD)", title="difference", zero=True, **energy
        )
        plots["absorption"] = views.series_plot(
            self._absorption(), self.style, y_label="optical density", title="absorption", **energy
        )
        # the colour bar stands beside the map; the axes below it shall meet those of the map
        plots["map"].figure.min_border_right = plots["difference"].figure.min_border_right = 74
        return plots

    def _link(self) -> None:
        for name in ("fluence", "overlay", "delay", "energy"):
            self.controls[name].param.watch(
                lambda event: self.update(remap=event.obj is self.controls["fluence"]), "value"
            )
        self.controls["axis"].param.watch(lambda _: self.update(remap=True), "value")
        taps: dict[str, Callable[[float, float], None]] = {
            "map": self._pick_both,
            "difference": lambda x, _: self._pick_energy(x),
            "absorption": lambda x, _: self._pick_energy(x),
            "trace": lambda x, _: self._pick_delay(x, on_trace=True),
        }
        for name, plot in self.plots.items():
            plot.on_tap(taps[name])

    # --- on every pick ----------------------------------------------------------------------------------------------

    def update(self, *, remap: bool = False) -> None:
        """Draw what is picked now."""
        pick, style = self.pick, self.style
        energy = "" if pick.energy is None else f"{pick.energy:.2f} eV"
        trace = self.plots["trace"]
        trace.show(views.series_columns(self._trace(), style, delay_axis=True))
        trace.name(f"ΔXAS against delay at {energy}")
        if not self.has_spectra or pick.delay is None:
            return
        at = float(curves.symlog(pick.delay))
        trace.mark("x", at)
        difference, absorption, chart = (self.plots[n] for n in ("difference", "absorption", "map"))
        difference.show(views.series_columns(self._difference(), style))
        difference.name(f"ΔXAS at {pick.delay:.3g} ps")
        absorption.show(views.series_columns(self._absorption(), style))
        absorption.name(f"XAS at {self._map_fluence():g} mJ/cm²")
        rows = lookup.delays_of(self.spectra, self._map_fluence())
        if remap:
            views.show_map(chart, curves.map_cells(self.spectra, self._map_fluence(), even=pick.even), even=pick.even)
        chart.name(f"ΔXAS map at {self._map_fluence():g} mJ/cm²")
        here = lookup.measured_near(self.spectra, self._map_fluence(), pick.delay)
        chart.mark(
            "y", None if here is None else (float(rows.index(here)) if pick.even else float(curves.symlog(here)))
        )
        for plot in (chart, difference, absorption):
            plot.mark("x", pick.energy)
        self.readout.object = texts.readout(self.spectra, pick.overlay or (), pick.delay, pick.energy)

    def _map_fluence(self) -> float:
        """The fluence of the map; a fluence with delay scans only gives way to one with spectra."""
        wanted: float = self.controls["fluence"].value
        if lookup.delays_of(self.spectra, wanted):
            return wanted
        return next(f for f in reversed(self.fluences) if lookup.delays_of(self.spectra, f))

    def _tag(self) -> str:
        return f", {self.other.version}" if self.other else ""

    def _trace(self) -> list[curves.Series]:
        pick = self.pick
        if pick.energy is None:
            return []
        found = curves.trace(
            (self.spectra, self.scan, self.kinetics), pick.overlay or (), pick.energy, power=self.product.power
        )
        if self.other:
            groups = tuple(self.other.group(n) for n in ("spectra", "delay_scan", "kinetics"))
            found += curves.trace(groups, pick.overlay or (), pick.energy, power=self.other.power, tag=self._tag())  # type: ignore[arg-type]
        return found

    def _difference(self) -> list[curves.Series]:
        pick = self.pick
        if pick.delay is None:
            return []
        found = curves.difference(self.spectra, pick.overlay or (), pick.delay)
        if self.other:
            found += curves.difference(self.other.group("spectra"), pick.overlay or (), pick.delay, tag=self._tag())
        return found

    def _absorption(self) -> list[curves.Series]:
        pick = self.pick
        return [] if pick.delay is None else curves.absorption(self.spectra, self._map_fluence(), pick.delay)

    def _pick_both(self, x: float, y: float) -> None:
        self._pick_energy(x)
        self._pick_delay(y)

    def _pick_energy(self, x: float) -> None:
        slider = self.controls["energy"]
        slider.value = lookup.nearest(list(slider.options.values()), x)

    def _pick_delay(self, u: float, *, on_trace: bool = False) -> None:
        slider = self.controls["delay"]
        if self.pick.even and not on_trace:
            rows = lookup.delays_of(self.spectra, self._map_fluence())
            slider.value = rows[min(max(round(u), 0), len(rows) - 1)]
        elif self.delays:
            slider.value = min(self.delays, key=lambda t: abs(float(curves.symlog(t)) - u))


def _named(widget: Any) -> Any:
    """A group of buttons does not show its name, so it gets a heading as the sliders have."""
    if isinstance(widget, pn.widgets.DiscreteSlider):
        return widget
    return pn.Column(pn.pane.HTML(widget.label, margin=(0, 4)), widget, margin=(0, 6))
