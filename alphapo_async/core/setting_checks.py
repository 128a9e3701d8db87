"""Checks of settings: each returns the value, or raises `ConfigurationError` with the setting's name and the reason. Pure."""

from __future__ import annotations

import re
import sys
from typing import Final
from urllib.parse import SplitResult, urlsplit

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.texts import problem_of_setting, shown

__all__ = [
    "check_count",
    "check_number",
    "check_path",
    "check_seconds",
    "check_text",
    "check_web_address",
    "may_hold_password",
]

_is_host: Final = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?|[0-9a-f:.]+(%[\w.-]+)?", re.ASCII).fullmatch


def check_text(name: str, value: object, *, is_secret: bool = False) -> str:
    """Return the text of a setting.

    Args:
        name: of the setting.
        value: of the setting.
        is_secret: the value may be or hold a secret, and is not shown.

    Raises:
        ConfigurationError: not text, empty, with a line end, with blanks around, with invisible characters, or in quotation marks.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be text, not {type(value).__name__}. Nothing was sent.")
    if (problem := problem_of_setting(value)) is None:
        return value
    raise ConfigurationError(
        f"{name}{'' if is_secret or not value else f' {shown(value)}'} {problem} Nothing was sent."
    )


def check_path(name: str, value: str, *, is_secret: bool = False) -> str:
    """Return the text of a setting that names a file; bytes of a file's name that are no text are let pass.

    Raises:
        ConfigurationError: as `check_text` says.
    """
    check_text(name, _surrogates.sub("\ufffd", value) if isinstance(value, str) else value, is_secret=is_secret)
    return value


_surrogates: Final = re.compile("[\udc80-\udcff]")


def may_hold_password(text: str) -> bool:
    """Return whether an address or a path may hold a password, so that it is not shown before it could be read."""
    return "@" in text or "password" in text.lower()


def check_number(name: str, value: object, unit: str, *, may_be_zero: bool) -> float:
    """Return the number.

    Raises:
        ConfigurationError: not a number, negative, without end, or zero where it must not be.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0 <= value <= sys.float_info.max and (value or may_be_zero):  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    range_of_it = "0 or more" if may_be_zero else "more than 0"
    raise ConfigurationError(f"{name} must be {unit}, {range_of_it}, not {_cut(value)}. Nothing was sent.")


def check_seconds(name: str, value: object, *, may_be_zero: bool = True) -> float:
    """Return the seconds.

    Raises:
        ConfigurationError: not a number, negative, without end, or zero where it must not be.
    """
    return check_number(name, value, "seconds", may_be_zero=may_be_zero)


def check_count(name: str, value: object) -> int:
    """Return how many.

    Raises:
        ConfigurationError: not a whole number from 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{name} must be a whole number from 1, not {_cut(value)}. Nothing was sent.")
    return value


def check_web_address(name: str, value: object, example: str) -> SplitResult:
    """Return the parts of `http://HOST:PORT` or `https://HOST:PORT`; path, user and password are the caller's to judge.

    Args:
        name: of the setting.
        value: of the setting; it is not shown where it may hold a password.
        example: a right value.

    Raises:
        ConfigurationError: it is no such address.
    """
    is_secret = may_hold_password(str(value))
    text = check_text(name, value, is_secret=is_secret)
    problem = _problem_of_web_address(text)
    if problem is None:
        return urlsplit(text)
    value = "" if is_secret else f" {shown(text)}"
    raise ConfigurationError(f"{name}{value} {problem} It must be like {example!r}. Nothing was sent.")


def _problem_of_web_address(text: str) -> str | None:
    scheme, found, rest = text.partition("://")
    if not found:
        return "has no scheme: http:// or https:// comes first."
    if scheme.lower() not in ("http", "https"):
        return f"has the scheme {shown(scheme)}: only http and https work."
    if " " in text or "\\" in text:
        return "has a blank or a backslash inside."
    if not {"?", "#"}.isdisjoint(rest):
        return "has a ? or #, which stands for nothing here; in a password write %3F or %23."
    return _problem_of_host(text)


def _problem_of_host(text: str) -> str | None:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "has a port that is no number from 1 to 65535, or no host."
    if port == 0:
        return "has the port 0."
    if host is None or not _is_host(host):
        return "has no host, or one that is none: letters, digits, dots and hyphens (other letters in their xn-- form)."
    return None


def _cut(value: object) -> str:
    """Return what the value is, cut where it is long; a whole number may have too many digits to be written."""
    try:
        text = repr(value)
    except ValueError:
        text = f"a number of {value.bit_length()} bits" if isinstance(value, int) else type(value).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


_LONGEST: Final = 60
