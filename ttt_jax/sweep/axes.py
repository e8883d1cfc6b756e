"""What varies from cell to cell of a sweep, and how a page or a figure names it."""

from __future__ import annotations

from typing import Any

from ttt_jax.sweep.spec import Spec

LABELS = {
    "d": "d, features",
    "n": "n, context pairs",
    "k": "k, training queries",
    "n_over_d": "n / d",
    "k_over_d": "k / d",
    "noise_var": "variance of the label noise",
    "lr": "step size",
}


def varying_columns(spec: Spec) -> list[str]:
    """The columns of the rows that vary, in the order of the axes."""
    names = []
    for axis, values in spec.axes.items():
        if axis != "shift":
            names.append("lr_rule" if axis == "lr" and any(isinstance(value, str) for value in values) else axis)
            continue
        keys = dict.fromkeys(key for shift in values for key in shift)
        varying = [key for key in keys if len({repr(shift.get(key)) for shift in values}) > 1]
        names += ["shift" if key == "name" else f"shift_{key}" for key in varying]
    return names


def setting(names: list[str], values: tuple[Any, ...]) -> str:
    """What several columns are, as the title of a figure; values that do not exist are left out.

    Example:
        >>> setting(["n_over_d", "init", "k"], (0.5, "zero", None))
        'n / d = 0.5, init = zero'
    """
    given = [(name, value) for name, value in zip(names, values, strict=True) if value is not None]
    return ", ".join(f"{name} = {value}" if isinstance(value, str) else label(name, value) for name, value in given)


def label(name: str, value: Any) -> str:
    """One value of a series with the name of its column, but for a text, which stands alone."""
    return value if isinstance(value, str) else f"{name.replace('_over_', ' / ')} = {short(value)}"


def short(value: Any) -> str:
    """A cell of a table: five digits, and nothing for None."""
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
