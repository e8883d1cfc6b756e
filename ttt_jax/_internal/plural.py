"""How many of something, in words."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """The number and its noun.

    Example:
        >>> counted(1, "task"), counted(20, "task")
        ('1 task', '20 tasks')
    """
    return f"{number} {noun}{'s' * (number != 1)}"
