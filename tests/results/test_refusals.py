"""What cannot be told from a product."""

import pytest

from pipeline.errors import ProductError
from pipeline.results.plan import plan_of_product
from tests.synthetic import fitted


def test_a_product_without_delay_scans_is_no_basis_of_a_plan():
    tree, _ = fitted("spectra-only", scans=False)
    with pytest.raises(ProductError, match="the product holds no kinetic fit of a delay scan to plan from"):
        plan_of_product(tree, "product")
