"""The frame of the page: HTML and colours. A page is light or dark as the browser says, or as its button says."""

from __future__ import annotations

__all__ = ["CSS", "DARK_WIDGETS", "TABS", "TEMPLATE"]

TEMPLATE = """
{% extends base %}
{% block title %}trxas{% endblock %}
{% block postamble %}
<meta name="viewport" content="width=device-width, initial-scale=1">
<script>
(function () {
  const here = new URL(location.href);
  if (!here.searchParams.has("theme") && window.matchMedia("(prefers-color-scheme: dark)").matches) {
    here.searchParams.set("theme", "dark"); location.replace(here);
  }
  window.otherTheme = function () {
    const url = new URL(location.href);
    url.searchParams.set("theme", "{{ other_theme }}"); location.assign(url);
  };
})();
</script>
<style>
html, body { background: {{ background }}; color: {{ text }}; }
body { font: 14px/1.4 system-ui, "DejaVu Sans", sans-serif; }
#head { display: flex; align-items: center; gap: 10px; padding: 2px 12px; border-bottom: 1px solid {{ line }}; }
#head h1 { font-size: 18px; margin: 0 8px 0 0; letter-spacing: .03em; }
#head > div { flex: 1; }
#theme { background: none; color: inherit; border: 1px solid {{ line }}; border-radius: 5px; padding: 5px 10px; cursor: pointer; font: inherit; }
</style>
{% endblock %}
{% block contents %}
<header id="head"><h1>trxas</h1><div>{{ embed(roots.head) }}</div>
<button id="theme" onclick="otherTheme()" title="light or dark">{{ other_theme }}</button></header>
{{ embed(roots.body) }}
{% endblock %}
"""

CSS = """
:host { --line: #d5dae0; --bad: #b42318; --badground: #fff1e6; --good: #1a7f37; }
:host(.dark) { --line: #3a4048; --bad: #ffab70; --badground: #3a2716; --good: #5fd38d; }
table { border-collapse: collapse; font-size: 13px; margin: 4px 0 10px; }
th, td { border-bottom: 1px solid var(--line); padding: 3px 10px 3px 4px; text-align: left; vertical-align: top; }
th { font-weight: 600; }
tr.audit td { border: 0; color: var(--bad); padding-top: 0; }
h3 { margin: 10px 0 4px; font-size: 15px; }
pre { font-size: 12px; overflow: auto; max-height: 70vh; border: 1px solid var(--line); padding: 8px; border-radius: 5px; }
code { font-size: 12px; overflow-wrap: anywhere; }
a { color: inherit; font-weight: 600; }
.bad { color: var(--bad); }
.fine { color: var(--good); padding: 3px 0; }
.readout { font-size: 14px; padding: 2px 0; }
.note { padding: 40px; opacity: .8; text-align: center; }
.empty { max-width: 640px; margin: 60px auto; }
.failure { border: 1px solid var(--bad); border-left: 6px solid var(--bad); background: var(--badground); padding: 12px 16px; margin: 16px 0; border-radius: 5px; }
.warnings { background: var(--badground); border-left: 6px solid var(--bad); padding: 4px 12px; border-radius: 4px; }
.infos { border-left: 6px solid var(--line); padding: 4px 12px; border-radius: 4px; }
li.fault, li.caution { color: var(--bad); }
.warnings summary, .infos summary { cursor: pointer; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.warnings ul, .infos ul { margin: 4px 0; }
"""

TABS = """
.bk-tab { border: 0; border-bottom: 3px solid transparent; padding: 5px 12px; font-size: 14px; opacity: .75; }
.bk-tab.bk-active { color: inherit; background: none; border: 0; border-bottom: 3px solid #3b8fd4; font-weight: 600; opacity: 1; }
.bk-header { border-bottom-width: 1px; border-bottom-color: #8884; }
"""

DARK_WIDGETS = """
.noUi-target { background: #3a4048; border-color: #3a4048; box-shadow: none; }
.noUi-handle { background: #aeb6bf; border-color: #aeb6bf; box-shadow: none; }
select:not([multiple]).bk-input { background-image: url('data:image/svg+xml;utf8,<svg version="1.1" viewBox="0 0 25 20" xmlns="http://www.w3.org/2000/svg"><path fill="white" d="M 0,0 25,0 12.5,20 Z"/></svg>'); }
.bk-btn-group .bk-btn.bk-btn-primary { color: #d7dce2; }
"""
