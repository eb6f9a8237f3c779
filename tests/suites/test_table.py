import re
from pathlib import Path

import pytest

from rbs_jax.suites.table import SUITES


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_says_what_it_is_and_where_it_is(name):
    for line in (SUITES[name].about, SUITES[name].where):
        assert line
        assert "\n" not in line


def test_the_suites_of_the_documents():
    said = (Path(__file__).parents[2] / "docs" / "suites.md").read_text()
    assert {*SUITES} == set(re.findall(r"\| \[`(\w+)`\]", said))
