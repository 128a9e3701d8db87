"""`alphapo journal grants`: the privileges that the users of a journal in PostgreSQL need, as SQL."""

from __future__ import annotations

import click

from alphapo_async.cli.journal import journal
from alphapo_async.journal.postgres.schema import ROLES, Role, grants
from alphapo_async.journal.urls import check_schema

__all__ = ["print_grants"]

_EPILOG = """\b
Examples:
  alphapo journal grants --role enqueuer --to shop | psql "$OWNERS_URL"
  alphapo journal grants

\b
The user who made the tables (`alphapo journal migrate`) grants them, and
does so again after each migration. Users are made before, with
`create role shop login`.
"""


@journal.command(name="grants", epilog=_EPILOG)
@click.option("--role", type=click.Choice(ROLES), help="Which role.  [default: all]")
@click.option("--to", help="The user of the database.  [default: alphapo_ROLE]")
@click.option(
    "--schema", default="alphapo", show_default=True, help="Where the tables are: the ?schema= of the journal's URL."
)
def print_grants(*, role: Role | None, to: str | None, schema: str) -> None:
    """Print the SQL that gives users of a PostgreSQL journal what they need.

    payer sends withdrawals, keeper redacts and prunes, enqueuer only records withdrawals for a worker, reader reads.
    """
    checked = check_schema(schema)
    for each in ROLES if role is None else (role,):
        sentence, statements = grants(checked, each, check_schema(to or f"alphapo_{each}"))
        click.echo(f"-- {each}: {sentence}\n{statements}")
