"""The statements in `.sql` files: each is documented, and used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alphapo_async.journal import statements
from alphapo_async.journal.statements import Statement, load, read

FOLDER = Path(statements.__file__).parent
FILES = sorted(FOLDER.rglob("*.sql"))


def test_a_statement_has_its_names_and_parts_filled_in(tmp_path: Path) -> None:
    """A part is no statement; comments are not sent."""
    file = tmp_path / "queries.sql"
    file.write_text(
        "-- A head.\n\n-- part of --\n-- A part.\nfrom {s}.t\n\n-- all --\n-- Return all.\n-- Twice.\nselect *\n{of}\n"
    )
    assert read(file)[1] == Statement("all", is_part=False, sentence="Return all. Twice.", text="select *\n{of}")
    assert load(file, s="here") == {"all": "select *\nfrom here.t"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_every_statement_is_documented_and_used(file: Path) -> None:
    """Under one name, with a sentence; by the Python files beside it, or as a part by another statement."""
    names = [statement.name for statement in read(file)]
    assert len(set(names)) == len(names) > 0
    code = "".join(module.read_text() for module in file.parent.glob("*.py"))
    for statement in read(file):
        assert re.match(r"[A-Z].*[.;:]", statement.sentence), statement.name
        is_used = any(f"{{{statement.name}}}" in other.text for other in read(file))
        if file.stem == "queries" and not statement.is_part:
            is_used = f'"{statement.name}"' in code
        assert is_used or file.stem in ("schema", "grants"), statement.name
