"""The public names."""

import alphapo_async
from alphapo_async.core import errors


def test_the_public_names_are_sorted_and_there() -> None:
    """What `__all__` names exists, once, in order, and every error is among it."""
    names = alphapo_async.__all__

    assert names == sorted(set(names))
    assert all(hasattr(alphapo_async, name) for name in names)
    assert set(errors.__all__) <= set(names)


def test_every_public_name_has_a_docstring() -> None:
    """A name without a word about it is not public."""
    undocumented = [name for name in alphapo_async.__all__ if not getattr(alphapo_async, name).__doc__]

    assert undocumented == []
