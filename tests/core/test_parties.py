"""The rules for sender and receiver."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from alphapo_async.core.parties import problems_of_party

PERSON = {"first_name": "Ann", "last_name": "Lee", "date_of_birth": "1990-12-31"}
COMPANY = {"legal_name": "ACME", "country_of_registration": "DEU"}


@pytest.mark.parametrize("role", ["sender", "receiver"])
@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (None, None),
        (None, {"anything": 1}),
        ("natural", PERSON),
        ("natural", {**PERSON, "middle_name": "B."}),
        ("legal", COMPANY),
    ],
)
def test_what_the_documents_allow_passes(
    role: Literal["sender", "receiver"], kind: str | None, data: dict[str, Any] | None
) -> None:
    """And what they leave open: data without a type, and further parts."""
    assert problems_of_party(role, kind, data) == {}


@pytest.mark.parametrize("kind", ["self", "natural", "legal"])
def test_a_receiver_needs_no_data(kind: str) -> None:
    """The documents do not say that it is required; `self` is a receiver only."""
    assert problems_of_party("receiver", kind, None) == {}
    assert problems_of_party("receiver", "self", {}) == {}


@pytest.mark.parametrize(
    ("role", "kind", "data", "field", "text"),
    [
        ("sender", "self", None, "sender_type", "'self' is none of natural, legal."),
        ("receiver", "person", None, "receiver_type", "'person' is none of natural, legal, self."),
        (
            "sender",
            "natural",
            None,
            "sender_data",
            "is required with sender_type 'natural': first_name, last_name, date_of_birth.",
        ),
        (
            "receiver",
            "natural",
            {"first_name": " ", "last_name": 5},
            "receiver_data",
            "first_name is missing; last_name is missing; date_of_birth is missing (receiver_type is 'natural').",
        ),
        (
            "sender",
            "natural",
            {**PERSON, "date_of_birth": "31.12.1990"},
            "sender_data",
            "date_of_birth must be a date such as 1990-12-31 (sender_type is 'natural').",
        ),
        (
            "sender",
            "natural",
            {**PERSON, "date_of_birth": "19901231"},
            "sender_data",
            "date_of_birth must be a date such as 1990-12-31 (sender_type is 'natural').",
        ),
        (
            "sender",
            "legal",
            {**COMPANY, "country_of_registration": "de"},
            "sender_data",
            "country_of_registration must be three capital letters (ISO 3166 alpha-3), such as DEU (sender_type is 'legal').",
        ),
    ],
)
def test_each_problem_has_its_field_and_what_to_do(
    role: Literal["sender", "receiver"], kind: str, data: dict[str, Any] | None, field: str, text: str
) -> None:
    """Names and birthdays stay out of the text."""
    assert problems_of_party(role, kind, data) == {field: text}
