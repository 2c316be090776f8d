"""One browser session: the choices, their pages, and new versions while a flow is publishing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from html import escape
from typing import Any

import panel as pn
from bokeh.themes import Theme

from pipeline.dashboard import pages as results
from pipeline.dashboard import texts, views
from pipeline.dashboard.data import Catalogue, Product
from pipeline.dashboard.explore import Explore, Pick
from pipeline.dashboard.frame import CSS, DARK_WIDGETS, TABS, TEMPLATE

__all__ = ["Session", "make_page"]

log = logging.getLogger("trxas")

POLL = 1500
"""How often a session looks for new versions [ms]."""
_NOTHING = "nothing"


class _Dark(pn.theme.DarkTheme):
    """Dark widgets; the figures have their colours from `views`."""

    bokeh_theme = Theme(json={})


def make_page(catalogue: Catalogue) -> pn.Template:
    """Return the page of a new session; choices in the address (dataset, version, theme) are respected."""
    query = {name: values[0].decode(errors="replace") for name, values in (pn.state.session_args or {}).items()}
    style = views.DARK if query.get("theme") == "dark" else views.LIGHT
    session = Session(catalogue, style, dataset=query.get("dataset"), version=query.get("version"))
    theme = _Dark if style is views.DARK else pn.theme.DefaultTheme
    page = pn.Template(TEMPLATE, theme=theme)
    colours = {"background": style.background, "text": style.text, "line": style.grid}
    for name, value in {**colours, "other_theme": "light" if style is views.DARK else "dark"}.items():
        page.add_variable(name, value)
    page.add_panel("head", session.head)
    page.add_panel("body", session.body)
    pn.state.add_periodic_callback(session.poll, period=POLL)
    return page


class Session:
    """The choices of one browser and what follows from them; it begins with the first dataset's latest version."""

    def __init__(
        self, catalogue: Catalogue, style: views.Style, *, dataset: str | None = None, version: str | None = None
    ) -> None:
        self.catalogue, self.style = catalogue, style
        self.dataset, self.version, self.compare = (
            pn.widgets.Select(label=label, width=width, margin=(2, 6))
            for label, width in (("dataset", 190), ("version", 95), ("compare with", 110))
        )
        self.follow = pn.widgets.Checkbox(label="follow new versions", value=version is None, margin=(24, 6, 2, 6))
        self.status = self._html("", margin=(20, 6, 0, 6))
        shown = (self.dataset, self.version, self.compare, self.follow, self.status)
        self.head = pn.Row(*shown, sizing_mode="stretch_width", margin=0)
        self.body = pn.Column(sizing_mode="stretch_width", margin=0)
        self._dress(self.head)
        self._explore: Explore | None = None
        self._pick = Pick()
        self._seen: dict[str, list[str]] = {}
        self._silent = False
        for widget in (self.dataset, self.version, self.compare):
            widget.param.watch(self._chosen, "value")
        self._offer(dataset, version)
        self._show()

    # --- choices ----------------------------------------------------------------------------------------------------

    def poll(self) -> None:
        """Look for new datasets and versions; show the latest one if it is followed, else say that it is there."""
        found = self._found()
        if found == self._seen:
            return
        shown = (self.dataset.value, self.version.value)
        latest = self.catalogue.latest(self.dataset.value) if self.dataset.value in found else None
        version = latest if self.follow.value or shown[1] not in found.get(shown[0], []) else shown[1]
        self._offer(self.dataset.value, version)
        now = (self.dataset.value, self.version.value)
        if now != shown:
            self._say(f"now showing {now[1]}" if shown[1] else "")
            self._show()
        elif latest is not None and latest != shown[1]:
            self._say(f"{latest} is new")

    def _found(self) -> dict[str, list[str]]:
        return {name: self.catalogue.versions(name) for name in self.catalogue.datasets()}

    def _offer(self, dataset: str | None, version: str | None) -> None:
        """Fill the selectors with what there is now, keeping the choice where it still exists."""
        self._seen = self._found()
        self._silent = True
        try:
            names = list(self._seen)
            chosen = dataset if dataset in names else (names[0] if names else None)
            self.dataset.param.update(options=names, value=chosen)
            versions = self._seen.get(chosen or "", [])
            latest = self.catalogue.latest(chosen) if chosen else None
            self.version.param.update(options=versions, value=version if version in versions else latest)
            others = [_NOTHING, *(v for v in versions if v != self.version.value)]
            other = self.compare.value if self.compare.value in others else _NOTHING
            self.compare.param.update(options=others, value=other)
        finally:
            self._silent = False

    def _chosen(self, event: Any) -> None:
        if self._silent:
            return
        if event.obj is self.dataset:
            self._pick = Pick()
            self._explore = None
            self._offer(self.dataset.value, None)
        elif event.obj is self.version:
            # a user who goes back to an older version wants to stay there
            self.follow.value = self.version.value == self.catalogue.latest(self.dataset.value)
            self._offer(self.dataset.value, self.version.value)
        self._say("")
        self._show()

    def _say(self, text: str) -> None:
        self.status.object = f"<b>{escape(text)}</b>" if text else ""

    # --- pages ------------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        """Build the pages of what is chosen, or say why they cannot be shown."""
        dataset, version = self.dataset.value, self.version.value
        if self._explore is not None:
            self._pick = self._explore.pick
            self._explore = None
        if dataset is None or version is None:
            self.body.objects = [self._html(texts.empty(str(self.catalogue.out)))]
            return
        if pn.state.location is not None:
            pn.state.location.update_query(dataset=dataset, version=version)
        try:
            product = self.catalogue.open(dataset, version)
            other = None if self.compare.value in (None, _NOTHING) else self.catalogue.open(dataset, self.compare.value)
        except Exception as error:
            log.warning("dashboard: %s", error)
            failure = texts.failure(f"{dataset} {version} cannot be shown", error)
            self.body.objects = [self._html(failure), self._html(self._versions())]
            return
        warnings = self._html(texts.warnings(product.warnings), margin=(4, 12, 0, 12))
        self.body.objects = [warnings, self._tabs(product, other)]

    def _tabs(self, product: Product, other: Product | None) -> pn.Tabs:
        def explore() -> Any:
            self._explore = Explore(product, other, self.style, self._pick)
            return self._explore.layout()

        pages: dict[str, Callable[[], Any]] = {
            "Explore": explore,
            "Kinetics": lambda: results.kinetics_page(product, other, self.style),
            "Peaks and α": lambda: results.peaks_page(product, other, self.style),
            "Quality": lambda: results.quality_page(product, self.style),
            "Provenance": lambda: results.provenance_page(product),
            "Figures": lambda: results.pictures_page(product),
            "All versions": lambda: self._html(self._versions()),
        }
        places = {name: pn.Column(sizing_mode="stretch_width", margin=0) for name in pages}
        tabs = pn.Tabs(*places.items(), dynamic=True, sizing_mode="stretch_width", margin=0, stylesheets=[TABS])

        def fill(index: int) -> None:
            name = list(pages)[index]
            if not places[name].objects or name == "All versions":
                places[name].objects = [self._guarded(name, pages[name])]

        tabs.param.watch(lambda event: fill(event.new), "active")
        fill(0)
        return tabs

    def _guarded(self, name: str, build: Callable[[], Any]) -> Any:
        """Return a page, or the reason why it cannot be shown; one bad group must not cost the others."""
        try:
            made = build()
        except Exception as error:
            log.warning("dashboard: page %s: %s", name, error)
            return self._html(texts.failure(f"{name} cannot be shown", error))
        self._dress(made)
        return made

    def _dress(self, made: Any) -> None:
        """Give texts and widgets the colours of the page."""
        for pane in made.select(pn.pane.HTML):
            pane.stylesheets, pane.css_classes = [CSS], [self.style.name]
        if self.style is views.DARK:
            for widget in made.select(pn.widgets.Widget):
                widget.stylesheets = [DARK_WIDGETS]

    def _html(self, text: str, margin: tuple[int, ...] = (4, 12)) -> pn.pane.HTML:
        look = {"stylesheets": [CSS], "css_classes": [self.style.name]}
        return pn.pane.HTML(text, sizing_mode="stretch_width", margin=margin, **look)

    def _versions(self) -> str:
        found: dict[str, list[tuple[str, Any]]] = {}
        for dataset, versions in self._found().items():
            found[dataset] = []
            for version in versions:
                try:
                    found[dataset].append((version, self.catalogue.summary(dataset, version)))
                except Exception as error:
                    found[dataset].append((version, error))
        return texts.versions(found, (self.dataset.value, self.version.value), self.style.name)
