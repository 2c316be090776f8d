"""The error budget as the summary holds it and as a person reads it."""

import numpy as np
import pytest

from pipeline.plots.budget_figure import draw_budget
from pipeline.plots.style import house_style
from pipeline.results.budget_report import budget_of, budget_text, shown_in, total_of
from schemas.datasets.budget import SOURCES
from schemas.summary_parts import BudgetSummary
from tests.synthetic import fitted


@pytest.fixture(scope="module")
def rows():
    return fitted("seed")[1]["budget"]


def test_every_number_that_is_there_has_a_row_with_every_source(rows):
    tree = fitted("seed")[0]
    assert rows == budget_of(tree)
    assert {row["quantity"] for row in rows} == {"tau1", "tau2", "tau3", "alpha", "slope", "position_A", "position_B"}
    for row in rows:
        BudgetSummary.model_validate(row)
        assert [entry["source"] for entry in row["entries"]] == list(SOURCES)
        assert all((entry["error"] is None) == (entry["status"] == "not_known") for entry in row["entries"])
    # no delay scan at 16 mJ/cm², and the last of its two delays
    of_16 = {row["quantity"]: row for row in rows if row.get("fluence") == 16.0}
    assert set(of_16) == {"alpha", "position_A", "position_B"}
    assert of_16["position_A"]["delay"] == 4.8
    # the errors of a summary are in the unit that it names
    alpha = fitted("seed")[1]["alpha"][0]["alpha"]
    assert next(r for r in rows if r["quantity"] == "alpha")["entries"][0]["error"] == alpha["stderr"]


def test_a_table_tells_what_counts_what_stands_beside_and_what_is_not_known():
    statuses = ["published", "published", "none", "not_known", "beside", "beside", "none", "published", "beside"]
    errors = [0.012, 0.003, 0.0, None, 0.0041, 2e-8, 0.0, 0.0, 0.12]
    entries = [{"source": s, "error": e, "status": said} for s, e, said in zip(SOURCES, errors, statuses, strict=True)]
    row = {"quantity": "tau2", "unit": "ps", "fluence": 8.0, "entries": entries}
    assert total_of(entries) == pytest.approx(np.sqrt(0.012**2 + 0.003**2 + 0.0041**2 + 0.12**2))
    assert shown_in(row) == ("τ₂ 8 mJ/cm² (fs)", 1e3)
    text = budget_text([row]).splitlines()
    assert text[1].split() == ["total", *SOURCES]
    assert text[2].split()[4:] == ["120", "12", "3", "–", "?", "+4.1", "<0.0001", "–", "0", "+120"]
    assert "not known" in text[3]


def test_an_older_product_has_none_and_says_so():
    tree = fitted("seed")[0].copy()
    del tree["budget"]
    assert budget_of(tree) == []
    assert budget_text([]) == "no error budget: the product was made by an older trxas; process it again"


def test_the_figure_has_a_bar_for_each_number(rows, tmp_path):
    with house_style():
        draw_budget(rows, tmp_path / "budget.png")
    assert (tmp_path / "budget.png").stat().st_size > 10_000
