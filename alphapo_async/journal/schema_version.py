"""Which releases may use a journal. Pure.

A journal keeps the version of its tables, and the lowest version that a program must know to use them: a release that only adds to the
tables raises the first alone, and workers of the release before go on beside its own.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["OLDEST", "SCHEMA", "THIS", "SchemaVersion", "newer_caution", "problem_of"]


class SchemaVersion(NamedTuple):
    """What a journal keeps about its tables. Every later release keeps these three where this release reads them."""

    version: int
    readable_from: int
    """The lowest version that a program must know to use these tables."""
    needs_release: str
    """The first release of this library that knows it."""


THIS: Final = SchemaVersion(1, 1, "0.1.0")
"""What this release records where it makes or migrates the tables."""
SCHEMA: Final = THIS.version
"""Version of this release's tables."""
OLDEST: Final = max(1, SCHEMA - 1)
"""The oldest tables that this release uses as they are: its own and those of the version before."""


def problem_of(found: SchemaVersion) -> tuple[str, str] | None:
    """Return why this release must not use tables of this version: a condition of `journal.messages`, and what was found."""
    if found.readable_from > SCHEMA:
        about = f"{found.version}, for alphapo-async {found.needs_release} and newer; this release knows {SCHEMA}"
        return "newer release", about
    if found.version < OLDEST:
        return "older release", f"{found.version}, this release's is {SCHEMA}"
    return None


def newer_caution(where: str, found: SchemaVersion) -> str | None:
    """Return the warning about a journal that a newer release has changed and that this one may use; None for any other journal."""
    if found.version <= SCHEMA:
        return None
    return (
        f"The journal {where} is of a newer release (its schema is {found.version}, this release knows {SCHEMA}): withdrawals that only "
        "the newer release can read are left alone. Upgrade this program soon"
    )
