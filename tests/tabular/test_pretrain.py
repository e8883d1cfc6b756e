"""Pretraining: it learns, and an interrupted run is the undisturbed run."""

import json
from dataclasses import asdict, replace

import jax
import numpy as np
import pytest

from ttt_jax.tabular import PFN
from ttt_jax.tabular.pretraining.loop import PRESETS, PretrainConfig, main, pretrain

pytestmark = pytest.mark.usefixtures("quick_compilation")
SMALL = replace(PRESETS["cpu-smoke"], steps=12, decay_steps=4, warmup_steps=2, report_every=4, cells_per_step=512)


def weights(directory):
    return jax.tree.leaves(PFN.load(directory / "pfn.safetensors").params)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("undisturbed")
    return directory, list(pretrain(SMALL, directory))


def test_an_interrupted_run_continues_bit_for_bit(undisturbed, tmp_path):
    directory, reports = undisturbed
    for report in pretrain(SMALL, tmp_path):
        if report.step == 4:
            break
    resumed = list(pretrain(SMALL, tmp_path))
    assert [report.step for report in resumed] == [8, 12]
    assert [r.loss for r in resumed] == [r.loss for r in reports[1:]]
    for ours, theirs in zip(weights(tmp_path), weights(directory), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_number_of_steps_can_change_before_the_decay(undisturbed, tmp_path):
    """As long as the learning rate is constant, a run that is to be longer is the same run."""
    directory, _ = undisturbed
    longer = replace(SMALL, steps=100)
    next(pretrain(longer, tmp_path))
    list(pretrain(SMALL, tmp_path))
    for ours, theirs in zip(weights(tmp_path), weights(directory), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="its decay can no longer begin at 8"):
        next(pretrain(longer, tmp_path))


def test_another_setting_is_another_run(undisturbed):
    with pytest.raises(ValueError, match=r"learning_rate: 0.5 is not the 0.002 of the run"):
        next(pretrain(replace(SMALL, learning_rate=0.5), undisturbed[0]))


def test_it_learns(tmp_path):
    reports = list(pretrain(PRESETS["cpu-smoke"], tmp_path))
    assert reports[-1].loss < reports[0].loss
    assert 0.2 < reports[-1].accuracy < 1


def test_the_command_reports_and_logs(tmp_path, capsys):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(asdict(SMALL) | {"warmup_steps": 0}))
    options = ["--config", str(config), "--steps", "2", "--decay-steps", "1", "--out", str(tmp_path / "run")]
    assert main(options) == 0
    assert "step 2/2" in capsys.readouterr().out
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[0]["step"] == 2
    assert main(options) == 0  # finished: nothing left to do


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be an integer >= 1, got 0"),
        ({"steps": 10}, "steps: 10 must be at least warmup_steps + decay_steps"),
        ({"contexts": [64, 16]}, "must be increasing"),
        ({"contexts": []}, "contexts must be a list of integers >= 1, got ()"),
        ({"features": [4, 0]}, "features must be an integer >= 1, got 0"),
        ({"learning_rate": 2}, "learning_rate must be a number between 0 and 1, got 2"),
        ({"weight_decay": "x"}, "weight_decay must be a finite number, got 'x'"),
        ({"num_heads": 5}, "num_heads: 5 does not divide embedding_size 64"),
        ({"depth": 3}, "unknown field 'depth'"),
        ([], "is no JSON object"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path, capsys, settings, message):
    config = tmp_path / "config.json"
    config.write_text(json.dumps(settings))
    with pytest.raises(SystemExit) as exit:
        main(["--config", str(config), "--out", str(tmp_path / "run")])
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_presets_are_valid():
    assert set(PRESETS) == {"cpu-smoke", "cpu", "gpu"}
    assert all(isinstance(preset, PretrainConfig) for preset in PRESETS.values())
