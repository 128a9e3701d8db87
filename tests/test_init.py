"""The public names."""

import subprocess
import sys

import pytest

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


def test_names_are_loaded_when_they_are_asked_for() -> None:
    """Importing the package alone loads nothing, and a name that does not exist is told as Python does."""
    assert set(alphapo_async.__all__) < set(dir(alphapo_async))
    with pytest.raises(AttributeError, match="module 'alphapo_async' has no attribute 'AlphapoClientt'"):
        _ = alphapo_async.AlphapoClientt
    script = "import sys, alphapo_async; print('aiohttp' in sys.modules); alphapo_async.AlphapoClient; print('aiohttp' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False", "True"]
