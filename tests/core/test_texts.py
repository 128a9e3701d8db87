"""What a text that names something may hold."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapo_async.core.texts import (
    _is_unseen,
    problem_of_address,
    problem_of_id,
    problem_of_setting,
    problem_of_text,
    shown,
)

_REFUSED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
_IGNORABLE = (
    "00AD 034F 061C 115F-1160 17B4-17B5 180B-180F 200B-200F 202A-202E 2060-206F 3164 FE00-FE0F FEFF FFA0 FFF0-FFF8 "
    "1BCA0-1BCA3 1D173-1D17A E0000-E0FFF"
)
"""Default_Ignorable_Code_Point as DerivedCoreProperties.txt of Unicode 16.0.0 has it."""


def test_exactly_the_characters_that_cannot_be_seen_are_refused() -> None:
    """Every character is tried: refused are eight categories but for U+0020, what is drawn as nothing, and U+2800.

    Texts are made with every character that can be seen or is ignorable, and with one in 61 of the others: those are nearly a million, and
    a text with one takes long to describe.
    """
    pairs = [(each.split("-")[0], each.split("-")[-1]) for each in _IGNORABLE.split()]
    drawn_as_nothing = {0x2800, *(code for first, last in pairs for code in range(int(first, 16), int(last, 16) + 1))}
    categories = map(unicodedata.category, map(chr, range(0x110000)))
    unseen = drawn_as_nothing | {code for code, category in enumerate(categories) if category in _REFUSED} - {0x20}
    assert {code for code in range(0x110000) if _is_unseen(chr(code))} == unseen
    tried = set(range(0x110000)) - unseen | drawn_as_nothing | set(sorted(unseen)[::61])
    assert {code for code in tried if problem_of_text(f"a{chr(code)}b") is not None} == tried & unseen


@pytest.mark.parametrize("character", ["\u3164", "\u115f", "\u034f", "\ufe0f", "\u00ad", "\u2800", "\u2028", "\ue000"])
def test_what_is_drawn_as_nothing_is_named(character: str) -> None:
    """By its code point, and the text is shown with an escape."""
    result = problem_of_text(f"pay{character}out")
    assert (
        result
        == f"'pay\\u{ord(character):04x}out' has the control or invisible character U+{ord(character):04X}.".replace(
            r"\u00ad", r"\xad"
        )
    )


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("payout 17", None),
        ("x" * 255, None),
        ("№ é 名", None),
        ("", "is required and must not be empty."),
        (None, "is required and must not be empty."),
        (5, "must be text, not int."),
        (b"x", "must be text, not bytes."),
        ("x" * 256, f"'{'x' * 60}…' has 256 characters, at most 255 are allowed."),
        (" x", "' x' has leading or trailing spaces."),
        ("x\t", r"'x\t' has leading or trailing spaces."),
        ("\u00a0x", r"'\xa0x' has leading or trailing spaces."),
        ("a\nb", r"'a\nb' has the control or invisible character U+000A."),
        ("a\ud800b", r"'a\ud800b' has the control or invisible character U+D800."),
    ],
)
def test_what_is_wrong_with_a_text_is_told_with_the_text(value: object, problem: str | None) -> None:
    """Blanks are made visible by quotes and escapes."""
    assert problem_of_text(value) == problem


@given(text=st.text(max_size=12))
def test_an_id_is_a_text_that_is_composed(text: str) -> None:
    """Nothing is changed: the composed form is shown, and is taken."""
    problem = problem_of_id(text)
    if problem_of_text(text) is not None:
        assert problem == problem_of_text(text)
    elif unicodedata.normalize("NFC", text) == text:
        assert problem is None
    else:
        assert problem is not None
        assert f"which is {shown(unicodedata.normalize('NFC', text))} (" in problem


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("bc1q9x", None),
        ("bitcoincash:qq-_~!", None),
        ("bc1q 9x", "'bc1q 9x' has U+0020: an address has printable ASCII characters, and no blank."),
        ("bс1q", "'bс1q' has U+0441: an address has printable ASCII characters, and no blank."),  # noqa: RUF001
        (" bc1q", "' bc1q' has leading or trailing spaces."),
        (5, "must be text, not int."),
    ],
)
def test_an_address_is_printable_ascii(address: object, problem: str | None) -> None:
    """Wallets copy blanks and letters of other scripts along."""
    assert problem_of_address(address) == problem


@given(text=st.text())
def test_what_is_shown_can_be_seen_and_is_short(text: str) -> None:
    """Whatever a cell holds, a sentence about it stays one line."""
    assert shown(text).isprintable()
    assert len(shown(text)) <= 12 * 60


def test_an_id_that_is_not_composed_is_shown_in_both_forms() -> None:
    """They look alike, so the escapes are shown beside them."""
    text = r"'e\u0301' ('e\u0301') is not in Unicode's form NFC, which is '\xe9' ('\xe9')."
    problem = problem_of_id("e\u0301")
    assert problem is not None
    assert problem.replace("'e\u0301' ", r"'e\u0301' ").replace("'\u00e9'", r"'\xe9'") == text
    assert problem_of_id("\u00e9") is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty."),
        ("ops\r\n", "holds the end of a line: leave it out."),
        (" ops", "has leading or trailing spaces: leave them out."),
        ("o\u2800ps", "has the control or invisible character U+2800."),
        ("`ops`", "stands in quotation marks, which belong to it where no shell removes them: leave them out."),
        ("`ops'", None),
        ("north west", None),
        ("x" * 1_000, None),
    ],
)
def test_a_setting_is_refused_without_its_value(text: str, problem: str | None) -> None:
    """Which may be a secret."""
    assert problem_of_setting(text) == problem
