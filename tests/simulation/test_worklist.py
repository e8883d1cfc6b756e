"""The list of (work, block): each work has the bits that it has alone, whatever it is beside and when it stops."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from ttt_jax import GradientStep, GradientSteps, Problem
from ttt_jax.simulation import worklist
from ttt_jax.simulation.accumulate import Tally
from ttt_jax.simulation.blocks import run_blocks
from ttt_jax.simulation.estimate import make_run
from ttt_jax.simulation.worklist import Work, all_draws, tallies


def pairs(key, setting):
    return setting["scale"] * jax.random.exponential(key, (2,))


def work(seed=0, scale=1.0, num_tasks=150, **options):
    setting = {"scale": np.float32(scale)}
    return Work(pairs, setting, np.array([1.0, 10.0]), num_tasks, seed, **{"block_size": 32, **options})


def finished(works):
    """The last tally of every work, and the order in which they end."""
    last = {}
    for found in tallies((work, Tally()) for work in works):
        last |= {work: tally for work, tally in found.items() if work.is_done(tally)}
    assert {*last} == {*works}
    return last


def same(ours, theirs):
    assert (ours.num_blocks, ours.num_nonfinite, ours.history) == (
        theirs.num_blocks,
        theirs.num_nonfinite,
        theirs.history,
    )
    for a, b in zip(ours.moments, theirs.moments, strict=True):
        np.testing.assert_array_equal(a, b)


def test_moments_are_those_of_the_draws():
    """In the given units, of a last block that is shorter."""
    one = work(num_tasks=150)
    drawn = np.concatenate(list(all_draws(one)))
    moments = finished([one])[one].moments
    assert moments.count == len(drawn) == 150
    np.testing.assert_allclose(moments.mean, drawn.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(moments.covariance, np.cov(drawn, rowvar=False), rtol=1e-5)


@pytest.mark.parametrize("blocks_per_call", [1, 64])
def test_beside_others_a_work_has_the_bits_that_it_has_alone(monkeypatch, blocks_per_call):
    """More works than there is room for, of two kinds, some of which stop early."""
    works = [work(seed, 1 + seed / 7, num_tasks=64 + 13 * seed, block_size=32 >> seed % 2) for seed in range(9)]
    works += [work(seed, num_tasks=4000, target_relative_stderr=0.08) for seed in range(20, 23)]
    alone = {one: finished([one])[one] for one in works}
    monkeypatch.setattr(worklist, "WORKS_PER_CALL", 4)
    monkeypatch.setattr(worklist, "SECONDS_PER_CALL", 0.0 if blocks_per_call == 1 else 0.25)
    together = finished(works)
    for one in works:
        same(together[one], alone[one])
    assert all(32 < together[one].num_tasks < 4000 for one in works[9:])


def test_cells_of_one_kind_share_a_compilation_and_have_the_bits_of_one(monkeypatch):
    """Real cells: other n, k, seeds and step sizes; several values each."""
    runs = []
    for seed in range(5):
        problem = Problem(4 + seed, 9, np.ones(6) / 6**0.5, np.linspace(0.5, 1.5, 6), noise_var=0.1 * seed)
        steps = GradientStep(1e-3 * seed), GradientSteps([1e-3, 2e-3])
        runs.append(make_run(problem, 0.05, steps, num_tasks=100, seed=seed, block_size=16))
    before = run_blocks._cache_size()
    together = finished(runs)
    for run in runs:
        same(together[run], finished([replace(run)]).popitem()[1])
    assert run_blocks._cache_size() == before + 1


def test_the_next_call_begins_before_the_last_one_is_added(monkeypatch):
    order = []
    dispatch, added = worklist._Group.dispatch, worklist._Call.added_to
    monkeypatch.setattr(worklist._Group, "dispatch", lambda *a: order.append("begin") or dispatch(*a))
    monkeypatch.setattr(worklist._Call, "added_to", lambda *a: order.append("add") or added(*a))
    monkeypatch.setattr(worklist, "SECONDS_PER_CALL", 0.0)
    finished([work(num_tasks=96)])
    assert order == ["begin", "begin", "add", "begin", "add", "add"]


def test_works_of_many_kinds_are_not_all_held():
    taken = []

    def works():
        for block_size in range(1, 200):
            taken.append(block_size)
            yield work(block_size=block_size), Tally()

    next(worklist._batches(works()))
    assert len(taken) == worklist.MOST_WAITING


def test_no_more_works_than_there_is_room_for_go_together():
    room = work().room
    batches = worklist._batches((work(seed), Tally()) for seed in range(2 * room + 1))
    assert [len(batch) for batch in batches] == [room, room, 1]


def test_a_call_has_no_more_blocks_than_the_devices_have_time_for():
    works = [work(seed, num_tasks=150) for seed in range(3)]  # of five blocks each
    ahead, sizes = dict.fromkeys(works, 0), []
    while entries := worklist._next_entries(works, ahead, 7):
        sizes.append(len(entries))
    assert sizes == [7, 7, 1]


def test_many_values_per_task_have_shorter_calls():
    assert work().blocks_per_call == worklist.BLOCKS_PER_CALL
    assert replace(work(), units=np.ones(1024)).blocks_per_call == 4
    assert replace(work(), units=np.ones(10_000)).blocks_per_call == 1


def test_large_settings_have_less_room():
    assert work().room == worklist.WORKS_PER_CALL
    large = replace(work(), setting={"scale": np.zeros(worklist.SETTINGS_BYTES // 8, np.float32)})
    assert large.room == 2
    assert replace(large, setting={"scale": np.zeros(worklist.SETTINGS_BYTES, np.float32)}).room == 1
