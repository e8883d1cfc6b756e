"""Values that a user gave: each is returned as it is used, or refused in one line that names its field."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from inspect import signature
from typing import Any

import jax
import numpy as np

from ttt_jax._internal.plural import counted


def shown(value: Any, form: Callable[[Any], str] = repr) -> str:
    """The value as an error message shows it, on one short line."""
    text = " ".join(form(value.item() if isinstance(value, np.generic) else value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def called(field: str, function: Callable, *given: Any, **named: Any) -> Any:
    """What the caller's function returns; ValueError with its name where it fails."""
    try:
        return function(*given, **named)
    except (Exception, SystemExit) as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{field} must not raise, got {what}") from error


def require_arguments(field: str, function: Any, *names: str) -> None:
    """ValueError naming the field unless the function can be called with as many arguments."""
    try:
        signature(function).bind(*names)
    except TypeError:
        name = getattr(function, "__name__", type(function).__name__)
        got = f"{name}{signature(function)}" if callable(function) else shown(function)
        raise ValueError(f"{field} must be a function of ({', '.join(names)}), got {got}") from None
    except ValueError:  # it has no signature
        return


def positive_integer(field: str, value) -> int:
    """The value as an int; ValueError naming the field unless it is an integer >= 1."""
    return integer_from(1, field, value)


def integer_from(smallest: int, field: str, value) -> int:
    """The value as an int; ValueError naming the field unless it is an integer >= smallest."""
    if isinstance(value, jax.core.Tracer):
        raise _traced(field)
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        number = smallest - 1
    if number < smallest:
        raise ValueError(f"{field} must be an integer >= {smallest}, got {shown(value)}")
    return number


def non_negative(field: str, value) -> float:
    """The value as a float; ValueError naming the field unless it is a finite number >= 0."""
    if _float(field, value) >= 0 and math.isfinite(_float(field, value)):
        return float(value)
    raise ValueError(f"{field} must be a finite number >= 0, got {shown(value)}")


def finite_number(field: str, value) -> float:
    """The value as a float; ValueError naming the field unless it is a finite number."""
    if math.isfinite(_float(field, value)):
        return float(value)
    raise ValueError(f"{field} must be a finite number, got {shown(value)}")


def positive_number(field: str, value) -> float:
    """The value as a float; ValueError naming the field unless it is a finite number > 0."""
    if finite_number(field, value) > 0:
        return float(value)
    raise ValueError(f"{field} must be positive, got {shown(value)}")


def level_number(field: str, value) -> float:
    """The value as a float; ValueError naming the field unless it is between 0 and 1."""
    if 0 < finite_number(field, value) < 1:
        return float(value)
    raise ValueError(f"{field} must be between 0 and 1, got {shown(value)}")


def positive_numbers(**values) -> None:
    """ValueError naming the first field whose value is not a finite number > 0."""
    for field, value in values.items():
        positive_number(field, value)


def boolean(field: str, value) -> bool:
    """The value; ValueError naming the field unless it is True or False."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise ValueError(f"{field} must be True or False, got {shown(value)}")


def require_parameters(kind: str, name: str, entry: Callable, given: Iterable[str]) -> None:
    """ValueError unless an entry of a registry takes these parameters, as its keyword-only ones."""
    known = [p.name for p in signature(entry).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for parameter in given:
        if parameter not in known:
            raise ValueError(f"{kind} {name!r} takes {', '.join(known) or 'no parameters'}, got {parameter}")


def covariance(field: str, value: Any) -> np.ndarray:
    """The value as a float64 array (), (d,) or (d, d); ValueError naming the field unless it is a covariance."""
    value = finite_array(field, value)
    if value.ndim > 2 or (value.ndim == 2 and value.shape[0] != value.shape[1]):
        raise ValueError(
            f"{field} must be a scalar, a diagonal (d,) or a square (d, d) matrix, got shape {value.shape}"
        )
    if value.ndim < 2:
        smallest = value.min()
    else:
        tolerance = 1e-9 * np.abs(value).max(initial=0)
        asymmetry = np.abs(value - value.T).max()
        if asymmetry > tolerance:
            raise ValueError(f"{field} must be symmetric, got entries that differ by up to {asymmetry:.3g}")
        value = (value + value.T) / 2
        smallest = np.linalg.eigvalsh(value)[0]
        smallest = 0.0 if smallest >= -tolerance else smallest
    if smallest < 0:
        raise ValueError(f"{field} must be positive semi-definite, got the eigenvalue {smallest:.3g}")
    return value


STARTS = "start must be W, or (model, params) as functional(module) gives them"


def weights_array(value: Any, d: int, field: str = "weights") -> np.ndarray:
    """The attention weights W as a float64 array (), (d,) or (d, d); ValueError unless they fit d features."""
    if callable(value) or isinstance(value, str):
        raise ValueError(f"{STARTS}, got {shown(value) if isinstance(value, str) else type(value).__name__}")
    value = finite_array(field, value)
    require_square(field, value, d)
    return value


def require_square(field: str, value: np.ndarray, d: int) -> None:
    """ValueError unless the array is a scalar, a diagonal (d,) or a (d, d) matrix."""
    if value.shape not in ((), (d,), (d, d)):
        raise ValueError(f"{field} must be a scalar or have shape ({d},) or ({d}, {d}), got {value.shape}")


def seed_integer(value) -> int:
    """The value as an int; ValueError unless it is an integer in [0, 2^32)."""
    seed = integer_from(0, "seed", value)
    if seed >= 2**32:
        raise ValueError(f"seed must be below 2**32, got {seed}")
    return seed


def choice(field: str, value: Any, choices: tuple[str, ...]) -> str:
    """The value; ValueError naming the field unless it is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{field} must be one of {', '.join(choices)}, got {shown(value)}")
    return value


