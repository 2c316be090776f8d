"""The dashboard in real headless Chromium: what a person sees, picks and is told."""

import shutil

import pytest
from playwright.sync_api import expect

from tests.synthetic import publish_version

# waiting is for conditions; this only bounds it on a busy machine
expect.set_options(timeout=30_000)


def picked(page):
    return page.locator(".readout")


def wait_for_figures(page, at_least=4):
    page.wait_for_function(f"n => {CANVASES} >= n", arg=at_least)


# figures live in shadow roots; playwright's locators look into them, plain selectors do not
CANVASES = (
    "(function count(root) { let n = 0; for (const e of root.querySelectorAll('*')) {"
    " if (e.tagName === 'CANVAS' && e.width > 50) n++; if (e.shadowRoot) n += count(e.shadowRoot); } return n; })(document)"
)


def test_views_appear_and_nothing_is_asked_from_elsewhere(visit, out):
    seen = visit(out)
    page = seen.page
    wait_for_figures(page)
    expect(picked(page)).to_contain_text("528.20 eV")
    expect(picked(page)).to_contain_text("0.2 ps")
    expect(page.locator(".warnings")).to_contain_text("run 6: noise is 1.70 times")
    page.get_by_text("Kinetics", exact=True).click()
    expect(page.get_by_text("interval only", exact=True)).to_be_visible()
    expect(page.get_by_text("8 mJ/cm²: tau1 is below 0.31 ps (95 %)")).to_be_visible()
    page.get_by_text("Peaks and α", exact=True).click()
    wait_for_figures(page, 6)
    page.get_by_text("Quality", exact=True).click()
    expect(page.get_by_text("3 of 600 trains have no frames: trains 10017 <b>to</b> 10019")).to_be_visible()
    page.get_by_text("Provenance", exact=True).click()
    expect(page.get_by_text("product_hash")).to_be_visible()
    expect(page.get_by_text("irf_sigma: 0.04")).to_be_visible()
    page.get_by_text("Figures", exact=True).click()
    expect(page.locator("img").first).to_be_visible()
    page.get_by_text("All versions", exact=True).click()
    expect(page.get_by_text("v0001 ← shown")).to_be_visible()
    assert seen.hosts <= {seen.address.removeprefix("http://"), ""}
    assert seen.faults == []


def test_a_click_on_the_map_picks_energy_and_delay(visit, out):
    page = visit(out).page
    wait_for_figures(page)
    before = picked(page).inner_text()
    # a quarter of the width and near the top: the map is the first figure
    box = page.locator("canvas").first.bounding_box()
    page.mouse.click(box["x"] + 0.42 * box["width"], box["y"] + 0.35 * box["height"])
    expect(picked(page)).not_to_have_text(before)
    expect(picked(page)).not_to_contain_text("528.20 eV")
    expect(picked(page)).not_to_contain_text("0.2 ps")


def test_sliders_and_buttons_change_what_is_shown(visit, out):
    page = visit(out).page
    wait_for_figures(page)
    expect(picked(page)).to_contain_text("16 mJ/cm²")
    page.locator(".noUi-handle").first.focus()
    page.keyboard.press("ArrowRight")
    expect(picked(page)).to_contain_text("0.3 ps")
    expect(picked(page)).not_to_contain_text("16 mJ/cm²")
    page.get_by_role("button", name="8", exact=True).last.click()
    expect(picked(page)).not_to_contain_text(" 8 mJ/cm²")
    page.get_by_role("button", name="even", exact=True).click()
    expect(picked(page)).to_contain_text("0.3 ps")


def test_a_new_version_shows_up_and_an_old_one_stays_if_wanted(visit, out, made):
    seen = visit(out)
    page = seen.page
    wait_for_figures(page)
    publish_version(out, *made)
    expect(page.get_by_text("now showing v0002")).to_be_visible()
    wait_for_figures(page)
    page.get_by_label("version", exact=True).select_option("v0001")
    expect(page.get_by_role("checkbox")).not_to_be_checked()
    publish_version(out, *made)
    expect(page.get_by_text("v0003 is new")).to_be_visible()
    expect(page.get_by_label("version", exact=True)).to_have_value("v0001")
    page.get_by_label("compare with").select_option("v0003")
    wait_for_figures(page)
    assert seen.faults == []


def test_no_products_yet_then_the_first_one(visit, tmp_path, made):
    page = visit(tmp_path).page
    expect(page.get_by_text("No products yet")).to_be_visible()
    publish_version(tmp_path, *made)
    wait_for_figures(page)
    expect(picked(page)).to_contain_text("528.20 eV")


@pytest.mark.parametrize("damage", ["summary", "store", "group"])
def test_a_broken_product_says_what_is_wrong_and_the_others_still_work(visit, out, damage):
    shutil.copytree(out / "products" / "seed", out / "products" / "broken")
    version = out / "products" / "broken" / "v0001"
    if damage == "summary":
        (version / "summary.json").write_text("{")
        text = "summary.json is missing or damaged"
    elif damage == "store":
        (version / "product.zarr" / "zarr.json").write_text("{")
        text = "is damaged (product.zarr/zarr.json: is not what was published)"
    else:
        for chunk in (version / "product.zarr" / "spectra" / "delta_xas" / "c").rglob("*"):
            if chunk.is_file():
                chunk.write_bytes(b"not a chunk")
        text = "is damaged (product.zarr/spectra/delta_xas/c/0/0/0: is not what was published"
    seen = visit(out, "?dataset=broken")
    page = seen.page
    expect(page.locator(".failure")).to_contain_text(text)
    page.get_by_label("dataset").select_option("seed")
    wait_for_figures(page)
    expect(page.locator(".failure")).to_have_count(0)
    assert seen.faults == []


def test_a_dark_page_for_a_dark_browser_and_a_button_for_the_rest(visit, out):
    page = visit(out, scheme="dark").page
    page.wait_for_url("**theme=dark**")
    wait_for_figures(page)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(23, 26, 31)"
    page.get_by_role("button", name="light", exact=True).click()
    page.wait_for_url("**theme=light**")
    wait_for_figures(page)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
