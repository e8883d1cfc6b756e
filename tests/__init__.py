"""The tests; `typechecked` checks the package's annotations while they run."""

import sys

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int passes for a float


def typechecked(function):
    """Check it unless it is public: what users call says itself, and in its own words, what it was given wrong."""
    public = getattr(sys.modules[function.__module__], "__all__", ())
    return function if function.__qualname__.split(".")[0] in public else check(function)
