"""What spreadsheets and other programs have made of a cell."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapo_async.cli.batch.cells import FORMULAS, decimal_comma, is_exact_figure, point_means, problems_of_cells


@pytest.mark.parametrize(
    ("cell", "is_comma"),
    [
        ("1.234,56", True),
        ("0,5", True),
        (",5", True),
        ("-0,5", True),
        ("1,250", True),
        ("1.234.567", True),
        ("1\u202f234,56", True),
        ("1'234,56", True),
        ("1.234,56 €", True),
        ("€ 0,5", True),
        ("1,23457E+11", True),
        ("1,25,000.5", True),
        ("1,250.00", False),
        ("12,345,678", False),
        ("1'250.00", False),
        ("1 234", False),
        ("$1,250.00", False),
        ("1.234", False),
        ("1250", False),
        ("1E-05", False),
        ("x", False),
        ("a,b", False),
        ("", False),
        (Decimal("1.5"), False),
        (None, False),
    ],
)
@pytest.mark.parametrize("name", ["amount", "amount_to"])
def test_a_decimal_comma_is_noticed_wherever_one_may_be(name: str, cell: object, *, is_comma: bool) -> None:
    """A comma that can only stand between thousands is none."""
    assert decimal_comma({name: cell, "foreign_id": "1,5"}) == ((name, cell) if is_comma else None)


@pytest.mark.parametrize(
    ("cell", "is_exact"),
    [
        ("1.5", True),
        ("1E-05", True),
        ("1.2e-7", True),
        ("1E0", True),
        ("1E+00", True),
        ("1.23457E+11", False),
        ("1e3", False),
        ("1E+01", False),
        ("1,5", False),
        ("", False),
    ],
)
def test_a_figure_with_an_exponent_above_zero_may_have_lost_digits(cell: str, *, is_exact: bool) -> None:
    """One below zero is how programs write small figures, with all their digits."""
    assert is_exact_figure(cell) is is_exact


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ("1,250.00", "'1,250.00': write 1250.00."),
        ("12,345,678", "'12,345,678': write 12345678."),
        ("1\u00a0234", r"'1\xa0234': write 1234."),
        (" 1.5 ", "' 1.5 ': write 1.5."),
        ("1.5\u00a0", r"'1.5\xa0': write 1.5."),
        ("1.23457E+11", "'1.23457E+11' has lost digits: format the column as text, and fill it again."),
        (
            "#N/A",
            "'#N/A' is a spreadsheet error: correct the formula, or format the column as text, and fill it again.",
        ),
        ("nan", "'nan' means a missing value: leave the cell empty, or fill it."),
        ("-1,250.00", None),
        ("$1,250.00", None),
        ("(1,250.00)", None),
        ("x", None),
        ("1.5", None),
        ("1E-05", None),
    ],
)
def test_what_is_wrong_with_a_figure_comes_with_what_to_write(cell: str, problem: str | None) -> None:
    """Where only one figure can be meant; what is left is for the request to judge."""
    expected = {} if problem is None else {"amount": problem}
    assert problems_of_cells({"amount": cell, "amount_to": Decimal("1e3")}) == expected


_NAMES = ["foreign_id", "currency", "address", "end_user_reference", "tag", "convert_to"]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("7.35202E+17", "is how a spreadsheet shows a long number"),
        ("7,35202E+17", "is how a spreadsheet shows a long number"),
        ("1.00E+15", "is how a spreadsheet shows a long number"),
        ("7.35202e+17", "is how a spreadsheet shows a long number"),
        ("7E+017", "is how a spreadsheet shows a long number"),
        *((error, "is a spreadsheet error") for error in ("#REF!", "#DIV/0!", "#NV", "#NAME?", "#¡REF!", "#¿NOMBRE?")),
        *((error, "is a spreadsheet error") for error in ("#\u041d/\u0414", "##", "Err:502", "#GETTING_DATA")),
        *((word, "means a missing value") for word in ("NULL", "null", "None", "NaN", "\\N", "[NULL]", "<NA>")),
        *((f"'{begin}1", "begins with an apostrophe") for begin in FORMULAS),
    ],
)
@pytest.mark.parametrize("name", _NAMES)
def test_a_text_that_only_a_display_writes_is_refused(name: str, cell: str, words: str) -> None:
    """In every field: hundreds of rows may have the same one."""
    problems = problems_of_cells({name: cell})
    assert list(problems) == [name]
    assert words in problems[name]


@pytest.mark.parametrize(
    "cell",
    ["12e4567", "1e5", "1E-05", "7.35E17", "0012", "#17", "#PAY", "-Ng", "=1+1", "'tis", "nano", "nullable", "a", ""],
)
@pytest.mark.parametrize("name", _NAMES)
def test_a_text_that_may_be_meant_is_left_alone(name: str, cell: str) -> None:
    """An id may look like almost anything."""
    assert problems_of_cells({name: cell}) == {}


def test_what_is_no_text_is_left_to_the_request() -> None:
    """JSON has numbers."""
    assert problems_of_cells({"foreign_id": 7, "amount": Decimal("1E+3"), "tag": None}) == {}


FORMS = {
    "English": (",", "."),
    "German": (".", ","),
    "French": ("\u202f", ","),
    "Swiss": ("'", "."),
    "Indian, wrongly": ("\u00a0", "."),
}


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    figures=st.lists(st.decimals(0, 10**12, places=3), min_size=1, max_size=5),
    places=st.integers(0, 3),
    form=st.sampled_from(sorted(FORMS)),
)
def test_no_display_of_a_figure_is_paid_as_another_figure(figures: list[Decimal], places: int, form: str) -> None:
    """Where a file has any figure whose decimal sign shows the comma, it stops; whatever is paid otherwise is what was meant."""
    between, point = FORMS[form]
    shown = [f"{figure:,.{places}f}".translate(str.maketrans(",.", between + point)) for figure in figures]
    if any(decimal_comma({"amount": cell}) for cell in shown):
        return
    for figure, cell in zip(figures, shown, strict=True):
        is_paid = not problems_of_cells({"amount": cell}) and is_exact_figure(cell)
        has_shown_nothing_else = form == "German" and places == 0  # 1.234 alone says nothing of commas
        assert not is_paid or has_shown_nothing_else or Decimal(cell) == round(figure, places)


@pytest.mark.parametrize(
    ("fields", "means"),
    [
        ({"amount": "1.500"}, ("amount", "1.500")),
        ({"amount": "20.250", "amount_to": "999.000"}, ("amount", "20.250")),
        ({"amount": "1.5"}, True),
        ({"amount": "0.500"}, True),
        ({"amount": "1500.000"}, True),
        ({"amount": "1.500", "amount_to": "0.25"}, True),
        ({"amount": "1500", "amount_to": "n.a."}, None),
        ({"amount": 1.5}, True),
        ({}, None),
    ],
)
def test_a_point_before_three_digits_may_separate_thousands(fields: dict[str, object], means: object) -> None:
    """Where at most three digits stand before it, and no other amount of the row shows that it is a decimal point."""
    assert point_means(fields) == means
