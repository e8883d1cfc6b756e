"""Saved states: restored by another process, the latest one, and none where there is none."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from ttt_jax._internal.checkpoint import Checkpoints

STATE = {"weights": jnp.arange(6.0).reshape(2, 3), "count": jnp.int32(4)}


def test_another_process_restores_the_latest_state(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save({**STATE, "count": jnp.int32(step)}, step)
    code = (
        "import sys, pathlib, jax.numpy as jnp\n"
        "from ttt_jax._internal.checkpoint import Checkpoints\n"
        "empty = {'weights': jnp.zeros((2, 3)), 'count': jnp.int32(0)}\n"
        "state, step = Checkpoints(pathlib.Path(sys.argv[1])).restore(empty)\n"
        "print(step, int(state['count']), state['weights'].tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "3 3 [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]\n"


def test_states_of_another_shape_are_refused(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(STATE, 1)
        with pytest.raises(ValueError, match="is of another model; name another directory"):
            checkpoints.restore({**STATE, "weights": jnp.zeros((3, 3))})


def test_nothing_is_saved_without_a_directory(tmp_path):
    with Checkpoints(None) as checkpoints:
        checkpoints.save(STATE, 1)
        state, step = checkpoints.restore(STATE)
    assert step == 0
    np.testing.assert_array_equal(state["weights"], STATE["weights"])
    with Checkpoints(tmp_path / "new") as checkpoints:
        assert checkpoints.restore(STATE)[1] == 0
