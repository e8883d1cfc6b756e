"""Columns of any kind as numbers: what a table must become before a network sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def as_frame(X: Any) -> Any:
    """Tables that may hold strings as data frames, column types inferred; everything else as it is."""
    if isinstance(X, np.ndarray) and X.dtype.kind in "OUS" and X.ndim == 2:
        return pd.DataFrame(X).infer_objects()
    return X


def categories_of(X: Any) -> dict[int, list[str]]:
    """The sorted distinct values of each column that is not numeric, by position."""
    if not isinstance(X, pd.DataFrame):
        return {}
    columns = (X.iloc[:, i] for i in range(X.shape[1]))
    return {i: sorted(set(column.dropna().astype(str))) for i, column in enumerate(columns) if not _is_numeric(column)}


def numbers(X: Any, categories: dict[int, list[str]]) -> Any:
    """The table with each category replaced by its position; values never seen, and missing ones, become NaN."""
    if not isinstance(X, pd.DataFrame):
        return X
    columns = [_codes(X.iloc[:, i], categories.get(i)) for i in range(X.shape[1])]
    return pd.DataFrame(dict(enumerate(columns)), index=X.index).set_axis(X.columns, axis=1)


def _codes(column: pd.Series, categories: list[str] | None) -> np.ndarray:
    if categories is None:
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    codes = pd.Index(categories, dtype=object).get_indexer(column.astype(str).where(column.notna()).astype(object))
    return np.where(codes < 0, np.nan, codes)


def _is_numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column)
