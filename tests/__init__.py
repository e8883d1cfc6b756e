"""The tests; `typechecked` checks the package's annotations while they run."""

import operator
import sys
from collections import Counter
from contextlib import suppress
from functools import wraps

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int passes for a float
_CHECKED_CALLS = 100  # of each function in a process: a check takes longer than most of the functions do
_CHECKED_DEFINITIONS = 5  # of a function within a function, which is another one at every call of the outer
_definitions: Counter[tuple[str, str]] = Counter()


def typechecked(function):
    """Check its first calls unless it is public: what users call says itself, and in its own words, what is wrong.

    Public is what the reference has: the names in the `__all__` of a module outside `_internal`. Two functions come for
    every definition, with and without what it returns.
    """
    module, name = function.__module__, function.__qualname__.split(".")[0]
    _definitions[module, function.__qualname__] += 1
    if _definitions[module, function.__qualname__] > 2 * _CHECKED_DEFINITIONS:
        return function
    public = "._internal." not in module and name in getattr(sys.modules[module], "__all__", ())
    checked, calls = function if public else check(function), 0

    @wraps(function)
    def call(*args, **kwargs):
        nonlocal calls
        calls += 1
        if public or calls == _CHECKED_CALLS:
            with suppress(AttributeError):  # a function within a function, a property
                operator.attrgetter(function.__qualname__)(sys.modules[module]).__no_type_check__ = True
        return checked(*args, **kwargs)

    return call
