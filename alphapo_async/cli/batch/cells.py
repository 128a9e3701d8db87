"""Find cells that a spreadsheet or another program has changed. Pure.

A spreadsheet saves a number as it displays it: `7.35202E+17` for any of 100,000 ids, `1.234,56` for an amount. A cell that only such a
display can have written is refused, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from alphapo_async.core.models import FIGURE
from alphapo_async.core.texts import shown

__all__ = ["FORMULAS", "decimal_comma", "is_exact_figure", "point_means", "problems_of_cells"]

FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins with one of these is a formula to a spreadsheet."""

_FIGURES: Final = ("amount", "amount_to")
_TEXTS: Final = ("foreign_id", "currency", "address", "end_user_reference", "tag", "convert_to")

_is_error: Final = re.compile(
    r"#[¡¿]?[^\W\d_][\w/]*[!?]|#(N/A|NV|N/D|N/V|\u041d/\u0414|GETTING_DATA)|#{2,}|Err:\d{3}"
).fullmatch
"""What Excel, Google Sheets and LibreOffice show instead of a value, in several languages."""
_is_exponent: Final = re.compile(r"[+-]?\d([.,]\d+)?[eE]\+\d{1,3}").fullmatch
"""A shortened number: one digit and a signed exponent. An id such as `12e4567` does not match."""
_has_exponent_above_zero: Final = re.compile(r"[^eE]*[eE]\+?0*[1-9]\d*", re.ASCII).fullmatch
_MISSING: Final = frozenset({"nan", "NaN", "NaT", "<NA>", "None", "null", "NULL", "(null)", "[NULL]", "<null>", "\\N"})
"""What pandas and SQL clients write for a missing value."""
_AS_TEXT: Final = "format the column as text, and fill it again"

_MARKS: Final = " \u00a0\u2009\u202f'\u2019"
_is_grouped: Final = re.compile(
    rf"\d{{1,3}}([{_MARKS}]\d{{3}})+(\.\d+)?|\d{{1,3}}(,\d{{3}})+\.\d+|\d{{1,3}}(,\d{{3}}){{2,}}", re.ASCII
)
"""Thousands are separated, and the decimal sign can only be a point."""
_may_be_grouped: Final = re.compile(r"[1-9]\d{0,2}\.\d{3}", re.ASCII).fullmatch
"""A point that separates thousands, or a decimal point."""


def decimal_comma(fields: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return name and text of an amount in this row that may have a decimal comma; None if there is none.

    In the same file `1.234` would then mean 1234.
    """
    for name in _FIGURES:
        cell = fields.get(name)
        if not isinstance(cell, str):
            continue
        figure = _figure_in(cell)
        may_be_comma = "," in figure or figure.count(".") > 1
        if may_be_comma and _is_grouped.fullmatch(figure) is None:
            return name, cell
    return None


def point_means(fields: Mapping[str, Any]) -> tuple[str, str] | bool | None:
    """Return what the point in the amounts of this row means: name and text of an amount such as `1.500`, where it may separate thousands.

    True where it is a decimal point in one of them; None where there is none.
    """
    named = [(name, str(fields.get(name, ""))) for name in _FIGURES]
    pointed = [(name, cell) for name, cell in named if "." in cell and FIGURE.fullmatch(cell)]
    unclear = [one for one in pointed if _may_be_grouped(one[1])]
    return True if len(pointed) > len(unclear) else next(iter(unclear), None)


def _figure_in(cell: str) -> str:
    """Return the digits of a cell with what is between them: without currency, sign and surrounding spaces."""
    found = re.search(r"[.,]?\d(.*\d)?", cell, re.ASCII | re.DOTALL)
    return "" if found is None else found[0]


def is_exact_figure(cell: str) -> bool:
    """Return whether this is a number with all its digits; `1E-05` is one."""
    return FIGURE.fullmatch(cell) is not None and _has_exponent_above_zero(cell) is None


def problems_of_cells(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the problems of the cells of a row, by field."""
    problems = {name: _problem_of_figure(fields[name]) for name in _FIGURES if isinstance(fields.get(name), str)}
    problems |= {name: _problem_of_text(fields[name]) for name in _TEXTS if isinstance(fields.get(name), str)}
    return {name: problem for name, problem in problems.items() if problem is not None}


def _problem_of_figure(cell: str) -> str | None:
    if is_exact_figure(cell):
        return None
    if FIGURE.fullmatch(cell):
        return f"{shown(cell)} has lost digits: {_AS_TEXT}."
    if problem := _problem_of_any(cell):
        return problem
    figure = _figure_in(cell)
    bare = re.sub(rf"[,{_MARKS}]", "", figure)
    is_clear = cell.strip() == figure and (_is_grouped.fullmatch(figure) or FIGURE.fullmatch(figure))
    return f"{shown(cell)}: write {bare}." if is_clear else None


def _problem_of_text(cell: str) -> str | None:
    if _is_exponent(cell):
        return f"{shown(cell)} is how a spreadsheet shows a long number: {_AS_TEXT}."
    if cell.startswith("'") and cell[1:].startswith(FORMULAS):
        return f"{shown(cell)} begins with an apostrophe, as `alphapo journal export --spreadsheet` writes it: export without that option."
    return _problem_of_any(cell)


def _problem_of_any(cell: str) -> str | None:
    if _is_error(cell):
        return f"{shown(cell)} is a spreadsheet error: correct the formula, or {_AS_TEXT}."
    if cell in _MISSING:
        return f"{shown(cell)} means a missing value: leave the cell empty, or fill it."
    return None
