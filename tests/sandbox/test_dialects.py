"""The dialects: every plausible value, and few combinations that cover every pair."""

from __future__ import annotations

from itertools import combinations, product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapo_async.sandbox.dialects import DIALECT_CHOICES, Dialect, bucket, covering_dialects, fold

FORMS = DIALECT_CHOICES["foreign_id_form"]


@pytest.mark.parametrize("seed", [0, 7])
def test_every_pair_of_values_is_spoken(seed: int) -> None:
    """Any two answers appear together in one dialect, in few dialects."""
    dialects = covering_dialects(seed)
    for one, other in combinations(DIALECT_CHOICES, 2):
        spoken = {(getattr(dialect, one), getattr(dialect, other)) for dialect in dialects}
        assert spoken == set(product(DIALECT_CHOICES[one], DIALECT_CHOICES[other]))
    assert len(dialects) <= 40


def test_the_covering_list_is_the_same_every_time() -> None:
    """The same seed gives the same dialects, another seed others."""
    assert covering_dialects(3) == covering_dialects(3)
    assert covering_dialects(3) != covering_dialects(4)


def test_the_broken_race_is_no_choice() -> None:
    """The covering dialects never break the assumption that a foreign_id is unique."""
    assert "race" not in DIALECT_CHOICES
    assert {dialect.race for dialect in covering_dialects()} == {"checked"}


def test_every_default_is_a_choice() -> None:
    """The default dialect is one of the plausible ones."""
    default = msgspec.structs.asdict(Dialect())
    assert all(default[name] in values for name, values in DIALECT_CHOICES.items())


@pytest.mark.parametrize(
    ("form", "one", "other", "same"),
    [
        ("kept", "a", "A", False),
        ("kept", "a", " a", False),
        ("string only", "a", "a", True),
        ("trimmed", "a", " a ", True),
        ("trimmed", "a", "A", False),
        ("caseless", "a", "A", True),
        ("caseless", "a", "a ", False),
    ],
)
def test_a_foreign_id_is_compared_in_its_dialect(form: str, one: str, other: str, same: bool) -> None:  # noqa: FBT001
    """Each dialect has its own idea of the same foreign_id."""
    dialect = msgspec.convert({"foreign_id_form": form}, Dialect)
    assert (fold(one, dialect) == fold(other, dialect)) is same


@given(st.text(), st.text())
def test_what_any_dialect_holds_for_the_same_shares_a_bucket(one: str, other: str) -> None:
    """Nothing that is the same in some dialect is looked for in two places."""
    for form in FORMS:
        for twin in (other, f" {one}", one.upper(), one.lower()):
            if fold(one, Dialect(foreign_id_form=form)) == fold(twin, Dialect(foreign_id_form=form)):
                assert bucket(one) == bucket(twin)
