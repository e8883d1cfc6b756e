"""Pretraining: it learns, and a run that was killed is the undisturbed run."""

import csv
import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import count

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from ttt_jax.tabular import PFN
from ttt_jax.tabular.pretraining import loop
from ttt_jax.tabular.pretraining.config import PRESETS, PretrainConfig
from ttt_jax.tabular.pretraining.feed import tables_from
from ttt_jax.tabular.pretraining.loop import main, pretrain
from ttt_jax.tabular.pretraining.objective import _loss
from ttt_jax.tabular.pretraining.prior import PriorConfig, host_tables

SMALL = replace(PRESETS["cpu-smoke"], steps=6, decay_steps=2, warmup_steps=1, report_every=2, cells_per_step=512)
TIMES = {"cpu_hours", "prior_hours"}


@contextmanager
def tables_here(config, first):
    """In place of `tables_from`: the same tables, made by this process."""
    yield ((host_tables(config.prior, config.seed, i, *config.shape(i)), 0.0) for i in count(first))


@pytest.fixture(scope="module", autouse=True)
def one_process():
    """Where processes are not the point there are none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "tables_from", tables_here)
        yield


@pytest.fixture
def worker(monkeypatch):
    """The process that makes tables is part of the test."""
    monkeypatch.setattr(loop, "tables_from", tables_from)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("undisturbed")
    return directory, list(pretrain(SMALL, directory))


def require_same_run(ours, theirs):
    """All that a run leaves, but for the time that it took."""
    for name in ("state.safetensors", "pfn.safetensors"):
        expected = load_file(theirs / name)
        found = load_file(ours / name)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value)
    logs = []
    for directory in (ours, theirs):
        with (directory / "log.csv").open(newline="") as file:
            logs.append([{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)])
    assert logs[0] == logs[1]


def test_a_resumed_run_is_the_undisturbed_run_bit_for_bit(undisturbed, tmp_path):
    first = next(pretrain(SMALL, tmp_path))
    assert first["step"] == 2
    rows = list(pretrain(SMALL, tmp_path))
    assert [row["step"] for row in rows] == [4, 6]
    assert first["cpu_hours"] < rows[0]["cpu_hours"] < rows[1]["cpu_hours"]
    require_same_run(tmp_path, undisturbed[0])


def test_a_killed_run_is_the_undisturbed_run_bit_for_bit(undisturbed, tmp_path):
    """Killed somewhere after its first checkpoint; the process that makes its tables ends too."""
    code = f"""
import sys
from ttt_jax.tabular.pretraining.config import PretrainConfig
from ttt_jax.tabular.pretraining.loop import pretrain
if __name__ == "__main__":
    import jax
    jax.config.update("jax_compilation_cache_dir", {jax.config.jax_compilation_cache_dir!r})
    config = PretrainConfig.from_json(open(sys.argv[1]).read(), "")
    for row in pretrain(config, sys.argv[2]):
        print(row["step"], flush=True)
