"""The rules for the sender and the receiver of a withdrawal. Pure.

AlphaPo's own pages do not have these four fields. The rules are those of its sibling, CryptoProcessing
(https://docs.cryptoprocessing.com/api-reference/endpoints/withdrawal-crypto): `natural` needs first name, last name and date of birth,
`legal` needs legal name and country of registration; a receiver may also be `self`. Only what these pages say clearly is checked:
a `sender_type` needs `sender_data`, `receiver_data` may be left out, other parts are AlphaPo's to judge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any, Final, Literal, TypeAlias

from alphapo_async.core.texts import shown

__all__ = ["ROLES", "problems_of_party"]

Role: TypeAlias = Literal["sender", "receiver"]
ROLES: Final[tuple[Role, Role]] = ("sender", "receiver")
_TYPES: Final = {"sender": ("natural", "legal"), "receiver": ("natural", "legal", "self")}
_PARTS: Final = {
    "natural": ("first_name", "last_name", "date_of_birth"),
    "legal": ("legal_name", "country_of_registration"),
}
_is_country: Final = re.compile(r"[A-Z]{3}").fullmatch


def problems_of_party(role: Role, kind: str | None, data: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the problems by field; the values of names and birthdays stay out of the texts.

    Args:
        role: whose.
        kind: `sender_type` or `receiver_type`.
        data: `sender_data` or `receiver_data`, as JSON has it.
    """
    if kind is None:
        return {}
    if kind not in _TYPES[role]:
        return {f"{role}_type": f"{shown(kind)} is none of {', '.join(_TYPES[role])}."}
    parts = _PARTS.get(kind, ())
    if data is None:
        needs = f"is required with {role}_type {kind!r}: {', '.join(parts)}."
        return {f"{role}_data": needs} if role == "sender" else {}
    problems = [problem for part in parts if (problem := _problem_of_part(part, data.get(part))) is not None]
    return {f"{role}_data": f"{'; '.join(problems)} ({role}_type is {kind!r})."} if problems else {}


def _problem_of_part(part: str, value: object) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return f"{part} is missing"
    if part == "date_of_birth" and not _is_date(value):
        return f"{part} must be a date such as 1990-12-31"
    if part == "country_of_registration" and not _is_country(value):
        return f"{part} must be three capital letters (ISO 3166 alpha-3), such as DEU"
    return None


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
