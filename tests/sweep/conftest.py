import pytest

from tests.sweep.runs import write_spec
from ttt_jax.sweep.run import run_sweep


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    """A specification and, in `out`, its finished sweep; tests read it and change only copies."""
    directory = tmp_path_factory.mktemp("undisturbed")
    run_sweep(write_spec(directory), directory / "out", progress=False)
    return directory
