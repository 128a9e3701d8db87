"""Derived names: the same for the same step, and never for two."""

from __future__ import annotations

from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapo_async.core.errors import InvalidRequest
from alphapo_async.core.foreign_ids import derive_foreign_id
from alphapo_async.core.models import WithdrawalRequest

ID = UUID("12345678-1234-5678-1234-567812345678")


class Number(int, Enum):
    """Written as its name."""

    A = 17


PARTS = st.lists(st.text(min_size=1), min_size=1)


def test_a_name_is_the_same_in_every_release() -> None:
    """Written down: a workflow that began under an older release is repeated under a newer one."""
    assert derive_foreign_id("refund", 17, ID) == "55f93a4a6370bd9ca90299e9a6903f6033c97452"


def test_numbers_and_uuids_are_what_they_are_written_as() -> None:
    """An engine may hand them back as text."""
    assert derive_foreign_id("refund", 17, ID) == derive_foreign_id("refund", "17", str(ID))
    assert derive_foreign_id("refund", Number.A) == derive_foreign_id("refund", 17)


@given(PARTS, PARTS)
def test_two_names_are_the_same_only_for_the_same_parts(one: list[str], other: list[str]) -> None:
    """Wherever the borders between the parts are."""
    assert (derive_foreign_id(*one) == derive_foreign_id(*other)) == (one == other)


@given(PARTS)
def test_a_derived_name_is_a_foreign_id(parts: list[str]) -> None:
    """A request takes it as it is."""
    name = derive_foreign_id(*parts)
    request = WithdrawalRequest(foreign_id=name, currency="BTC", address="bc1q", amount=1, end_user_reference="user-1")
    assert request.foreign_id == name


def test_half_a_character_is_a_part_like_any_other() -> None:
    """What a broken text was cut to still names its step."""
    assert derive_foreign_id("\ud800") != derive_foreign_id("\ud801")


def test_no_part_at_all_is_refused() -> None:
    """It would be the same name for everything."""
    with pytest.raises(InvalidRequest) as refused:
        derive_foreign_id()
    assert refused.value.problems == {"parts": "are missing: name the payment, as your own books do."}


@pytest.mark.parametrize("part", ["", True, 1.5, None, b"a"], ids=repr)
def test_parts_that_name_nothing_are_refused(part: Any) -> None:
    """A float's digits, or an empty item, would name something else tomorrow."""
    with pytest.raises(InvalidRequest) as refused:
        derive_foreign_id("a", part)
    kind = type(part).__name__
    assert refused.value.problems == {"parts": f"must be text, numbers or UUIDs, and not empty; one is {kind}."}
