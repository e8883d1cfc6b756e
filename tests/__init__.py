"""The tests; `typechecked` checks the package's annotations while they run."""

import sys

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int passes for a float


def typechecked(function):
    """Check it unless it is public: what users call says itself, and in its own words, what it was given wrong.

    Public is what the reference has: the names in the `__all__` of a module outside `_internal`.
    """
    module, name = function.__module__, function.__qualname__.split(".")[0]
    public = "._internal." not in module and name in getattr(sys.modules[module], "__all__", ())
    return function if public else check(function)
