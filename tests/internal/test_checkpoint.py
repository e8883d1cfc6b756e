"""Saved states: restored by another process, the latest one, and none where there is none."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from ttt_jax._internal.checkpoint import load, pieces, require_same_settings, save

STATE = {"weights": jnp.arange(6.0).reshape(2, 3), "count": jnp.int32(4), "half": jnp.ones(2, jnp.bfloat16)}
SETTINGS = {"seed": 0, "steps": 6, "spectrum": [1.0, 0.1]}


def test_another_process_restores_the_latest_state(tmp_path):
    assert load(tmp_path) is None
    for step in (1, 2, 3):
        save(tmp_path, SETTINGS, [step], {**STATE, "count": jnp.int32(step)})
    code = (
        "import sys, pathlib\n"
        "from ttt_jax._internal.checkpoint import load\n"
        "saved = load(pathlib.Path(sys.argv[1]))\n"
        "print(saved.settings, saved.progress, [leaf.tolist() for leaf in saved.leaves])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    settings = '{"seed": 0, "steps": 6, "spectrum": [1.0, 0.1]}'
    assert done.stdout == f"{settings} [3] [3, [1.0, 1.0], [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]]\n"


def test_a_state_has_the_structure_and_the_types_that_it_had(tmp_path):
    save(tmp_path, SETTINGS, [1], STATE)
    found = load(tmp_path).state(like=jax.tree.map(jnp.zeros_like, STATE))
    for name, array in STATE.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    with pytest.raises(ValueError, match=r"must hold a state with arrays of shapes .*\(3, 3\).*, got .*\(2, 3\)"):
        load(tmp_path).state(like={**STATE, "weights": jnp.zeros((3, 3))})


def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path):
    file = tmp_path / "state.safetensors"
    for write in (
        lambda: file.write_bytes(b""),
        lambda: file.write_bytes(b"not a state" * 9),
        lambda: save_file({"0": np.ones(2)}, file),
        lambda: save_file({"weights": np.ones(2)}, file, {"config": "{}", "progress": "[1]"}),
        lambda: save_file({"0": np.ones(2)}, file, {"config": "{}", "progress": "one"}),
    ):
        write()
        with pytest.raises(ValueError, match=r"^directory must hold a state that a run has saved, got ") as error:
            load(tmp_path)
        assert "\n" not in str(error.value)


def test_settings_are_those_of_the_run(tmp_path):
    require_same_settings({**SETTINGS, "steps": 8}, SETTINGS, tmp_path, free=["steps"])
    with pytest.raises(ValueError, match=r"spectrum must be \[1.0, 0.1\] to resume the run in .*, got \[1.0\]"):
        require_same_settings({**SETTINGS, "spectrum": [1.0]}, SETTINGS, tmp_path, free=[])


def test_pieces_are_all_steps_in_order_and_end_where_an_undisturbed_run_saves():
    for done in range(12):
        assert [i for piece in pieces(done, 11, 4) for i in piece] == list(range(done, 11))
        assert [piece.stop for piece in pieces(done, 11, 4)] == [stop for stop in (4, 8, 11) if stop > done]
