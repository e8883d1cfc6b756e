"""Columns of any kind as numbers: what a table must become before a network sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ttt_jax._internal.validate import shown


def as_frame(X: Any, categorical: Sequence[Any] | None = None) -> Any:
    """Tables that hold strings, or whose `categorical` columns are named, as data frames; everything else as it is.

    Raises:
        ValueError: a column of dates or another type that is neither numbers nor categories.
    """
    if isinstance(X, np.ndarray) and X.ndim == 2 and (X.dtype.kind in "OUSMm" or categorical):
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


def categories_of(X: Any, categorical: Sequence[Any] | None = None) -> dict[int, list[str]]:
    """The distinct values of each categorical column, by position; sorted, or in the order of its dtype.

    Args:
        X: the table.
        categorical: names or positions of numeric columns that are categorical all the same.

    Raises:
        ValueError: there is no column of that name.
    """
    named = _positions(X, [] if categorical is None else categorical)
    if not isinstance(X, pd.DataFrame):
        return {}
    columns = ((i, X.iloc[:, i]) for i in range(X.shape[1]))
    return {i: _names(pd.Categorical(column)) for i, column in columns if i in named or not is_numeric(column)}


def _positions(X: Any, names: Any) -> set[int]:
    if isinstance(names, str) or not isinstance(names, Sequence | np.ndarray | pd.Index):
        raise ValueError(f"categorical_features must be a list of columns' names or positions, got {shown(names)}")
    columns = list(X.columns) if isinstance(X, pd.DataFrame) else []
    found = set()
    for name in names:
        if name in columns:
            found.add(columns.index(name))
        elif isinstance(name, int | np.integer) and not isinstance(name, bool) and 0 <= name < len(columns):
            found.add(int(name))
        else:
            raise ValueError(f"categorical_features must name columns of X, got {shown(name)}")
    return found


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
