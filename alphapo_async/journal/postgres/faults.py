"""Maps errors of PostgreSQL, of a pooler and of the network to the conditions in `journal.messages`.

The driver's classes are known here by their names: one module alone imports it.
"""

from __future__ import annotations

import errno
import re
import ssl
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from alphapo_async.core.errors import JournalError
from alphapo_async.journal.messages import database_error

__all__ = ["check_files", "condition_of", "is_lasting", "journal_error", "lacking_privileges"]

_STATES: Final = {
    "22023": "unknown setting",
    "25006": "standby",
    "3D000": "no such database",
    "42501": "privilege",
    "42704": "unknown setting",
    "42P01": "tables gone",
    "53100": "disk full",
    "53300": "too many connections",
    "55P03": "no answer",
    "57014": "no answer",
    "58P01": "server upgraded",
    "08": "lost",
    "28": "login",
    "57": "going down",
}
"""By SQLSTATE, or by its class (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""
_POOLER: Final = (("statement pooling", "statement mode"), ("unsupported startup parameter", "startup parameter"))
"""What PgBouncer says with SQLSTATE 08P01, which it gives to nearly everything."""
_NAMES: Final = (
    ("ClientConfigurationError", "wrong setting"),
    ("TargetServerAttributeNotMatched", "no primary"),
    ("InterfaceError", "lost"),
    ("InternalClientError", "lost"),
)
_LASTING: Final = ("statement mode", "startup parameter", "certificate")
"""Conditions that do not pass, though their errors look as if they did."""
_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")


def condition_of(error: Exception) -> str:
    """Return the condition; "unknown" where the table has none."""
    # The cause of a lost connection: the server's last words before it closed it.
    said = error.__cause__ if hasattr(error.__cause__, "sqlstate") else error
    state = getattr(said, "sqlstate", None)
    if state is not None:
        found = next((name for words, name in _POOLER if state == "08P01" and words in str(said)), None)
        return found or _STATES.get(state) or _STATES.get(state[:2], "unknown")
    if isinstance(error, OSError):
        return _condition_of_system(error)
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return next((condition for name, condition in _NAMES if name in kinds), "unknown")


def _condition_of_system(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, ssl.SSLError):
        return "certificate"
    return "too many open files" if error.errno in (errno.EMFILE, errno.ENFILE) else "not reached"


def is_lasting(error: Exception) -> bool:
    """Return whether trying again does not help, though errors of this kind usually pass."""
    return condition_of(error) in _LASTING


def journal_error(where: str, error: Exception, lacking: str = "") -> JournalError:
    """Return the error that says which database, what is the matter, and what to do.

    Args:
        where: the database, without a password.
        error: what the driver raised; its text is not shown where it may hold a password.
        lacking: of a missing privilege, which, and on what.
    """
    condition = condition_of(error)
    detail = lacking or _detail(condition, error)
    return database_error(where, condition, detail)


def _detail(condition: str, error: Exception) -> str:
    text = str(error)
    if condition in ("unknown setting", "startup parameter"):
        found = re.search(r'"([\w.]+)"|: ([\w.]+)$', text)
        return (found[1] or found[2]) if found else "?"
    if condition == "certificate":
        return str(getattr(error, "verify_message", None) or getattr(error, "reason", None) or type(error).__name__)
    if condition == "privilege":
        return "a privilege for that"
    return getattr(error, "sqlstate", None) or type(error).__name__


def lacking_privileges(text: str, lacking: Iterable[Mapping[str, Any]]) -> str:
    """Return which privileges the user lacks, on what: on what the server's text names, or else on everything.

    Args:
        text: what the server says, in its language.
        lacking: what the query `privileges` found.
    """
    rows = list(lacking)
    words = re.findall(r"\w+", text)
    named = [row for row in rows if row["name"] in words] or rows
    found: dict[str, list[str]] = {}
    for row in named:
        found.setdefault(f"{row['kind']} {row['name']}", []).append(row["privilege"])
    return "; ".join(f"{', '.join(privileges)} on {place}" for place, privileges in found.items())


def check_files(where: str, url: str | None) -> None:
    """Pass if the files that the URL names can be read; the driver's error would not say which one cannot.

    Raises:
        JournalError: one cannot.
    """
    settings = [] if url is None else parse_qsl(urlsplit(url).query)
    for name, path in settings:
        if name not in _FILES:
            continue
        try:
            with open(path, "rb"):  # noqa: PTH123 - it is only opened
                pass
        except OSError as error:
            detail = f"{name}={path!r} ({error.strerror})"
            raise database_error(where, "missing file", detail) from None
