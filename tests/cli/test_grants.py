"""`alphapo journal grants`: SQL on standard output; what it grants is tested with the tables."""

from __future__ import annotations

from tests.cli.conftest import invoke

ENQUEUER = """\
-- enqueuer: Records withdrawals for workers with `enqueue_statement`; reads and writes no table.
grant usage on schema payments to shop;
grant execute on function payments.enqueue(bytea) to shop;
"""


def test_the_statements_of_one_role_are_printed() -> None:
    """For a user and a schema that are named."""
    ended = invoke("journal", "grants", "--role", "enqueuer", "--to", "shop", "--schema", "payments")
    assert (ended.exit_code, ended.stdout) == (0, ENQUEUER)


def test_without_a_role_all_are_printed() -> None:
    """Each for a user named after it."""
    ended = invoke("journal", "grants").stdout
    assert [line for line in ended.splitlines() if line.startswith("grant usage")] == [
        f"grant usage on schema alphapo to alphapo_{role};" for role in ("payer", "keeper", "enqueuer", "reader")
    ]


def test_a_name_that_is_none_is_refused() -> None:
    """It would stand in the statements as it is."""
    ended = invoke("journal", "grants", "--to", "shop; drop schema alphapo")
    assert (ended.exit_code, ended.stdout) == (2, "")
