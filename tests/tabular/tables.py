"""The tables on which this network and the official one must agree."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Case(NamedTuple):
    x_context: np.ndarray
    y_context: np.ndarray
    x_query: np.ndarray
    outlier_sigma: float | None = None


def cases() -> dict[str, Case]:
    rng = np.random.default_rng(7)

    def table(n=12, m=5, features=4, classes=3, batch=(), outlier_sigma=None) -> Case:
        x = rng.normal(size=(*batch, n + m, features)) * 10 ** rng.uniform(-2, 2, features)
        x = x.astype(np.float32).astype(np.float64)  # the same numbers in both precisions
        y = rng.integers(0, classes, (*batch, n))
        y[..., : min(n, classes)] = np.arange(min(n, classes))
        return Case(x[..., :n, :], y.astype(np.float64), x[..., n:, :], outlier_sigma)

    def edit(case: Case, column: int, context=None, query=None) -> Case:
        """The case with a column overwritten in its context rows, its query rows, or both."""
        if context is not None:
            case.x_context[..., column] = context
        if query is not None:
            case.x_query[..., column] = query
        return case

    scattered = table(n=20, m=10, features=6)
    for x in (scattered.x_context, scattered.x_query):
        kind = rng.random(x.shape)
        x[kind < 0.3] = np.nan
        x[kind < 0.2] = np.inf
        x[kind < 0.1] = -np.inf
    outlying = table(n=300, m=6, features=3)
    outlying.x_context[3, 0], outlying.x_query[2, 1], outlying.x_query[3, 2] = 1e4, -1e5, np.nan
    batch = edit(table(batch=(3,), features=3), 1, context=2.0, query=2.0)
    batch.x_context[1, 4, 1] = 7.0  # constant in tables 0 and 2 only
    gaps = table(classes=3)
    missing_label = table(classes=4)
    missing_label.y_context[5] = np.nan
    return {
        "even features": table(features=6),
        "odd features": table(features=5),
        "one feature": table(features=1),
        "many features": table(features=41),
        "constant columns": edit(edit(table(), 0, 1.5, 1.5), 3, 0.0, 0.0),
        "all columns constant": Case(np.ones((4, 3)), np.arange(4.0), np.ones((2, 3))),
        "only feature constant": Case(np.ones((4, 1)), np.arange(4.0), np.ones((2, 1))),
        "constant in the context": edit(table(), 1, context=3.0),
        "constant but for the queries' last row": edit(table(m=2), 2, 3.0, np.array([3.0, 4.0])),
        "all-NaN column": edit(table(), 2, np.nan, np.nan),
        "all-NaN context": edit(table(), 2, context=np.nan),
        "all-inf column": edit(table(), 0, np.inf, np.inf),
        "NaN and infinities": scattered,
        "NaN and infinities, clipped": scattered._replace(outlier_sigma=12.0),
        "one class": table(classes=1),
        "two classes": table(classes=2),
        "ten classes": table(n=30, classes=10),
        "labels with gaps": gaps._replace(y_context=gaps.y_context * 4 + 1),
        "missing label": missing_label,
        "one context row": table(n=1, m=3, classes=1),
        "one context row, clipped": table(n=1, m=3, classes=1, outlier_sigma=12.0),
        "one query row": table(m=1),
        "batch": batch,
        "batch of one": table(batch=(1,)),
        "outliers": outlying,
        "outliers, clipped": outlying._replace(outlier_sigma=12.0),
        "outliers, clipped hard": outlying._replace(outlier_sigma=2.0),
    }
