"""Sheets as AlphaPo's dashboard takes them: which foreign_ids their rows get, and how they differ from what they were."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapo_async.cli.batch.cells import problems_of_cells
from alphapo_async.cli.batch.files import InputLine
from alphapo_async.cli.batch.sheets import (
    Differences,
    SheetRow,
    check_prefix,
    difference_lines,
    differences,
    read_sheet,
    remembered_rows,
)
from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.models import request_of

PLAIN = "Address,Tag,Currency,Amount,Note"
CONVERTED = "From Currency,Amount to Send,Address,Tag,To Currency,Amount to Receive,Note"
PREFIX = "payroll-2026-11-"

Row = tuple[str, ...]
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["made-up-1", "made-up-2", 'with "quotes", a comma\nand a newline']),
        st.sampled_from(["", "7"]),
        st.sampled_from(["BTC", "USDTT"]),
        st.sampled_from(["1.5", "1.50", "0.1", "2"]),
        st.sampled_from(["", "user-1"]),
    ),
    min_size=1,
    max_size=8,
)


def split(text: str) -> Iterator[str]:
    """Return the lines of a text as a file has them."""
    return iter(text.splitlines(keepends=True))


def lines(text: str, reference: str = "user-1") -> list[InputLine]:
    """Return the rows of a sheet."""
    return list(read_sheet(PREFIX, reference)(split(text), "sheet.csv"))


def sheet(rows: Sequence[Row], separator: str = ",", header: str = PLAIN) -> str:
    """Return the text of a sheet with these rows."""
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows([header.split(","), *rows])
    return text.getvalue()


def names(rows: Sequence[Row], separator: str = ",") -> list[str]:
    """Return the foreign_ids of these rows."""
    return [line.fields["foreign_id"] for line in lines(sheet(rows, separator))]


def refused(text: str) -> str:
    """Return why a sheet is refused."""
    with pytest.raises(ConfigurationError) as caught:
        lines(text)
    assert str(caught.value).endswith("Nothing was sent.")
    return str(caught.value)


# ── the prefix ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("prefix", [PREFIX, "p", "with blank inside-", "№-", "x" * 64])
def test_a_prefix_is_taken_as_it_is(prefix: str) -> None:
    """Anything a foreign_id may begin with, as long as there is room behind it."""
    assert check_prefix(prefix) == prefix
    [line] = read_sheet(prefix, "user-1")(split(f"{PLAIN}\nmade-up,,BTC,1,\n"), "sheet.csv")
    assert request_of(line.fields).foreign_id.startswith(prefix)


@pytest.mark.parametrize("prefix", ["", " ", " p", "p ", "p\n", "p\x00q", "p\u200bq", "x" * 65])
def test_a_prefix_that_no_foreign_id_can_have_is_refused(prefix: str) -> None:
    """Before a row is read."""
    with pytest.raises(ConfigurationError, match="--foreign-id-prefix must be 1 to 64 printable characters"):
        check_prefix(prefix)


# ── what a row becomes ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (
            f"{PLAIN}\nmade-up,7,btc,1.50,user-2\n",
            {"address": "made-up", "tag": "7", "currency": "BTC", "amount": "1.5"},
        ),
        (
            f"{PLAIN.replace(',', ';')}\nmade-up;;BTC;0.10;\n",
            {"address": "made-up", "currency": "BTC", "amount": "0.1"},
        ),
        (
            f"{CONVERTED}\neur, 20.00 ,made-up,,btc,,user-2\n",
            {"address": "made-up", "currency": "EUR", "amount": "20", "convert_to": "BTC"},
        ),
        (
            f"{CONVERTED}\nEUR,,made-up,7,BTC,1e-3,\n",
            {"address": "made-up", "tag": "7", "currency": "EUR", "convert_to": "BTC", "amount_to": "0.001"},
        ),
        (
            f"{PLAIN}\nmade-up,,BTC,a lot,\n",
            {"address": "made-up", "currency": "BTC", "amount": "a lot"},
        ),
    ],
)
def test_the_columns_of_a_sheet_become_the_fields_of_a_request(text: str, fields: dict[str, str]) -> None:
    """Both forms of the sheet, commas or semicolons; a note is no field."""
    [line] = lines(text)
    foreign_id = line.fields["foreign_id"]
    assert line == InputLine(2, {**fields, "foreign_id": foreign_id, "end_user_reference": "user-1"})
    assert foreign_id.removeprefix(PREFIX).endswith("-1")


@pytest.mark.parametrize(
    ("reference", "expected"), [("Note", ["user-7", ""]), ("note", ["note", "note"]), ("desk", ["desk", "desk"])]
)
def test_the_reference_is_the_same_for_all_rows_or_each_row_s_note(reference: str, expected: list[str]) -> None:
    """The note only where it is asked for by the name of its column."""
    told = lines(f"{PLAIN}\nmade-up,,BTC,1, user-7 \nmade-up,,BTC,1,\n", reference)
    assert [line.fields["end_user_reference"] for line in told] == expected


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("made-up,,BTC,1", "has 1 cells too few."),
        ("made-up", "has 4 cells too few."),
        ("made-up,,BTC,1,note,", "has 1 cells too many."),
        ("made-up,,BTC,1,note,more,and more", "has 2 cells too many."),
    ],
)
def test_a_row_with_too_few_or_too_many_cells_is_told_so(row: str, problem: str) -> None:
    """And the rows around it are read."""
    told = lines(f"{PLAIN}\nmade-up-1,,BTC,1,\n{row}\nmade-up-2,,BTC,1,\n")
    assert [line.problems for line in told] == [{}, {"row": problem}, {}]


def test_rows_have_the_numbers_of_their_lines() -> None:
    """With blank lines above the header and between rows, rows without a word, and newlines in a note."""
    text = f'\n \n{PLAIN}\nmade-up-1,,BTC,1,"two\nlines"\n\n,,,,\nmade-up-2,,BTC,1,\n'
    assert [line.number for line in lines(text)] == [4, 8]


# ── its foreign_id ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_foreign_id_of_a_row_never_changes() -> None:
    """Another release must find in the journal what this one has paid."""
    assert names([("made-up-1", "", "BTC", "1.5", "user-1")]) == [f"{PREFIX}fc6b35452953ab0a-1"]
    [line] = lines(f"{CONVERTED}\nEUR,0.001,made-up-1,7,BTC,,user-1\n")
    assert line.fields["foreign_id"] == f"{PREFIX}8df14d4d111fad91-1"


@pytest.mark.parametrize(
    "row",
    [
        ("made-up-1", "7", "BTC", "1.50", "user-1"),
        ("made-up-1", "7", "btc", "+1.5", "user-1"),
        (" made-up-1 ", "7 ", " BTC", " 01.500", "user-1\n"),
        ("made-up-1", "7", "BTC", "15e-1", "user-1"),
    ],
)
@pytest.mark.parametrize("separator", [",", ";"])
def test_a_row_that_says_the_same_has_the_same_foreign_id_however_it_is_typed(row: Row, separator: str) -> None:
    """Blanks, capitals of a currency, zeros and the separator say nothing."""
    assert names([row], separator) == names([("made-up-1", "7", "BTC", "1.5", "user-1")])


@pytest.mark.parametrize(
    "row",
    [
        ("made-up-2", "7", "BTC", "1.5", "user-1"),
        ("MADE-UP-1", "7", "BTC", "1.5", "user-1"),
        ("made-up-1", "", "BTC", "1.5", "user-1"),
        ("made-up-1", "07", "BTC", "1.5", "user-1"),
        ("made-up-1", "7", "ETH", "1.5", "user-1"),
        ("made-up-1", "7", "BTC", "1.50000000000000000000000000000000000001", "user-1"),
        ("made-up-1", "7", "BTC", "1,5", "user-1"),
        ("made-up-1", "7", "BTC", "1.5", "user-2"),
        ("made-up-17", "", "BTC", "1.5", "user-1"),
    ],
)
def test_a_row_that_says_anything_else_has_another_foreign_id(row: Row) -> None:
    """Every cell counts, and in which column it stands."""
    assert names([row]) != names([("made-up-1", "7", "BTC", "1.5", "user-1")])


def test_rows_that_say_the_same_are_numbered() -> None:
    """Each of them is a payment of its own."""
    rows = [("made-up", "", "BTC", figure, "") for figure in ("1.50", "2", "1.5", "1.500")]
    first, other, second, third = names(rows)
    assert [first[-2:], second[-2:], third[-2:], other[-2:]] == ["-1", "-2", "-3", "-1"]
    assert first[:-2] == second[:-2] == third[:-2] != other[:-2]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(rows=ROWS, data=st.data(), separator=st.sampled_from([",", ";"]))
def test_the_order_of_the_rows_changes_no_foreign_id(rows: list[Row], data: st.DataObject, separator: str) -> None:
    """A sheet that was sorted is the same payout."""
    told = names(rows)
    assert len(set(told)) == len(rows)
    assert set(names(data.draw(st.permutations(rows)), separator)) == set(told)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(rows=ROWS, more=ROWS, data=st.data())
def test_rows_that_come_in_change_no_foreign_id(rows: list[Row], more: list[Row], data: st.DataObject) -> None:
    """On top or anywhere else: what was paid stays known."""
    at = data.draw(st.integers(0, len(rows)))
    told = set(names([*rows[:at], *more, *rows[at:]]))
    assert set(names(rows)) < told
    assert len(told) == len(rows) + len(more)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(rows=ROWS, data=st.data())
def test_a_row_that_cannot_be_read_takes_no_other_row_s_foreign_id(rows: list[Row], data: st.DataObject) -> None:
    """It may be put right or taken out once the others are paid, and none of them is paid again under another foreign_id."""
    at = data.draw(st.integers(0, len(rows)))
    cut = data.draw(st.sampled_from(rows))
    wrong = data.draw(st.sampled_from([cut[:-1], (*cut, ""), (*cut, "more")]))
    told = lines(sheet([*rows[:at], wrong, *rows[at:]]))
    assert [line.fields["foreign_id"] for line in told if not line.problems] == names(rows)
    assert len({line.fields["foreign_id"] for line in told}) == len(rows) + 1


# ── what is no such sheet ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "sheet.csv is empty."),
        ("\n \n", "sheet.csv is empty."),
        (f"{PLAIN}\n", "has a header and no rows."),
        (f"{PLAIN}\n\n,,,,\n", "has a header and no rows."),
        (
            "Address,Tag,Currency,Amount\nx,,BTC,1\n",
            "is no mass-payout sheet: its columns are Address, Tag, Currency, ",
        ),
        ("Tag,Address,Currency,Amount,Note\n,x,BTC,1,\n", "they must be, in this order, Address, Tag, Currency, Amou"),
        ("foreign_id,currency\na,BTC\n", "or From Currency, Amount to Send, Address, Tag, To Currency, Amount to R"),
        (
            f'{PLAIN}\nx,,BTC,1,\nx,,BTC,1,"no end\n',
            "is no CSV that can be read safely: unexpected end of data in line 3",
        ),
        (f'\n\n{PLAIN}\nx,,BTC,1,"a"b\n', "',' expected after '\"' in line 4. Is a quote missing?"),
    ],
)
def test_what_is_no_sheet_is_refused_with_advice(text: str, words: str) -> None:
    """As a whole."""
    assert words in refused(text)


def test_a_sheet_has_as_many_rows_as_the_dashboard_takes() -> None:
    """500, and blank ones are none."""
    rows = "made-up,,BTC,1,\n\n" * 500
    assert len(lines(f"{PLAIN}\n{rows}")) == 500
    assert "is larger than AlphaPo's dashboard takes (500 rows, 1 MB)" in refused(f"{PLAIN}\n{rows}made-up,,BTC,1,\n")


def test_a_sheet_is_as_large_as_the_dashboard_takes() -> None:
    """1 MB, counted in bytes."""
    rows = f"{PLAIN}\n" + f"made-up,,BTC,1,{'№' * 1_000}\n" * 300 + "made-up,,BTC,1,"
    full = rows + "x" * (1_000_000 - len(rows.encode()))
    assert len(lines(full)) == 301
    assert "is larger than AlphaPo's dashboard takes (500 rows, 1 MB)" in refused(f"{full}x")


# ── how it differs from what it was ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            {"end_user_reference": "user-1", "tag": "7", "address": "made-up", "currency": "BTC", "amount": "1.5"},
            "amount 1.5, currency BTC, address made-up, tag 7, end_user_reference user-1",
        ),
        (
            {"address": "made-up", "currency": "EUR", "amount_to": "0.001", "convert_to": "BTC"},
            "currency EUR, amount_to 0.001, convert_to BTC, address made-up",
        ),
        ({}, ""),
    ],
)
def test_what_is_remembered_of_a_row_can_be_read_by_people(fields: dict[str, Any], says: str) -> None:
    """What it pays to whom, always in the same order."""
    reference = fields.get("end_user_reference", "")
    assert SheetRow.of({**fields, "foreign_id": "f"}) == SheetRow("f", says, reference)


ONE, TWO, THREE = (SheetRow(name, f"amount {name}") for name in "123")


@pytest.mark.parametrize(
    ("before", "now", "found"),
    [
        (None, [ONE], None),
        ([ONE, TWO], [ONE, TWO], None),
        ([ONE, TWO], [TWO, ONE], None),
        ([], [], None),
        ([ONE], [SheetRow("1", "said otherwise")], None),
        ([ONE, TWO], [THREE, ONE], Differences(new=(THREE,), gone=(TWO,))),
        ([], [ONE, TWO], Differences(new=(ONE, TWO), is_another=True)),
        ([ONE, TWO], [], Differences(gone=(ONE, TWO), is_another=True)),
        ([ONE, TWO], [THREE], Differences(new=(THREE,), gone=(ONE, TWO), is_another=True)),
    ],
)
def test_a_sheet_is_held_against_what_it_was(
    before: list[SheetRow] | None, now: list[SheetRow], found: Differences | None
) -> None:
    """By foreign_id, in whatever order; a sheet that was never paid differs from nothing."""
    assert differences(before, now) == found


def test_the_differences_are_told_line_by_line() -> None:
    """How many, what they mean, and each of them."""
    head, *rest = difference_lines(Differences(new=(THREE, ONE), gone=(TWO,)))
    assert "2 rows are new (+), 1 are gone (-). What was paid stays paid, and is not paid again." in head
    assert rest == ["+ 3: amount 3", "+ 1: amount 1", "- 2: amount 2"]


def test_without_differences_nothing_is_told() -> None:
    """Not a line."""
    assert difference_lines(None) == []


def test_a_journal_that_remembers_nothing_remembers_no_rows() -> None:
    """Which is not the same as a sheet without rows."""
    assert remembered_rows(None) is None
    assert remembered_rows("[]") == ()


@settings(derandomize=True, deadline=None, max_examples=40)
@given(before=ROWS, now=ROWS)
def test_a_sheet_that_is_remembered_is_told_apart_row_by_row(before: list[Row], now: list[Row]) -> None:
    """What is new and what is gone makes of the one the other."""
    was, is_now = ([SheetRow.of(line.fields) for line in lines(sheet(rows))] for rows in (before, now))
    known = remembered_rows(msgspec.json.encode(was).decode())
    assert known == tuple(was)
    found = differences(known, is_now) or Differences((), ())
    assert Counter(was) - Counter(found.gone) + Counter(found.new) == Counter(is_now)
    assert (differences(known, is_now) is None) == (set(was) == set(is_now))


def test_a_row_with_another_end_user_reference_is_not_the_row_it_was() -> None:
    """Nothing else of a row could change without its foreign_id; what was remembered without one is no other."""
    was, now = SheetRow("1", "says", "alice"), SheetRow("1", "says", "bob")
    found = differences([was, TWO], [now, TWO])
    assert found == Differences(renamed=((now, "alice"),))
    head, line = difference_lines(found)
    assert head.startswith("The sheet has changed since")
    assert "1 have another end_user_reference (~)" in head
    assert line == "~ 1: says (paid before with end_user_reference alice)"
    assert differences([SheetRow("1", "says")], [now]) is None


def test_a_row_that_is_back_is_told_as_what_the_journal_has_it_as() -> None:
    """And not as new: it is not paid again."""
    found = differences([ONE], [ONE, TWO, THREE], {"2": "accepted"})
    assert found == Differences(new=(THREE,), back=((TWO, "accepted"),))
    head, *rest = difference_lines(found)
    assert "1 are in the journal from before (=)" in head
    assert rest == ["+ 3: amount 3", "= 2: amount 2 (in the journal: accepted)"]
    assert differences([ONE], [TWO], {"2": "accepted"}) == Differences(gone=(ONE,), back=((TWO, "accepted"),))


def test_an_empty_tag_is_none_on_purpose_if_that_is_said() -> None:
    """It changes no foreign_id, and a tag that is there stays."""
    text = f"{PLAIN}\nmade-up,,XRP,1,u\nmade-up,7,XRP,1,u\n"
    plain, tagged = lines(text), list(read_sheet(PREFIX, "user-1", no_tag=True)(iter(text.splitlines(True)), "s"))
    assert [line.fields["foreign_id"] for line in plain] == [line.fields["foreign_id"] for line in tagged]
    assert [line.fields.get("tag") for line in plain] == [None, "7"]
    assert [line.fields.get("tag") for line in tagged] == [None, "7"]
    assert [line.fields.get("without_tag") for line in tagged] == [True, None]
    assert [SheetRow.of(line.fields) for line in plain] == [SheetRow.of(line.fields) for line in tagged]


@pytest.mark.parametrize("cell", ["1.23457E+11", "1e3"])
def test_a_figure_whose_digits_a_display_has_cut_is_kept_as_it_is_written(cell: str) -> None:
    """So that it is refused, and not paid as what is left of it."""
    [line] = lines(f"{PLAIN}\nmade-up,,SHIB,{cell},u\n")
    assert line.fields["amount"] == cell
    assert "amount" in problems_of_cells(line.fields)