"""
    (tmp_path / "config.json").write_text(json.dumps(asdict(replace(SMALL, steps=10_000))))
    (tmp_path / "run.py").write_text(code)
    run = tmp_path / "run"
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "config.json"), str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "2\n"
        process.kill()
        process.communicate(timeout=300)  # until the last process that could write has ended
    list(pretrain(SMALL, run))
    require_same_run(run, undisturbed[0])


def test_a_kill_while_saving_leaves_the_state_before(undisturbed, tmp_path, monkeypatch):
    """Weights and a row of the log that are ahead of the state are written again."""
    next(pretrain(SMALL, tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_state", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            next(pretrain(SMALL, tmp_path))
    (tmp_path / "state.safetensors.new").write_bytes(b"half")
    list(pretrain(SMALL, tmp_path))
    require_same_run(tmp_path, undisturbed[0])


def test_the_number_of_steps_can_change_before_the_decay(undisturbed, tmp_path):
    """As long as the learning rate is constant, a run that is to be longer is the same run."""
    longer = replace(SMALL, steps=100)
    next(pretrain(longer, tmp_path))
    list(pretrain(SMALL, tmp_path))
    require_same_run(tmp_path, undisturbed[0])
    with pytest.raises(ValueError, match=r"^steps must be 6 to resume the run in .*, got 100$"):
        next(pretrain(longer, tmp_path))
    with pytest.raises(ValueError, match=r"^decay_steps must be 2 to resume the run in .*, got 3$"):
        next(pretrain(replace(SMALL, decay_steps=3), tmp_path))
    next(pretrain(longer, tmp_path / "other"))
    with pytest.raises(ValueError, match=r"^steps - decay_steps must be at least 2 to resume the run in .*, got 1$"):
        next(pretrain(replace(SMALL, steps=3), tmp_path / "other"))


def test_another_setting_is_another_run(undisturbed):
    with pytest.raises(ValueError, match=r"learning_rate must be 0.005 to resume the run in .*, got 0.5"):
        next(pretrain(replace(SMALL, learning_rate=0.5), undisturbed[0]))


def test_it_stops_in_time_and_goes_on(tmp_path):
    assert list(pretrain(SMALL, tmp_path, hours=0)) == []
    assert [row["step"] for row in pretrain(SMALL, tmp_path, hours=1e-9)] == []


def test_stored_tables_take_the_place_of_the_prior(worker, tmp_path):
    rng = np.random.default_rng(0)
    x, num_features = rng.normal(size=(20, 64, 4)).astype(np.float32), np.full(20, 4, np.int32)
    y = (x[..., 0] > 0).astype(np.int32)
    np.savez(tmp_path / "64x4-0.npz", x=x, y=y, num_features=num_features)
    config = replace(SMALL, stored=str(tmp_path), steps=2, report_every=2, decay_steps=0)
    (row,) = pretrain(config, tmp_path / "run")
    assert np.isfinite(row["loss"])
    with pytest.raises(ValueError, match=r"stored must be '/.* to resume the run in .*, got 'elsewhere'"):
        next(pretrain(replace(config, stored="elsewhere"), tmp_path / "run"))
    with pytest.raises(ValueError, match="must have files 64x4"):
        next(pretrain(replace(config, stored=str(tmp_path / "run")), tmp_path / "other"))


def test_a_run_goes_on_from_the_weights_of_another(undisturbed, tmp_path):
    weights = undisturbed[0] / "pfn.safetensors"
    config = replace(SMALL, start=str(weights), warmup_steps=4, report_every=1)
    next(pretrain(config, tmp_path))
    first, begin = load_file(tmp_path / "pfn.safetensors"), load_file(weights)
    for name, value in begin.items():  # the learning rate of the first step is 0
        np.testing.assert_array_equal(first[name], value)
    with pytest.raises(ValueError, match=r"start: .*pfn.safetensors holds a network with other sizes"):
        next(pretrain(replace(config, embedding_size=16), tmp_path / "other"))


def test_it_learns(worker, tmp_path):
    """On tables that it has not seen the loss is lower than at first, by three standard errors of the differences."""
    graphs = PriorConfig(graph=1.0, extra_trees=0.0, boosting=0.0, rules=0.0)  # the quickest to draw
    config = replace(PRESETS["cpu-smoke"], prior=graphs)
    assert [row["step"] for row in pretrain(config, tmp_path)] == [20, 40, 60]
    shape = config.shape(0)._replace(tables=48)
    unseen = host_tables(config.prior, config.seed, config.steps, *shape)
    networks = PFN.init(config.network, config.seed), PFN.load(tmp_path / "pfn.safetensors")

    loss = jax.jit(jax.vmap(lambda pfn, table: _loss(pfn, shape.most_context, table, jax.numpy.asarray(48)), (None, 0)))
    first, last = (np.asarray(loss(pfn, unseen)) for pfn in networks)
    assert (first - last).mean() > 3 * (first - last).std(ddof=1) / shape.tables**0.5


def test_the_command_reports_and_logs(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(asdict(SMALL) | {"warmup_steps": 0}))
    options = ["--config", str(tmp_path / "config.json"), "--steps", "2", "--decay-steps", "1"]
    assert main([*options, "--out", str(tmp_path / "run")]) == 0
    assert "step 2 " in capsys.readouterr().out
    assert main([*options, "--out", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out == ""  # finished: nothing left to do


def test_the_tables_of_every_step_come_from_another_process():
    with tables_from(SMALL, 1) as tables:
        for step in (1, 2):
            made, seconds = next(tables)
            for ours, theirs in zip(host_tables(SMALL.prior, SMALL.seed, step, *SMALL.shape(step)), made, strict=True):
                np.testing.assert_array_equal(ours, theirs)
            assert seconds > 0


def test_a_step_is_down_the_gradient(undisturbed):
    pfn = PFN.init(SMALL.network)
    rng = np.random.default_rng(0)
    gradients = jax.tree.map(lambda p: rng.normal(size=p.shape).astype(p.dtype), pfn)
    state, moved, average = loop._optimizer(SMALL).init(pfn), *(jax.tree.map(np.copy, pfn) for _ in range(2))
    for step in (1, 2):  # of the first the learning rate is 0
        moved, state, average = loop._update(SMALL, np.float32(step), moved, state, average, gradients)
    leaves = zip(*map(jax.tree.leaves, (pfn, moved, gradients)), strict=True)
    assert all(np.vdot(after - before, gradient) < 0 for before, after, gradient in leaves if before.size)


def test_the_average_weighs_late_steps_more():
    """Weight i in proportion to i^9, up to terms of order 1/i."""
    config, steps = replace(SMALL, learning_rate=0.0), 240
    pfn = PFN.init(config.network)
    zero = jax.tree.map(np.zeros_like, pfn)
    state, average = loop._optimizer(config).init(pfn), jax.tree.map(np.copy, pfn)
    for i in range(1, steps + 1):
        there = jax.tree.map(lambda p, i=i: np.full_like(p, i), pfn)
        _, state, average = loop._update(config, np.float32(i), there, state, average, zero)
    assert float(average.params["unlabelled"][0]) == pytest.approx(steps * 10 / 11, rel=1 / steps)


def test_every_weight_has_an_optimiser():
    """Matrices by Muon in the right orientation, that is all with two axes beyond layers, heads and projections."""
    pfn = PFN.init(SMALL.network)
    matrices = loop._matrices(pfn).params
    found = jax.tree_util.tree_leaves_with_path(matrices, is_leaf=lambda x: not isinstance(x, dict))
    for path, numbers in found:
        shape = pfn.params
        for key in path:
            shape = shape[key.key]
        name = jax.tree_util.keystr(path)
        if numbers is None:
            assert not any(matrix in name for matrix in ("qk", "out", "mlp")) or "readout" in name, name
        else:
            inner = np.prod([shape.shape[axis] for axis in np.atleast_1d(numbers.reduction_axis)])
            outer = np.prod([shape.shape[axis] for axis in np.atleast_1d(numbers.output_axis)])
            assert {int(inner), int(outer)} <= {32, 96}, name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be an integer >= 1, got 0"),
        ({"steps": 10}, "steps must be at least warmup_steps + decay_steps, got 10"),
        ({"rows": []}, "rows must be a list of integers, got none"),
        ({"features": [4, 0]}, "features must be an integer >= 1, got 0"),
        ({"row_shares": [1.0]}, "row_shares must be a share for each of rows, got (1.0,)"),
        ({"rows": [64], "row_shares": [0.5]}, "row_shares must sum to 1, got 0.5"),
        ({"most_cells": 64}, "most_cells must be at least 64 rows of 64, got 64"),
        ({"learning_rate": 2}, "learning_rate must be a number between 0 and 1, got 2"),
        ({"weight_decay": "x"}, "weight_decay must be a finite number, got 'x'"),
        ({"num_heads": 5}, "num_heads: 5 does not divide embedding_size 128"),
        ({"depth": 3}, "unknown field 'depth'"),
        ([], "is not a JSON object"),
        ({"prior": {"missing": 2}}, "missing must be a number between 0 and 1, got 2"),
        ({"prior": {"trees": 2}}, "prior must be an object of graph, extra_trees, boosting, rules, binary, missing,"),
        ({"prior": 2}, "prior must be an object of graph, "),
    ],
)
def test_wrong_settings_are_one_line(tmp_path, capsys, settings, message):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(settings))
    assert main(["--config", str(config), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_what_is_not_json_and_hours_without_meaning_are_one_line(tmp_path, capsys):
    config, out = tmp_path / "config.json", str(tmp_path / "run")
    config.write_text("a,b")
    assert main(["--config", str(config), "--out", out]) == 2
    assert f"{config}: not JSON" in capsys.readouterr().err
    assert main(["--preset", "cpu-smoke", "--hours", "-1", "--out", out]) == 2
    assert "--hours must be positive, got -1.0" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_steps_of_a_run_have_the_sizes_it_names():
    config = PRESETS["cpu"]
    shapes = [config.shape(step) for step in range(4000)]
    assert all(shape.rows * shape.features <= config.most_cells for shape in shapes)
    for rows, share in zip(config.rows[:-2], config.row_shares[:-2], strict=True):
        found = np.mean([shape.rows == rows for shape in shapes])
        assert abs(found - share) < 5 * (share * (1 - share) / len(shapes)) ** 0.5
    contexts = np.concatenate([config.context_sizes(step) / config.shape(step).rows for step in range(500)])
    assert contexts.min() >= 8 / 64
    assert contexts.max() <= 0.8
    assert config.context_sizes(3).tolist() == config.context_sizes(3).tolist()


def test_presets_are_valid():
    assert set(PRESETS) == {"cpu-smoke", "cpu", "gpu", "pilot-128", "pilot-192"}
    assert all(isinstance(preset, PretrainConfig) for preset in PRESETS.values())
    for preset in PRESETS.values():
        weights = jax.eval_shape(lambda config=preset.network: PFN.init(config))
        assert sum(leaf.size for leaf in jax.tree.leaves(weights)) <= 3_000_000
