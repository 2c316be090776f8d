"""A value comes into a config, and everything else in its text stays."""

import pytest
import yaml

from schemas.config_text import with_value

CASES = {
    "flow": "a: 1   # one\ndelay: {t0: fit, sign: -1}   # by hand\nb: [2]\n",
    "flow without it": "delay: {sign: -1}   # by hand\n",
    "empty flow": "delay: {}\na: 1\n",
    "block": "# first\ndelay:\n  # where it is\n  t0: 120.0   # mm\n  sign: -1\na: 1\n",
    "block without it": "delay:\n    sign: -1   # mounted backwards\na: 1\n",
    "no section": "a: 1   # one",
    "empty section": "delay:\na: 1   # one\n",
}


@pytest.mark.parametrize("text", CASES.values(), ids=CASES)
def test_the_value_is_there_and_the_rest_is_as_it_was(text):
    changed = with_value(text, "delay", "t0", "87.322")
    before, after = yaml.safe_load(text), yaml.safe_load(changed)
    assert after == before | {"delay": (before.get("delay") or {}) | {"t0": 87.322}}
    assert [line.split("#")[1] for line in text.splitlines() if "#" in line] == [
        line.split("#")[1] for line in changed.splitlines() if "#" in line
    ]
