import math
from dataclasses import replace

import numpy as np
import pytest

from tests.simulation.draws import draws
from ttt_jax import GaussianTasks, GradientStep, Inference, Problem, estimate_risk, exact_risk
from ttt_jax.simulation import reliability as tails
from ttt_jax.simulation.reliability import tails_are_seen, unseen_variance


def share(problem, evaluation, num_tasks=20_000, lr_factor=1.0, weights=None):
    weights = np.asarray(1 / (problem.n + problem.d + 1) if weights is None else weights)
    problem = replace(problem, evaluation=evaluation)
    return unseen_variance(problem, weights, lr_factor * exact_risk(problem, weights).optimal_lr, num_tasks)


def law_risks(problem, weights, procedure):
    """The per-task risks of 2^18 experiments."""
    return draws(problem, weights, (procedure,), num_tasks=2**18, sampler="law")[:, 0]


def test_heavy_and_light_tails():
    few = Problem(2, 2, np.ones(2))
    many = Problem(100, 200, np.ones(100))
    assert share(few, "same") > 0.5
    assert share(many, "same") < 0.1
    assert share(many, "fresh") < 0.1
    assert share(few, "same", lr_factor=0.0, num_tasks=100_000) < 0.1  # without a step the tails are those of r'Sx r


@pytest.mark.parametrize("task", [np.ones(9) / 3, GaussianTasks(np.ones(9) / 6, 0.05)], ids=["fixed", "random"])
@pytest.mark.parametrize("evaluation", ["fresh", "same"])
def test_in_a_frame_the_share_is_the_same(task, evaluation, monkeypatch):
    problem = Problem(8, 12, task, noise_var=0.2)
    framed = share(problem, evaluation, num_tasks=200, lr_factor=0.5)
    monkeypatch.setattr(tails, "in_frame", lambda *_: None)
    assert framed == pytest.approx(share(problem, evaluation, num_tasks=200, lr_factor=0.5), rel=0.2)


@pytest.mark.parametrize(
    ("shares", "seen"),
    [([0.3], False), ([0.15, 0.05], True), ([0.06, 0.11, 0.09], True), ([0.06, 0.09, 0.11], False)],
)
def test_more_draws_are_made_near_the_bound(shares, seen, monkeypatch):
    left = list(shares)
    monkeypatch.setattr(tails, "unseen_variance", lambda *_: left.pop(0))
    assert tails_are_seen(Problem(2, 2, np.ones(2)), np.zeros(()), GradientStep(0.1), 100, 0.1) is seen
    assert not left


def test_longer_runs_see_more():
    problem = Problem(5, 5, np.ones(5))
    shares = [share(problem, "same", num_tasks) for num_tasks in (10, 1000, 10**5, 10**9)]
    assert shares == sorted(shares, reverse=True)


FACTOR = [0.5, 1.0, 2.0]
LAW = Inference(n=9, feature_cov=[1.0, 0.3, 2.0], noise_var=0.5, query_feature_cov=0.5, rescale=True)


