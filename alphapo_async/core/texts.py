"""What a text that names something may hold: nothing invisible, and nothing that only looks like another text. Pure.

A `foreign_id` is compared character by character, by the journal and by AlphaPo. Two texts that look equal and are not would be two
withdrawals.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

__all__ = ["problem_of_address", "problem_of_id", "problem_of_setting", "problem_of_text", "shown"]

_LONGEST: Final = (
    255  # characters; AlphaPo documents it for end_user_reference and, on its exchange pages, for foreign_id
)
_SHOWN: Final = 60  # characters of a wrong value
_QUOTES: Final = "'\"`"

_IGNORABLE: Final = (
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
)
"""Default_Ignorable_Code_Point of Unicode 16.0.0 (DerivedCoreProperties.txt): drawn as nothing, and some are letters to `isprintable`."""
_BRAILLE_BLANK: Final = (0x2800, 0x2800)
"""A symbol that looks like a blank."""
_find_unseen: Final = re.compile(
    f"[{''.join(f'{chr(first)}-{chr(last)}' for first, last in (*_IGNORABLE, _BRAILLE_BLANK))}]"
).search
_is_address: Final = re.compile(r"[!-~]+").fullmatch


def problem_of_text(value: object) -> str | None:
    """Return what is wrong with a required text, the value included; None if nothing is.

    Refused is what `str.isprintable` refuses (the categories Cc, Cf, Cs, Co, Cn, Zl, Zp, and Zs but for an inner U+0020), what Unicode
    draws as nothing, and U+2800.
    """
    if value is None or (isinstance(value, str) and not value):
        return "is required and must not be empty."
    if not isinstance(value, str):
        return f"must be text, not {type(value).__name__}."
    if len(value) > _LONGEST:
        return f"{shown(value)} has {len(value)} characters, at most {_LONGEST} are allowed."
    if value.strip() != value:
        return f"{shown(value)} has leading or trailing spaces."
    if (unseen := _first_unseen(value)) is not None:
        return f"{shown(value)} has the control or invisible character {_code_point(unseen)}."
    return None


def problem_of_id(value: object) -> str | None:
    """Return what is wrong with an id or a reference: of texts that are drawn alike only the composed one (NFC) is taken."""
    problem = problem_of_text(value)
    if problem is not None or not isinstance(value, str) or unicodedata.is_normalized("NFC", value):
        return problem
    composed = unicodedata.normalize("NFC", value)
    return f"{shown(value)} ({value!a}) is not in Unicode's form NFC, which is {shown(composed)} ({composed!a})."


def problem_of_address(value: object) -> str | None:
    """Return what is wrong with an address: it has printable ASCII characters, and no blank."""
    problem = problem_of_text(value)
    if problem is not None or not isinstance(value, str) or _is_address(value):
        return problem
    strange = next(char for char in value if not _is_address(char))
    return f"{shown(value)} has {_code_point(strange)}: an address has printable ASCII characters, and no blank."


def problem_of_setting(value: str) -> str | None:
    """Return what is wrong with the text of a setting, without the value, which may be a secret; None if nothing is."""
    if not value:
        return "is empty."
    if not {"\n", "\r"}.isdisjoint(value):
        return "holds the end of a line: leave it out."
    if value.strip() != value:
        return "has leading or trailing spaces: leave them out."
    if (unseen := _first_unseen(value)) is not None:
        return f"has the control or invisible character {_code_point(unseen)}."
    if value[0] in _QUOTES and value[-1] == value[0]:
        return "stands in quotation marks, which belong to it where no shell removes them: leave them out."
    return None


def shown(text: str) -> str:
    """Return a text in quotes, cut where it is long, with an escape for every character that could not be seen."""
    cut = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return f"'{''.join(char.encode('unicode_escape').decode() if _is_unseen(char) else char for char in cut)}'"


def _first_unseen(text: str) -> str | None:
    if text.isprintable() and not _find_unseen(text):
        return None
    return next(char for char in text if _is_unseen(char))


def _is_unseen(char: str) -> bool:
    return not char.isprintable() or _find_unseen(char) is not None


def _code_point(char: str) -> str:
    return f"U+{ord(char):04X}"
