"""Frames: an exception that shows no argument of the function that raised it."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable

import pytest

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.frames import hides_arguments


def refuses(secret: str, *, kind: type[Exception] = ConfigurationError) -> str:
    """Raise in a frame that has the secret, while another exception is handled."""
    try:
        return dict[str, str]()[secret]
    except KeyError as error:
        raise kind("The secret is wrong.") from error


def raised(function: Callable[..., object], *arguments: object, **named: object) -> Exception:
    """Return what the function raises."""
    with pytest.raises(Exception, match="The secret is wrong") as caught:
        function(*arguments, **named)
    return caught.value


def test_what_is_raised_shows_no_frame_that_has_the_arguments() -> None:
    """The traceback, the cause and the context of the plain function do show them."""
    plain, hidden = raised(refuses, "made-up-secret"), raised(hides_arguments(refuses), "made-up-secret")
    shown = [
        "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        for error in (plain, hidden)
    ]
    assert ["secret = 'made-up-secret'" in text for text in shown] == [True, False]
    assert (type(hidden), hidden.args) == (type(plain), plain.args)
    assert (hidden.__cause__, hidden.__context__) == (None, None)


def test_the_place_of_an_error_that_is_not_ours_is_kept() -> None:
    """Without it nobody could find a programming error; one of ours says all in its text."""
    first = refuses.__code__.co_firstlineno
    error = raised(hides_arguments(refuses), "made-up-secret", kind=RuntimeError)
    assert error.__notes__ == [f"raised in test_frames.py, line {first + 5}"]
    assert not hasattr(raised(hides_arguments(refuses), "made-up-secret"), "__notes__")


def test_a_function_that_raises_nothing_is_as_it_was() -> None:
    """Its value, its name, its signature and its text."""

    def adds(one: int, *, two: int = 2) -> int:
        """Add."""
        return one + two

    hidden = hides_arguments(adds)
    assert (hidden(1), hidden(1, two=5)) == (3, 6)
    assert (hidden.__name__, hidden.__doc__, inspect.signature(hidden)) == ("adds", "Add.", inspect.signature(adds))
