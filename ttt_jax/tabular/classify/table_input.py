"""Columns of any kind as numbers: what a table must become before a network sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def as_frame(X: Any) -> Any:
    """Tables that may hold strings as data frames, column types inferred; everything else as it is.

    Raises:
        ValueError: a column of dates or another type that is neither numbers nor categories.
    """
    if isinstance(X, np.ndarray) and X.dtype.kind in "OUSMm" and X.ndim == 2:
        X = pd.DataFrame(X).infer_objects()
    if isinstance(X, pd.DataFrame):
        for name, column in X.items():
            require_type(name, column)
    return X


def require_type(name: Any, column: pd.Series) -> None:
    """ValueError unless the column holds numbers, strings, other single values or categories."""
    is_text = pd.api.types.is_string_dtype(column) or pd.api.types.is_object_dtype(column)
    if not (is_text or is_numeric(column) or isinstance(column.dtype, pd.CategoricalDtype)):
        raise ValueError(f"column {name!r}: type {column.dtype} is not supported; make it numbers, or drop it")
    if pd.api.types.is_object_dtype(column) and not (scalar := column.map(pd.api.types.is_scalar)).all():
        kind = type(column[~scalar].iloc[0]).__name__
        raise ValueError(f"column {name!r}: holds values of type {kind}; make it numbers or categories, or drop it")


def categories_of(X: Any) -> dict[int, list[str]]:
    """The distinct values of each column that is not numeric, by position; sorted, or in the order of its dtype."""
    if not isinstance(X, pd.DataFrame):
        return {}
    columns = (X.iloc[:, i] for i in range(X.shape[1]))
    return {i: _names(pd.Categorical(column)) for i, column in enumerate(columns) if not is_numeric(column)}


def numbers(X: Any, categories: dict[int, list[str]]) -> Any:
    """The table with each category replaced by its position; values never seen, and missing ones, become NaN."""
    if not isinstance(X, pd.DataFrame):
        return X
    columns = [_codes(X.iloc[:, i], categories.get(i)) for i in range(X.shape[1])]
    return pd.DataFrame(dict(enumerate(columns)), index=X.index).set_axis(X.columns, axis=1)


def _codes(column: pd.Series, categories: list[str] | None) -> np.ndarray:
    if categories is None:
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    codes = pd.Index(categories, dtype=object).get_indexer(column.astype(object).map(_name, na_action="ignore"))
    return np.where(codes < 0, np.nan, codes)


def _names(column: pd.Categorical) -> list[str]:
    return list(dict.fromkeys(map(_name, column.remove_unused_categories().categories)))


def _name(value: Any) -> str:
    """1, 1.0 and "1" are one category: a missing value elsewhere in a column makes floats of its integers."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def is_numeric(column: pd.Series) -> bool:
    """Of integers, floats or booleans."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column)
