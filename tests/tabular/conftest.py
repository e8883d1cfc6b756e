"""The networks of these tests take long to compile and are hardly used."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def _unoptimised(_code_that_runs_once):
    pass
