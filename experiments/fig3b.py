"""Figure 3b: TTT of a GPT-2 style decoder, all parameters updated, from pretrained weights and from scratch.

Isotropic features, noise .01. Pretraining tasks have the variances diag(.1, .5, 1) on blocks of coordinates (25, 10,
25 of 60), test tasks the reverse. A decoder is pretrained in context on prompts of n pairs. For every test task it is
trained on k queries with one context of n pairs, which is used again at inference. Where the paper is silent, we
choose: Adam over minibatches of the queries, a fixed number of epochs, and for each start and k the step size of a
grid with the smallest mean loss on other tasks. Losses are in units of E|b|^2, noise included, on 256 new queries of
each task.

The preset paper has the size of the in-context-learning literature and is for an accelerator: it may be stopped at any
time and resumes from the checkpoints and finished cells in .fig3b-* of the working directory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key, PyTree

from experiments.figure import Result, look_of, markers
from ttt_jax import GaussianTasks, Pretraining, functional, plotting, pretrain, ttt_loss, ttt_train
from ttt_jax._internal.progress import progress_bar
from ttt_jax.plotting import Series
from ttt_jax.theory.task_average import draw_tasks
from ttt_jax.training.models import Model, Prompt
from ttt_jax.training.prompts import sample_prompt
from ttt_jax.training.transformers import Decoder

NOISE_VAR, TEST_QUERIES = 0.01, 256
SPECTRUM = 0.1, 0.5, 1.0
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "blocks": (5, 2, 5),
        "n": 8,
        "ks": (8, 16, 32, 64, 128),
        "model": {"layers": 2, "width": 48, "heads": 4},
        "pretraining": {"num_steps": 4000, "batch_size": 64, "num_queries": 8, "learning_rate": 2e-3},
        "epochs": 5,
        "minibatch": 8,
        "step_sizes": (5e-4, 1e-3, 2e-3, 4e-3),
        "num_tasks": 16,
        "together": 8,
        "seeds": 1,
    },
    "paper": {
        "blocks": (25, 10, 25),
        "n": 40,
        "ks": tuple(range(64, 513, 64)),
        "model": {"layers": 12, "width": 256, "heads": 8},
        "pretraining": {"num_steps": 200_000, "batch_size": 64, "num_queries": 40, "learning_rate": 2e-4},
        "epochs": 5,
        "minibatch": 16,
        "step_sizes": (3e-5, 1e-4, 3e-4, 1e-3),
        "num_tasks": 32,
        "together": 4,
        "seeds": 3,
    },
}
DRAWN = {  # its curves, read off the plot to about .01
    "scratch": (0.822, 0.779, 0.710, 0.579, 0.318, 0.248, 0.211, 0.201),
    "pretrained": (0.572, 0.416, 0.371, 0.297, 0.275, 0.258, 0.248, 0.248),
}


def simulate(preset: str, seed: int = 0) -> list[dict[str, Any]]:
    """Pretrain and take the TTT steps of the preset: the rows."""
    settings = PRESETS[preset]
    ks = settings["ks"]
    spectrum = np.repeat(SPECTRUM, settings["blocks"])
    version = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    d, work = len(spectrum), Path(f".fig3b-{preset}-{seed}-{version}")
    losses: dict[tuple[str, int], list[float]] = {}
    plain: dict[str, list[float]] = {"pretraining": [], "test": []}
    for s in range(settings["seeds"]):
        decoder = Decoder(d, max_context=settings["n"], rngs=nnx.Rngs(1000 * seed + s), **settings["model"])
        model, scratch = functional(decoder)
        trained = pretrain(
            model,
            scratch,
            Pretraining(settings["n"], task_cov=spectrum, noise_var=NOISE_VAR),
            seed=1000 * seed + s,
            directory=work / f"model-{s}",
            **settings["pretraining"],
        )
        tasks, usual = (
            draw_tasks(GaussianTasks(cov=cov), 2 * settings["num_tasks"], seed=1000 * seed + s)
            for cov in (spectrum[::-1], spectrum)
        )
        jobs = [(name, k) for name in ("scratch", "pretrained") for k in ks]
        for name, k in progress_bar(jobs, f"fig3b, seed {s}"):
            params = scratch if name == "scratch" else trained

            found = remembered(
                work / "cells.json",
                f"{s} {name} {k}",
                partial(cell, settings, model, params, tasks, 1000 * seed + s, k),
            )
            losses.setdefault((name, k), []).extend(found["losses"])
        for name, some in (("pretraining", usual), ("test", tasks)):
            plain[name] += after(settings, model, trained, some, 1000 * seed + s, ks[0], 0.0).tolist()
    cells = [(name, k, losses[name, k]) for name in ("scratch", "pretrained") for k in ks]
    cells += [(f"no TTT, {name} tasks", 0, values) for name, values in plain.items()]
    return [
        {
            "series": name,
            "x": k,
            "d": d,
            "n": settings["n"],
            "k": k,
            "evaluation": "same",
            "lr": None,
            "exact": None,
            "approximate": None,
            "drawn": DRAWN[name][ks.index(k)] if preset == "paper" and k else None,
            "estimate": float(np.mean(values)),
            "stderr": float(np.std(values, ddof=1) / np.sqrt(len(values))),
            "z": None,
            "stderr_reliable": False,
            "num_tasks": len(values),
            "seed": seed,
        }
        for name, k, values in cells
    ]


def draw(preset: str, rows: list[dict[str, Any]]) -> Result:
    """The figure of these rows."""
    settings = PRESETS[preset]
    n, ks, layers = settings["n"], settings["ks"], settings["model"]["layers"]
    spectrum = np.repeat(SPECTRUM, settings["blocks"])
    series = []
    for name, values in DRAWN.items():
        drawn = list(zip(ks, values, strict=True)) if preset == "paper" else ()
        series.append(Series(name, [], None, **markers(rows, name), drawn=drawn, look=look_of(name)))
    figure = plotting.draw(
        series,
        x_label="training queries k",
        y_label="loss after TTT / E|b|²",
        title=f"TTT of a decoder of {layers} layers, shifted tasks, n = {n}, d = {len(spectrum)}",
    )
    for one in series:
        figure.axes[0].plot(one.points, one.means, color=plotting.COLOURS[one.look or 0], lw=0.8)
    scratch, pretrained, (usual, test) = (
        [row["estimate"] for row in rows if row["series"].startswith(name)]
        for name in ("scratch", "pretrained", "no TTT")
    )
    ahead = [str(k) for k, a, b in zip(ks, scratch, pretrained, strict=True) if a < b]
    constant = 1 + NOISE_VAR / spectrum.sum()
    notes = [
        f"pretrained without TTT, {name} tasks: {loss:.3f}, Bayes optimal for pretraining tasks "
        f"{bayes_loss(spectrum, cov, n):.3f}; a constant has {constant:.3f}"
        for name, loss, cov in (("pretraining", usual, spectrum), ("test", test, spectrum[::-1]))
    ]
    notes.append(f"scratch is ahead of pretrained at k = {', '.join(ahead) or 'none of these'}")
    return Result("fig3b", rows, figure, notes, has_theory=False)


def bayes_loss(pretraining_cov: np.ndarray, test_cov: np.ndarray, n: int, num_tasks: int = 500) -> float:
    """The loss, in units of E|b|^2, of the posterior mean under the pretraining law on tasks of another one."""
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(num_tasks):
        task = np.sqrt(test_cov) * rng.normal(size=len(test_cov))
        x = rng.normal(size=(n, len(task)))
        y = x @ task + np.sqrt(NOISE_VAR) * rng.normal(size=n)
        posterior = pretraining_cov * (x.T @ np.linalg.solve((x * pretraining_cov) @ x.T + NOISE_VAR * np.eye(n), y))
        losses.append(np.sum((task - posterior) ** 2) + NOISE_VAR)
    return float(np.mean(losses) / test_cov.sum())


def cell(settings: dict[str, Any], model: Model, params: PyTree, tasks, seed: int, k: int) -> dict[str, Any]:
    """The losses on half of the tasks, with the step size that is best on the other half."""
    half = settings["num_tasks"]
    grid = {lr: after(settings, model, params, tasks, seed, k, lr) for lr in settings["step_sizes"]}
    best = min(grid, key=lambda lr: grid[lr][:half].mean())
    return {"losses": grid[best][half:].tolist(), "lr": best}


def after(settings: dict[str, Any], model, params, tasks, seed: int, k: int, lr: float) -> np.ndarray:
    """`losses_after` in units of E|b|^2."""
    options = {name: settings[name] for name in ("n", "epochs", "minibatch", "together")} | {"k": k}
    losses = losses_after(model, params, tasks, seed, lr, **options)
    return np.asarray(losses, float) / float(np.dot(SPECTRUM, settings["blocks"]))


@partial(jax.jit, static_argnames=("model", "n", "k", "epochs", "minibatch", "together"))
def losses_after(
    model: Model,
    params: PyTree,
    tasks: Float[Array, "T d"],
    seed: int,
    lr: float,
    *,
    n: int,
    k: int,
    epochs: int,
    minibatch: int,
    together: int,
) -> Float[Array, " T"]:
    """The loss on new queries of each task after `epochs` over its k queries, `together` tasks at a time."""

    def one_task(key: Key[Array, ""], task: Float[Array, " d"]) -> Float[Array, ""]:
        key_train, key_test = jax.random.split(key)
        noise_std = jnp.sqrt(NOISE_VAR)
        prompt = sample_prompt(key_train, task, jnp.ones(()), noise_std, n, k)
        test = sample_prompt(key_test, task, jnp.ones(()), noise_std, 0, TEST_QUERIES)

        def part(i: Int[Array, ""]) -> Prompt:
            rows = i * minibatch % k + jnp.arange(minibatch)
            return prompt._replace(query_x=prompt.query_x[rows], query_y=prompt.query_y[rows])

        trained = ttt_train(model, params, part, optax.adam(lr), epochs * k // minibatch)
        asked = prompt._replace(query_x=test.query_x, query_y=test.query_y)
        return ttt_loss(model, trained, asked) / TEST_QUERIES

    keys = jax.random.split(jax.random.key(seed, impl="threefry2x32"), len(tasks))
    return jax.lax.map(lambda pair: one_task(*pair), (keys, tasks), batch_size=together)


def remembered(file: Path, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The value that a JSON file holds under this name, computed and added if it is not there."""
    known = json.loads(file.read_text()) if file.exists() else {}
    if name not in known:
        known[name] = compute()
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = file.with_suffix(".new")
        scratch.write_text(json.dumps(known))
        scratch.replace(file)
    return known[name]
