"""The first page of a product: map, trace, difference and absorption, linked by what is picked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import panel as pn

from pipeline.dashboard import curves, texts, views
from pipeline.dashboard.data import Product
from pipeline.results import lookup
from pipeline.results.wording import delay_words

__all__ = ["Explore", "Pick"]

_WIDE: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": 0}


@dataclass(frozen=True)
class Pick:
    """What a person looks at; kept when another version is shown."""

    fluence: float | None = None
    overlay: tuple[float, ...] | None = None
    delay: float | None = None
    energy: float | None = None
    even: bool = False


class Explore:
    """Four linked figures of a product and the controls above them; a second version, if there is one, is drawn dashed.

    It begins with a `pick`: what was looked at before.
    """

    def __init__(self, product: Product, other: Product | None, style: views.Style, pick: Pick) -> None:
        self.product, self.other, self.style = product, other, style
        self.spectra, self.scan = product.group("spectra"), product.group("delay_scan")
        self.delays = lookup.delays_of(self.spectra)
        self.has_spectra = bool(self.delays)
        self.fluences = lookup.fluences_of(self.spectra, self.scan)
        self.controls = self._controls(pick)
        self.readout = pn.pane.HTML(sizing_mode="stretch_width", margin=(0, 10), stylesheets=[])
        self.plots = self._plots()
        self._link()
        self.update()

    @property
    def pick(self) -> Pick:
        """What is looked at now."""
        c = {name: control.value for name, control in self.controls.items()}
        return Pick(c["fluence"], tuple(c["overlay"]), c["delay"], c["energy"], c["axis"] == "even")

    def layout(self) -> pn.viewable.Viewable:
        """Return the page."""
        bar = pn.Row(*(_named(control) for control in self.controls.values() if control.visible), margin=(2, 8))
        shown = {
            name: pn.pane.Bokeh(plot.figure, sizing_mode="stretch_width", margin=(0, 2))
            for name, plot in self.plots.items()
        }
        if not self.has_spectra:
            text = pn.pane.HTML(texts.note("no energy scan in this product: delay scans only"))
            return pn.Column(bar, text, shown["trace"], sizing_mode="stretch_width")
        left = pn.Column(shown["map"], shown["difference"], **_WIDE)
        right = pn.Column(shown["trace"], shown["absorption"], **_WIDE)
        return pn.Column(bar, self.readout, pn.Row(left, right, **_WIDE), **_WIDE)

    # --- made once --------------------------------------------------------------------------------------------------

    def _controls(self, pick: Pick) -> dict[str, Any]:
        fluence, delay, energy = lookup.default_pick(self.spectra, self.scan)
        names = {f"{f:g}": f for f in self.fluences}
        energies = [float(e) for e in self.spectra["energy"].values] or sorted(
            {float(e) for e in self.scan["energy"].values}
        )
        button: dict[str, Any] = {"color": "primary", "variant": "outline", "margin": (0, 4), "height": 30}
        several: dict[str, Any] = {"options": names, "visible": len(self.fluences) > 1, **button}
        slider: dict[str, Any] = {"width": 250, "margin": (0, 8)}
        return {
            "fluence": pn.widgets.RadioButtonGroup(
                label="map at (mJ/cm²)",
                value=lookup.nearest(self.fluences, fluence if pick.fluence is None else pick.fluence),
                **several,
            ),
            "overlay": pn.widgets.CheckButtonGroup(
                label="curves at (mJ/cm²)",
                value=[f for f in pick.overlay or () if f in self.fluences] or list(self.fluences),
                **several,
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
                value=lookup.nearest(self.delays, delay if pick.delay is None else pick.delay),
                visible=self.has_spectra,
                **slider,
            ),
            "energy": pn.widgets.DiscreteSlider(
                label="photon energy (eV)",
                options={f"{e:.2f}": e for e in energies} or {"–": None},
                value=lookup.nearest(energies, energy if pick.energy is None else pick.energy),
                visible=len(energies) > 1,
                **slider,
            ),
        }

    def _plots(self) -> dict[str, views.Plot]:
        delays = views.delay_range([*self.delays, *self.scan["delay"].values.tolist()])
        time: dict[str, Any] = {"x_label": "delay (ps)", "x_range": delays, "delay_axis": True, "height": 0}
        delta: dict[str, Any] = {"y_label": "ΔXAS (mOD)", "zero": True}
        plots = {"trace": views.series_plot(self._trace(), self.style, title="trace", **time, **delta)}
        if not self.has_spectra:
            return plots
        even = self.pick.even
        cells = curves.map_cells(self.spectra, self._map_fluence(), even=even)
        plots["map"] = views.map_plot(cells, self.style, title="map", even=even, height=0)
        shared = plots["map"].figure.x_range
        energy: dict[str, Any] = {"x_label": "photon energy (eV)", "x_range": shared, "height": 0}
        plots["difference"] = views.series_plot(self._difference(), self.style, title="difference", **delta, **energy)
        plots["absorption"] = views.series_plot(
            self._absorption(), self.style, y_label="optical density", title="absorption", **energy
        )
        # the colour bar stands beside the map; the axes below it shall meet those of the map
        plots["map"].figure.min_border_right = plots["difference"].figure.min_border_right = 74
        return plots

    def _link(self) -> None:
        for name, control in self.controls.items():
            remap = name in ("fluence", "axis")
            control.param.watch(lambda _, remap=remap: self.update(remap=remap), "value")
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
        trace.show(views.series_columns(self._trace(), style, delay_axis=True), f"ΔXAS against delay at {energy}")
        if not self.has_spectra or pick.delay is None:
            return
        fluence = self._map_fluence()
        difference, absorption, chart = (self.plots[n] for n in ("difference", "absorption", "map"))
        difference.show(views.series_columns(self._difference(), style), self._difference_title(pick.delay))
        absorption.show(views.series_columns(self._absorption(), style), f"XAS at {fluence:g} mJ/cm²")
        if remap:
            views.show_map(chart, curves.map_cells(self.spectra, fluence, even=pick.even), even=pick.even)
        chart.show({}, f"ΔXAS map at {fluence:g} mJ/cm²")
        here = lookup.measured_near(self.spectra, fluence, pick.delay)
        if here is not None:
            rows = lookup.delays_of(self.spectra, fluence)
            here = float(rows.index(here)) if pick.even else float(curves.symlog(here))
        chart.mark("y", here)
        trace.mark("x", float(curves.symlog(pick.delay)))
        for plot in (chart, difference, absorption):
            plot.mark("x", pick.energy)
        self.readout.object = texts.readout(self.spectra, pick.overlay or (), pick.delay, pick.energy)

    def _map_fluence(self) -> float:
        """The fluence of the map; a fluence with delay scans only gives way to one with spectra."""
        wanted: float = self.controls["fluence"].value
        if lookup.delays_of(self.spectra, wanted):
            return wanted
        return next(f for f in reversed(self.fluences) if lookup.delays_of(self.spectra, f))

    def _both(self) -> list[tuple[Product, str]]:
        """The products to draw, and what is added to the labels of each."""
        return [(self.product, ""), *([(self.other, self.other.tag)] if self.other else [])]

    def _trace(self) -> list[curves.Series]:
        pick = self.pick
        if pick.energy is None:
            return []
        return [s for one, tag in self._both() for s in curves.trace(one, pick.overlay or (), pick.energy, tag=tag)]

    def _difference(self) -> list[curves.Series]:
        pick = self.pick
        if pick.delay is None:
            return []
        shown = [(one.group("spectra"), tag) for one, tag in self._both()]
        return [s for one, tag in shown for s in curves.difference(one, pick.overlay or (), pick.delay, tag=tag)]

    def _difference_title(self, delay: float) -> str:
        """The delay, and what the spectra shown there are compared with."""
        here = [(f, lookup.measured_near(self.spectra, f, delay)) for f in self.pick.overlay or ()]
        rows = [self.spectra.sel(fluence=f, delay=t) for f, t in here if t is not None]
        against = ", ".join(dict.fromkeys(words for one in rows if (words := lookup.reference_of(one))))
        return f"ΔXAS at {delay_words(delay)}" + (f", against {against}" if against else "")

    def _absorption(self) -> list[curves.Series]:
        delay = self.pick.delay
        return [] if delay is None else curves.absorption(self.spectra, self._map_fluence(), delay)

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