def vector(field: str, value: Any) -> np.ndarray:
    """The value as a float64 array (d,); ValueError naming the field unless it is a vector of finite numbers."""
    value = finite_array(field, value)
    if value.ndim != 1:
        raise ValueError(f"{field} must be a vector of shape (d,), got shape {value.shape}")
    return value


def step_size_array(step_sizes: Any) -> np.ndarray:
    """The step sizes as a float64 vector (steps,); ValueError unless they are a sequence of finite numbers."""
    try:
        array = np.zeros(0) if np.ma.is_masked(step_sizes) else np.asarray(step_sizes)
    except jax.errors.TracerArrayConversionError:
        raise _traced("step_sizes") from None
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.ndim != 1 or not len(array) or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise ValueError(f"step_sizes must be a sequence of finite numbers, at least one, got {shown(step_sizes)}")
    return array.astype(np.float64)


def _float(field: str, value) -> float:
    """The value as a float, nan if it is not a real number."""
    if isinstance(value, bool | np.bool_ | str | bytes | complex | np.complexfloating):
        return math.nan
    if isinstance(value, jax.core.Tracer):
        raise _traced(field)
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _traced(field: str) -> ValueError:
    return ValueError(
        f"{field} has no value inside jit, grad or vmap: call this function outside of them, "
        "or take ttt_jax.theory.exact.risk_coefficients, a pure function of arrays"
    )


def finite_array(field: str, value: Any) -> np.ndarray:
    """The value as a float64 array, not empty; ValueError naming the field unless it holds finite numbers only."""
    array = real_array(field, value)
    if not array.size:
        raise ValueError(f"{field} must not be empty, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{field} must hold finite numbers only, got {array[~np.isfinite(array)][0]}")
    array.flags.writeable = False
    return array


def real_array(field: str, value: Any) -> np.ndarray:
    """The value as a float64 array, also of inf and nan; ValueError naming the field unless it holds real numbers."""
    if np.ma.is_masked(value):
        raise ValueError(f"{field} must not be masked, got {counted(int(np.ma.count_masked(value)), 'masked value')}")
    try:
        given = np.asarray(value)
    except jax.errors.TracerArrayConversionError:
        raise _traced(field) from None
    except ValueError:
        raise ValueError(f"{field} must be an array of real numbers, got rows of different lengths") from None
    if given.dtype.kind not in "iuf":
        raise ValueError(f"{field} must be an array of real numbers, got values of type {given.dtype}")
    return np.array(given, dtype=np.float64)


def require_optimizer(value: Any) -> None:
    """ValueError unless it is an optax optimiser."""
    if not (hasattr(value, "init") and hasattr(value, "update")):
        raise ValueError(f"optimizer must be an optax optimiser such as optax.adam(1e-3), got {shown(value)}")


def require_type(field: str, value: Any, kind: type) -> None:
    """ValueError naming the field unless the value is of this class."""
    if not isinstance(value, kind):
        raise ValueError(f"{field} must be a {kind.__name__}, got {shown(value)}")