@pytest.mark.parametrize(
    ("evaluation", "factors"),
    [("fresh", {}), (LAW, {"left": FACTOR, "right": FACTOR}), (Inference("same", query_feature_cov=FACTOR), {})],
    ids=["fresh", "law at inference, factors", "same"],
)
def test_against_brute_force(evaluation, factors):
    """The importance-sampled share of the variance against that of a long plain run."""
    same = getattr(evaluation, "context", evaluation) == "same"  # whose tails need more rows for a share that is stable
    n, k = (40, 40) if same else (6, 8)
    problem = Problem(n, k, np.ones(3), noise_var=0.2, evaluation=evaluation)
    weights = np.asarray(0.05)
    step = GradientStep(0.3 * exact_risk(problem, weights, GradientStep(**factors)).optimal_lr, **factors)
    risks = np.sort(law_risks(problem, weights, step))
    deviation = (risks - risks.mean()) ** 2
    plain = deviation[-len(risks) // 100 :].sum() / deviation.sum()
    assert unseen_variance(problem, weights, step, 100) == pytest.approx(plain, rel=0.15)


def test_scale_and_constant_risk():
    problem = Problem(3, 4, np.ones(2), noise_var=0.1)
    scaled = Problem(3, 4, 1e6 * np.ones(2), noise_var=1e11)
    assert share(scaled, "same") == pytest.approx(share(problem, "same"), rel=1e-6)
    assert share(Problem(3, 4, np.zeros(2), feature_cov=0.0, noise_var=1.0), "fresh") == 0.0
    assert 0 <= share(Problem(3, 4, GaussianTasks(d=3)), "fresh") <= 1


def test_flag_follows_the_tails():
    for n, evaluation, reliable in ((2, "same", False), (16, "same", False), (60, "fresh", True)):  # shares 1, 0.4, 0
        problem = Problem(n, n, np.ones(n) / np.sqrt(n), evaluation=evaluation)
        weights = 1 / (2 * n + 1)
        lr = exact_risk(problem, weights).optimal_lr
        found = estimate_risk(problem, weights, lr, num_tasks=4000, sampler="law")
        assert found.stderr_reliable is reliable


def test_few_draws_decide_as_all_do():
    """At sizes from 2 to 60, in the frame and not, from far below the bound to far above it."""
    rng = np.random.default_rng(3)
    for i in range(12):
        n, k, d = np.exp(rng.uniform(math.log(2), math.log(60), 3)).astype(int)
        problem = Problem(n, k, np.ones(d), np.linspace(1, 1 + i % 3, d), 0.3 * d, evaluation=("fresh", "same")[i % 2])
        weights, num_tasks = np.asarray(1 / (n + d + 1)), int(10 ** rng.uniform(2.5, 6))
        step = GradientStep(exact_risk(problem, weights).optimal_lr)
        share = unseen_variance(problem, weights, step, num_tasks)
        assert tails_are_seen(problem, weights, step, num_tasks, 0.1) is (share <= 0.1)


def test_coverage_where_the_flag_says_reliable():
    """Nominal 95% intervals over 256 runs of 1024 tasks; the bound is 4 binomial standard errors below 95%."""
    problem = Problem(10, 20, np.ones(5) / np.sqrt(5))
    weights = np.asarray(1 / 16)
    curve = exact_risk(problem, weights)
    lr = 0.5 * curve.optimal_lr
    assert estimate_risk(problem, weights, lr, num_tasks=1024, sampler="law").stderr_reliable
    runs = law_risks(problem, weights, GradientStep(lr)).reshape(256, 1024)
    covered = abs(runs.mean(axis=1) - curve.at(lr)) < 1.96 * runs.std(axis=1, ddof=1) / np.sqrt(1024)
    assert covered.mean() > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 256)


@pytest.mark.parametrize(("evaluation", "least"), [("fresh", 16), ("same", 24)])
def test_too_heavy_tails_have_no_variance(evaluation, least):
    """The risk has degree 8 or 12 in the features of one row, so its square needs twice as many moments."""
    for dof, infinite in ((least, True), (least + 1, False)):
        problem = Problem(40, 40, np.ones(4), feature_law="student_t", dof=dof, evaluation=evaluation)
        assert (unseen_variance(problem, np.zeros(()), 1e-7, 20_000) == 1.0) is infinite


def test_memory_does_not_grow_with_d(monkeypatch):
    """512 draws are made in parts: the same kind of share, from no more normals at once than a part has."""
    problem = Problem(20, 20, np.ones(16) / 4, feature_cov=np.linspace(0.9, 1.1, 16))
    whole = share(problem, "same")
    monkeypatch.setattr("ttt_jax.simulation.reliability.MAX_NORMALS", 16 * 1000)
    monkeypatch.setattr("ttt_jax.simulation.reliability.MIN_DRAWS", 2**14)
    sizes = []
    weighted_risks = tails._weighted_risks
    monkeypatch.setattr(tails, "_weighted_risks", lambda *a: sizes.append(a[3]) or weighted_risks(*a))
    assert share(problem, "same") == pytest.approx(whole, rel=0.3)
    assert max(sizes) == 1000
    assert sum(sizes) == 2**14
