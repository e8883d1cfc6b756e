"""T steps on one batch, Sx = I, noiseless, same context: at best the risk falls by rho_T = 1/(1 + g + ... + g^T).

b - W_T u = phi(S/d) r with phi(m) = prod (1 - theta_j m), theta_j = 2 lr_j d |u|^2, S = Xt'Xt and r = b - W u. The
spectrum of S/d tends to Marchenko and Pastur's law, with moments m_j = sum_i Narayana(j, i) g^i, i = 1..j, g = k/d; so
the best T steps reach the minimum of its integral of phi^2 over all phi of degree T with phi(0) = 1, whose roots are
1 + g + 2 sqrt(g) cos(pi j/(T+1)). T = 1 gives the paper's k/(k+d).
"""

import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import sympy as sp

from proofs_check.claim import Claim, Verdict
from proofs_check.evidence.equality import identities
from proofs_check.evidence.simulation import Comparison, judge
from proofs_check.evidence.wishart import narayana_moment
from ttt_jax.problem import Problem
from ttt_jax.theory.risk import asymptotic_risk
from ttt_jax.theory.several_steps import best_step_sizes, best_steps_fraction, best_steps_risk, one_batch_risk
from ttt_jax.training.models import LinearAttention, Prompt, functional
from ttt_jax.training.steps import ttt_step
from ttt_jax.verdict.infinity import value_at_infinity

STEPS, RATIO = 3, 2


def formula(c, g, steps):
    return c[0] / sum(c[1] * g**j if j else 1 for j in range(steps + 1))


def symbolic(c):
    """The minimum is det(m_{i+j}) / det(m_{i+j+2}), from the normal equations of phi = 1 + sum_j phi_j m^j."""
    g = sp.Symbol("g", positive=True)
    pairs = {}
    for steps in (1, 2, 3):
        whole = sp.Matrix(steps + 1, steps + 1, lambda i, j: narayana_moment(i + j, g))
        rest = sp.Matrix(steps, steps, lambda i, j: narayana_moment(i + j + 2, g))
        pairs[f"T = {steps}"] = (formula(c, g, steps), whole.det(method="berkowitz") / rest.det(method="berkowitz"))
    return identities(pairs)


def best_polynomial(g, steps, points=2000):
    """Minimum and roots of phi by least squares on a quadrature of the density on 1 + g + 2 sqrt(g) cos(angle)."""
    angle = (np.arange(points) + 0.5) * math.pi / points
    m = 1 + g + 2 * math.sqrt(g) * np.cos(angle)
    weight = 2 * g * np.sin(angle) ** 2 / m / points  # and an atom 1 - g at 0 for g < 1, where phi is 1
    root = np.sqrt(weight)
    design = root[:, None] * m[:, None] ** np.arange(1, steps + 1)
    phi = np.linalg.lstsq(design, -root, rcond=None)[0]
    minimum = np.sum((root + design @ phi) ** 2) + max(1 - g, 0.0)
    return minimum, np.roots([*phi[::-1], 1.0]).real


def independent(c):
    errors = [
        abs(float(formula(c, g, steps)) / best_polynomial(g, steps)[0] - 1) for g in (0.5, 2.0) for steps in (1, 2, 3)
    ]
    problem = Problem(10, 40, np.ones(20))
    unit = 2 * 20 * (10**2 * 20 + 10 * 20 * 20)  # 2 d |u|^2
    roots = np.sort(1 / (unit * best_step_sizes(problem, 3)))
    errors += [abs(best_steps_fraction(2.0, 3) / best_polynomial(2.0, 3)[0] - 1)]
    errors += list(abs(roots / np.sort(best_polynomial(2.0, 3)[1]) - 1))
    noisy = best_step_sizes(replace(problem, noise_var=5.0), 3)  # |u|^2 = n^2 B + n d (B + s2)
    errors += list(abs(noisy / best_step_sizes(problem, 3) / (6000 / 7000) - 1))
    errors += list(warm_errors(problem, 1 / 50))
    return Verdict(bool(max(errors) < 1e-8), f"quadrature of the density, largest relative error {max(errors):.0e}")


def warm_errors(problem, weight):
    """`best_steps_risk` from W = weight I against what its steps reach, its formula, and the best single step."""
    norm2 = float(problem.task @ problem.task)
    misfit, spread = norm2 * (1 - problem.n * weight) ** 2, problem.n * norm2 * problem.d * weight**2
    rho = best_polynomial(2.0, 3)[0]
    same = replace(problem, evaluation="same")
    reached = one_batch_risk(same, weight, best_step_sizes(problem, 3))[-1]
    yield abs(best_steps_risk(same, weight, 3) / reached - 1)
    yield abs(best_steps_risk(problem, weight, 3) / (misfit + spread - (1 - rho) * misfit**2 / (misfit + spread)) - 1)
    yield abs(best_steps_risk(problem, weight, 1) / asymptotic_risk(problem, weight).optimal - 1)


@partial(jax.jit, static_argnames=("d", "count"))
def simulated(key, theta, d, count):
    """|b - W_T u|^2 of `count` tasks after real steps from W = 0, B = 1, n = d/2, k = RATIO d."""
    n, k = d // 2, RATIO * d

    def one_task(key):
        x = jax.random.normal(key, (n + k, d))
        y = x[:, 0]
        prompt = Prompt(x[:n], y[:n], x[n:], y[n:])
        u = y[:n] @ x[:n]
        model, params = functional(LinearAttention(jnp.zeros((d, d))))
        for value in theta:
            params = ttt_step(model, params, prompt, value / (2 * d * (u @ u)))
        error = params.weights[...] @ u - jnp.eye(d)[0]
        return error @ error

    return jax.lax.map(one_task, jax.random.split(key, count))


def empirical(c, effort):
    theta = tuple(float(1 / root) for root in best_polynomial(float(RATIO), STEPS)[1])
    claimed = float(formula(c, RATIO, STEPS))
    risks = [
        np.asarray(simulated(jax.random.key(effort.seed), theta, d, 2 * effort.num_large), float) for d in effort.sizes
    ]
    stderrs = [risk.std() / math.sqrt(len(risk)) for risk in risks]
    return judge([[Comparison(claimed, *value_at_infinity(effort.sizes, [risk.mean() for risk in risks], stderrs))]])


CLAIM = Claim("Several steps", "this project", (1, 1), symbolic, independent, empirical)
