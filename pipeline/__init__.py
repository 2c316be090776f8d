"""From raw runs to the product; runs without Prefect. `open_product` is all that a notebook needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Product", "open_product"]


class Product(NamedTuple):
    """A published version, opened: unpacks as `tree, summary, where`."""

    tree: xr.DataTree
    """All groups, opened lazily (`tree["spectra"].to_dataset()`)."""
    summary: dict[str, Any]
    """summary.json: times, excited fractions, peaks, runs, warnings."""
    where: str
    """Folder or URL of the version; it never changes, while `latest` does."""


def open_product(where: str | Any) -> Product:
    """Open a product from a version, a product.zarr, a dataset's folder or an output folder; a path or a URL.

    Parameters
    ----------
    where
        E.g. `results`, `results/products/my-sample/v0003`, `s3://bucket/prefix`.

    Raises
    ------
    ProductError
        In one line, if there is no product, or more than one dataset.
    """
    # what only wants `pipeline.science` should not pay for this
    from pipeline.storage import store
    from pipeline.storage import versions as publish

    version = publish.resolve(str(where))
    return Product(store.open_tree(version / "product.zarr"), publish.read_summary(version), str(version))
