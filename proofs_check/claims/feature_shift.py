"""Feature shift, exact: W* = I/(n+d+1) of white features and no noise, tested on features of variance f.

With w = f/(n+d+1) and B' = f B: initial B' [1 - 2 n w + n (n+d+1) w^2];
gain k n^2 B' [(1 - (n+2) w)^2 + (d-1) w^2]^2 / [(k+d+1) E], where for t ~ chi2(n), s ~ chi2(d-1)
E = E{[(n+2) t^2 + t s] [(1 - w t)^2 + w^2 t s]} / n.
"""

import sympy as sp

from proofs_check.evidence.moments import chi2_mean
from proofs_check.kinds.exact import exact_claim
from proofs_check.setting import Group, Setting
from ttt_jax.theory.risk import exact_risk


def formula(c, setting):
    n, k, d = setting.n, setting.k, setting.d
    (group,) = setting.groups
    norm2, w = group.feature * setting.norm2, group.feature * group.weight
    first, second = d - 1, (d - 1) * (d + 1)  # E s, E s^2
    mean = chi2_mean(
        {
            1: first,
            2: c[0] * (n + 2) - 2 * w * first + w**2 * second,
            3: -c[1] * 2 * w * (n + 2) + w**2 * first + w**2 * (n + 2) * first,
            4: w**2 * (n + 2),
        },
        n,
    )
    slope = (1 - c[2] * (n + 2) * w) ** 2 + c[3] * (d - 1) * w**2
    return {
        "initial": norm2 * (1 - c[4] * n * w + c[5] * n * (n + d + 1) * w**2),
        "gain": c[6] * k * n**3 * norm2 * slope**2 / ((k + d + 1) * mean),
    }


def package(setting):
    curve = exact_risk(setting.problem(), setting.column("weight"))
    return {"initial": curve.initial, "gain": curve.initial - curve.optimal}


def white(n, d):
    return 1 / sp.sympify(n + d + 1)


n, k, d, f, weight = sp.symbols("n k d f w", positive=True)
SHORT = (6, 9, 3, sp.Rational(1, 2), 1), (12, 4, 3, sp.Rational(3, 2), sp.Rational(3, 2)), (9, 30, 3, 2, 2)
LONG = (80, 80, 4, sp.Rational(1, 2), 1), (60, 90, 4, 2, sp.Rational(3, 2))


def shifted(n, k, d, f, beta):
    return Setting(n, k, (Group(d, f, white(n, d), beta),))


CLAIM = exact_claim(
    "Feature shift",
    "this project",
    (1, 1, 1, 1, 2, 1, 1),
    formula,
    Setting(n, k, (Group(d, f, weight, 1),)),
    [shifted(*sizes) for sizes in SHORT],
    [shifted(*sizes) for sizes in LONG],
    package,
)
