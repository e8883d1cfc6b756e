"""What single experiments give, apart from the driver: for comparisons task by task."""

from functools import partial

import jax
import numpy as np

from ttt_jax.simulation.estimate import make_run


def draws(problem, start, procedures, *, num_tasks, seed=0, x64=False, **options):
    """The values of `num_tasks` experiments, (num_tasks, V), those of all procedures side by side."""
    run = make_run(problem, start, procedures, num_tasks=num_tasks, x64=x64, **options)
    scaled, begin, arguments = run.setting
    with jax.enable_x64(x64), jax.default_matmul_precision("highest"):
        values = [
            part.units * np.asarray(experiments(part.draw, num_tasks, seed, scaled, begin, own))
            for part, own in zip(run.parts, arguments, strict=True)
        ]
    return np.concatenate(values, axis=1, dtype=np.float64)


@partial(jax.jit, static_argnames=("draw", "num_tasks"))
def experiments(draw, num_tasks, seed, *setting):
    keys = jax.random.split(jax.random.key(seed), num_tasks)
    return jax.vmap(lambda key: draw(key, *setting))(keys)
