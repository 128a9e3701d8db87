"""Which releases may use a journal."""

from __future__ import annotations

import pytest

from alphapo_async.journal.schema_version import OLDEST, SCHEMA, THIS, SchemaVersion, newer_caution, problem_of


@pytest.mark.parametrize(
    ("found", "condition"),
    [
        (THIS, None),
        (SchemaVersion(SCHEMA + 1, SCHEMA, "0.1.0"), None),
        (SchemaVersion(SCHEMA + 9, SCHEMA + 1, "0.2.0"), "newer release"),
        (SchemaVersion(OLDEST, OLDEST, "0.1.0"), None),
        (SchemaVersion(OLDEST - 1, OLDEST - 1, "0.0.1"), "older release"),
    ],
)
def test_a_release_uses_its_own_tables_those_before_and_newer_ones_that_allow_it(
    found: SchemaVersion, condition: str | None
) -> None:
    """What allows it is recorded in the journal."""
    problem = problem_of(found)
    assert (None if problem is None else problem[0]) == condition


def test_the_refusal_names_the_release_that_is_needed() -> None:
    """Beside both versions."""
    problem = problem_of(SchemaVersion(7, SCHEMA + 1, "0.3.0"))
    assert problem == ("newer release", f"7, for alphapo-async 0.3.0 and newer; this release knows {SCHEMA}")


def test_only_a_newer_journal_is_warned_of() -> None:
    """This release reads a part of it."""
    assert newer_caution("'payouts.db'", THIS) is None
    caution = newer_caution("'payouts.db'", SchemaVersion(SCHEMA + 1, SCHEMA, "0.1.0"))
    assert caution is not None
    assert "'payouts.db' is of a newer release" in caution
