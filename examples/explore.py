"""The exact risk of test-time training under your fingers: sliders, curves, the numbers at one point.

    pip install '.[examples]'
    marimo run examples/explore.py       # opens in the browser; `marimo edit` shows the code, too

Every curve is evaluated anew by the exact formulas; nothing is simulated and nothing is stored.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Test-time training, exactly")

with app.setup:
    from dataclasses import replace

    import marimo as mo
    import matplotlib.pyplot as plt
    import numpy as np

    import ttt_jax as ttt
    from ttt_jax.theory.schedules import one_batch
    from ttt_jax.theory.yardsticks import least_squares_risk

    STEP, STEPS, FOLDS = PROCEDURES = "one gradient step", "two steps on the same pairs", "5 folds of all pairs"
    SHIFTS = [name for name in ttt.SHIFTS if name not in ("rademacher", "student_t")]  # those have no exact risk
    EVALUATIONS = {"a new one": "fresh", "the same": "same"}
    LINES = {
        "from the pretrained weights": {"color": "#0b2545", "lw": 2},
        "from zero": {"color": "#c4450c", "lw": 2},
        "without TTT": {"color": "#0b2545", "lw": 1, "ls": ":"},
        "least squares": {"color": "0.6", "lw": 1},
    }


@app.function
def risk_after(problem, weights, procedure):
    """The exact risk after the best step, or steps."""
    if procedure == STEPS:
        schedules = one_batch(problem, weights, 2)
        return schedules.risks(schedules.best_step_sizes())[-1]
    return ttt.exact_risk(problem, weights, ttt.Folds(5) if procedure == FOLDS else "optimal").optimal


@app.function
def risks_at(k, *, n, d, noise_var, shift, procedure, evaluation):
    """The four exact risks at k, in the order of LINES; for folds k is rounded up until 5 divides n + k."""
    k = int(k) + (-(n + int(k)) % 5 if procedure == FOLDS else 0)
    pretraining, problem = ttt.make_shift(shift, n=n, k=k, d=d, noise_var=noise_var)
    problem = replace(problem, evaluation=evaluation)
    W = ttt.pretrained_weights(pretraining, dense=False)
    try:
        yardstick = least_squares_risk(problem)
    except ttt.NotApplicable:
        yardstick = np.nan
    return (
        risk_after(problem, W, procedure),
        risk_after(problem, 0.0, procedure),
        ttt.exact_risk(problem, W).initial,
        yardstick,
    )


@app.cell
def _():
    mo.md("""
    # What does a gradient step on the prompt buy?

    Linear attention reads **n** labelled pairs of **d** features, takes a step on **k** more and answers a new query.
    Move a slider: the curves are the exact expected squared error, label noise included, from the pretrained weights
    and from zero. Grey is least squares on all the labelled pairs that have been seen by then, without a transformer.
    (Folds with the same context take half a minute the first time, while their formula is compiled.)
    """)
    return


@app.cell
def _():
    def slider(start, stop, value, label, step=1):
        return mo.ui.slider(start, stop, step, value, label=label, show_value=True, debounce=True)

    n = slider(2, 200, 20, "n, pairs in the context")
    k = slider(1, 200, 80, "k, pairs to train on")
    d = slider(4, 100, 40, "d, features", step=4)
    noise_var = slider(0, 1, 0, "variance of the label noise", step=0.05)
    shift = mo.ui.dropdown(SHIFTS, "none", label="shift from pretraining to test")
    procedure = mo.ui.dropdown(PROCEDURES, STEP, label="procedure")
    evaluation = mo.ui.dropdown(EVALUATIONS, "a new one", label="context at inference")
    mo.hstack([mo.vstack([n, k, d, noise_var]), mo.vstack([shift, procedure, evaluation])], justify="start", gap=3)
    return d, evaluation, k, n, noise_var, procedure, shift


@app.cell
def _(d, evaluation, k, n, noise_var, procedure, shift):
    controls = {
        "n": n,
        "d": d,
        "noise_var": noise_var,
        "shift": shift,
        "procedure": procedure,
        "evaluation": evaluation,
    }
    values = {name: control.value for name, control in controls.items()}
    ks = np.unique(np.geomspace(1, 200, 25).astype(int))
    try:
        curves = np.array([risks_at(each, **values) for each in ks]).T
        here = dict(zip(LINES, risks_at(k.value, **values), strict=True))
    except ValueError as error:  # NotApplicable is one
        mo.stop(True, mo.callout(f"No exact risk: {error}.", kind="warn"))
    return curves, here, ks


@app.cell
def _(curves, d, here, k, ks, n):
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for (name, style), curve in zip(LINES.items(), curves, strict=True):
        axes.plot(ks, curve, label=name, **style)
    axes.axvline(k.value, color="0.8", lw=1, zorder=0)
    axes.set(xlabel="k, pairs to train on", ylabel="exact risk", title=f"n = {n.value}, d = {d.value}")
    axes.set_ylim(np.array([-0.03, 1.1]) * np.max(curves[:3]))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    table = "\n".join(f"| {name} | {risk:.4f} |" for name, risk in here.items())
    mo.hstack([figure, mo.md(f"At k = {k.value}:\n\n| | exact risk |\n|---|---|\n{table}")], widths=[3, 1])
    return


if __name__ == "__main__":
    app.run()
