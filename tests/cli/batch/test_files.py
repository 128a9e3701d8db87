"""The rows of a file: what is read, what is refused, and how a change of the file is noticed."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapo_async.cli.batch.files import FileChanged, InputFile, InputLine, read_lines
from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.models import request_of, requested_figure

COLUMNS = ("foreign_id", "currency", "address", "amount", "end_user_reference")
HEADER = ",".join(COLUMNS)
ROW = {"foreign_id": "a", "currency": "BTC", "address": "made-up", "amount": "0.5", "end_user_reference": "user-1"}
TEXT = ",".join(ROW.values())
FILE = f"{HEADER}\n{TEXT}\n"
BOM = b"\xef\xbb\xbf"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test's file is."""
    return tmp_path / "payouts.csv"


def lines(path: Path, data: bytes | str) -> list[InputLine]:
    """Return the rows of a file with these contents."""
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return list(InputFile(path, read_lines).read())


def refused(path: Path, data: bytes | str) -> str:
    """Return why a file is refused, before a row of it is used."""
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(ConfigurationError) as caught:
        list(InputFile(path, read_lines).read())
    assert str(caught.value).startswith("payouts.csv")
    assert str(caught.value).endswith("Nothing was sent.")
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER},outcome,status\n{TEXT},accepted,7\n",
        json.dumps({**ROW, "outcome": "accepted", "status": None}) + "\n",
    ],
)
def test_what_an_export_has_beside_the_fields_of_a_request_is_left_out(path: Path, text: str) -> None:
    """By a closed list of names, which the row keeps."""
    [line] = lines(path, text)
    assert (line.fields, line.left_out) == (ROW, ("outcome", "status"))


# ── CSV ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("begin", [b"", BOM, b"\n \r\n", BOM + b"\n\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("separator", [",", ";"])
def test_a_csv_is_read_with_commas_and_semicolons_with_and_without_bom(
    path: Path, begin: bytes, end: str, separator: str
) -> None:
    """And with either end of line; lines are counted from the top of the file."""
    text = FILE.replace(",", separator).replace("\n", end)
    assert lines(path, begin + text.encode()) == [
        InputLine(begin.count(b"\n") + 2, ROW, has_semicolons=separator == ";")
    ]


def test_a_last_line_needs_no_end(path: Path) -> None:
    """Some programs write none."""
    assert lines(path, FILE.removesuffix("\n")) == [InputLine(2, ROW)]


def test_columns_may_stand_in_any_order_with_blanks_around_their_names(path: Path) -> None:
    """Cells are kept as they are, and empty ones say nothing."""
    text = "tag, amount ,foreign_id,address, currency,end_user_reference\n, 0.5,a,made-up,BTC,\n"
    assert lines(path, text) == [
        InputLine(2, {"amount": " 0.5", "foreign_id": "a", "address": "made-up", "currency": "BTC"})
    ]


CELLS = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(
    ['"', '""', ",", ";", "\n", "\r\n", "two\nlines", ' "x" ']
)
TABLES = st.lists(st.none() | st.tuples(CELLS.filter(bool), CELLS, CELLS, CELLS, CELLS), min_size=1, max_size=6)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    rows=TABLES.filter(any),
    separator=st.sampled_from([",", ";"]),
    begin=st.sampled_from([b"", BOM]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_what_a_csv_writer_wrote_is_read_back_with_its_lines(
    rows: list[tuple[str, ...] | None], separator: str, begin: bytes, end: str
) -> None:
    """Cell for cell, whatever they hold, and right after newlines in quotes and blank lines."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(COLUMNS)
    expected = []
    for row in rows:
        number = text.getvalue().count("\n") + 1
        if row is None:
            text.write(end)
        else:
            writer.writerow(row)
            fields = {name: cell for name, cell in zip(COLUMNS, row, strict=True) if cell}
            expected.append(InputLine(number, fields, has_semicolons=separator == ";"))
    with tempfile.TemporaryDirectory() as folder:
        assert lines(Path(folder) / "payouts.csv", begin + text.getvalue().encode()) == expected


def test_blank_lines_and_rows_without_a_word_are_no_rows(path: Path) -> None:
    """They count as lines all the same."""
    assert lines(path, f"\n{HEADER}\n\n,,,,\n{TEXT}\n\n\n{TEXT}\n\n") == [InputLine(5, ROW), InputLine(8, ROW)]


@pytest.mark.parametrize(("row", "cells"), [("b,BTC", 2), (f"{TEXT},more", 6), (f"{TEXT},", 6), (" ", 1)])
def test_a_row_with_too_few_or_too_many_cells_is_told_so(path: Path, row: str, cells: int) -> None:
    """With what could be read of it, and the rows around it are read."""
    first, wrong, last = lines(path, f"{FILE}{row}\n{TEXT}\n")
    assert (first, last) == (InputLine(2, ROW), InputLine(4, ROW))
    assert (wrong.number, list(wrong.problems)) == (3, ["row"])
    count = "1 cell" if cells == 1 else f"{cells} cells"
    assert wrong.problems["row"].startswith(f"has {count}, and the header has 5.")
    assert ("delete the empty columns to the right of the table." in wrong.problems["row"]) is (row == f"{TEXT},")
    assert wrong.fields["foreign_id"] == row.split(",", maxsplit=1)[0]


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ('"{""name"": ""Ann"", ""height"": 1.5}"', {"name": "Ann", "height": 1.5}),
        ("{}", {}),
        ("[1]", [1]),
        ("1", 1),
    ],
    ids=["object", "empty", "array", "number"],
)
@pytest.mark.parametrize("column", ["sender_data", "receiver_data"])
def test_sender_and_receiver_are_told_as_json(path: Path, column: str, cell: str, value: object) -> None:
    """The request complains about what is no object."""
    assert lines(path, f"{HEADER},{column}\n{TEXT},{cell}\n") == [InputLine(2, {**ROW, column: value})]


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("Ann", "Expecting value"),
        ("{'name': 1}", "Expecting property name"),
        (DEEP, "maximum recursion depth exceeded"),
        ('"{""name"": ""Ann"", ""name"": ""Bea""}"', "a name appears in it twice"),
    ],
    ids=["text", "wrong quotes", "deep", "name twice"],
)
def test_a_cell_that_is_no_json_object_has_its_reason(path: Path, cell: str, why: str) -> None:
    """As a line of JSON has it: of a name that appears twice, one value would be lost."""
    [line] = lines(path, f"{HEADER},sender_data\n{TEXT},{cell}\n")
    assert line.problems["sender_data"].startswith(f"is not a JSON object: {why}")


@pytest.mark.parametrize("name", ["allow_personal_reference", "without_tag"])
def test_true_and_false_are_left_for_the_request_to_read(path: Path, name: str) -> None:
    """As any mapping says them; every other word is refused there."""
    right, wrong = lines(path, f"{HEADER},{name}\n{TEXT},TRUE\n{TEXT},yes\n")
    assert getattr(request_of(right.fields), name) is True
    with pytest.raises(ValueError, match=f"{name} must be true or false"):
        request_of(wrong.fields)


def test_an_empty_cell_says_nothing_of_personal_references(path: Path) -> None:
    """As if there were no such column."""
    assert lines(path, f"{HEADER},allow_personal_reference\n{TEXT},\n") == [InputLine(2, ROW)]


def test_a_nul_in_a_cell_is_kept_for_the_request_to_refuse(path: Path) -> None:
    """The row is wrong, and no other."""
    first, second = lines(path, FILE + TEXT.replace("made-up", "made\0up"))
    assert (first, second) == (InputLine(2, ROW), InputLine(3, {**ROW, "address": "made\0up"}))
    with pytest.raises(ValueError, match=r"has the control or invisible character U\+0000"):
        request_of(second.fields)


# ── a file as a whole ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (FILE.encode("utf-16"), "is not in UTF-8 (line 1): save it as UTF-8 (in Excel: CSV UTF-8)."),
        (FILE.encode("utf-16-le"), "has no column foreign_id; its header is: f\0o\0r\0"),
        (f"{FILE}\n{TEXT}é\n".encode("latin-1"), "is not in UTF-8 (line 4)"),
        (f'{{"address": "{"é" * 3}"}}\n'.encode("latin-1"), "is not in UTF-8 (line 1)"),
        (FILE.encode() + b"\xff", "is not in UTF-8 (line 3)"),
    ],
)
def test_a_file_in_another_encoding_is_refused_with_the_line(path: Path, data: bytes, words: str) -> None:
    """And with how to save it."""
    assert words in refused(path, data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            b"PK\x03\x04\x14\x00\x06\x00",
            "is a spreadsheet workbook (such as .xlsx): open it in the spreadsheet and save it as CSV UTF-8.",
        ),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "is a spreadsheet workbook"),
        (BOM + BOM + FILE.encode(), "begins with two byte order marks: a program added a second one."),
        (BOM + BOM + b'{"foreign_id": "a"}', "begins with two byte order marks"),
        (
            b"sep=;\n" + FILE.replace(",", ";").encode(),
            "begins with 'sep=;', a line for Excel only: delete that line.",
        ),
        (b'"sep=,"\r\n' + FILE.encode(), "a line for Excel only: delete that line."),
        (FILE.replace("\n", "\r").encode(), "has line ends of old Macs (CR only): save it as CSV UTF-8"),
        (f"{FILE}{TEXT}\r{TEXT}\r".encode(), "has line ends of old Macs (CR only)"),
        (b'{"foreign_id": "a"}\r{"foreign_id": "b"}\r', "has line ends of old Macs (CR only)"),
    ],
)
def test_the_cause_is_named_where_a_program_wrote_something_else(path: Path, data: bytes, words: str) -> None:
    """And how the file is saved as it should be."""
    assert words in refused(path, data)


@pytest.mark.parametrize("data", [b"", BOM, b"\n", b" \r\n\t\n", BOM + b"\n"])
def test_an_empty_file_is_refused(path: Path, data: bytes) -> None:
    """Blank lines say nothing."""
    assert refused(path, data) == "payouts.csv is empty. Nothing was sent."


@pytest.mark.parametrize("end", ["", "\n", "\n\n\n", "\n,,,,\n"])
def test_a_header_without_rows_is_refused(path: Path, end: str) -> None:
    """Whoever exported it must have meant something."""
    assert refused(path, HEADER + end) == "payouts.csv has a header and no rows. Nothing was sent."


@pytest.mark.parametrize("text", ["[]", '[{"foreign_id": "a"}]', '\n  [\n{"foreign_id": "a"}\n]\n'])
def test_a_json_array_is_refused_with_advice(path: Path, text: str) -> None:
    """With the command that makes lines of it."""
    assert "is a JSON array: write one object per line (jq -c '.[]' does that)." in refused(path, text)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("currency,address,amount", "has no column foreign_id; its header is: currency, address, amount. Add one,"),
        ("Address,Tag,Currency,Amount,Note", "Add one, with a unique foreign_id of your own in every row"),
        ("Foreign ID,amount", "its header is: Foreign ID, amount. Rename 'Foreign ID' to it: it is what keeps"),
        ("what somebody wrote", "has no column foreign_id; its header is: what somebody wrote."),
        (
            f"{HEADER},Tag",
            "column 'Tag' is not a field of a withdrawal (is it tag?). Correct its name, or leave it out.",
        ),
        (HEADER.replace("currency", "curency"), "column 'curency' is not a field of a withdrawal (is it currency?)."),
        (
            f"{HEADER},colour",
            "column 'colour' is not a field of a withdrawal. Correct its name, or leave it out. The fields",
        ),
        (f"{HEADER},", "has 1 columns without a name, the last one among them: delete the empty columns to the right"),
        (
            f"{HEADER},,,",
            "has 3 columns without a name, the last one among them: delete the empty columns to the right",
        ),
        (HEADER.replace("amount", ""), "column '' is not a field of a withdrawal. Correct its name, or leave it out."),
        (f"{HEADER},tag, tag", "has two columns 'tag': leave one out."),
        (f"{HEADER},foreign_id", "has two columns 'foreign_id': leave one out."),
        ("foreign_id,amount,tag", "has no column currency, address, end_user_reference."),
        ("foreign_id,currency,address,end_user_reference", "has no column amount."),
        ("foreign_id", "has no column currency, address, end_user_reference, amount."),
        (HEADER.replace(",", "\t"), "has tabs between its columns: save it as CSV UTF-8, with commas or semicolons."),
    ],
)
def test_a_file_with_a_wrong_header_is_refused_with_advice(path: Path, header: str, words: str) -> None:
    """Before a row is read: a column that is not understood may be the one that matters."""
    assert words in refused(path, f"{header}\n{TEXT}\n")


def test_a_file_may_say_what_is_to_arrive_instead_of_what_is_to_leave(path: Path) -> None:
    """It needs one of the two amounts."""
    header = HEADER.replace("amount", "amount_to")
    [line] = lines(path, f"{header},convert_to\n{TEXT},EUR\n")
    assert requested_figure(request_of(line.fields)) == (Decimal("0.5"), "EUR")


@pytest.mark.parametrize(
    ("rows", "words", "number"),
    [
        (f'"a,BTC\n{TEXT}\n', "unexpected end of data", 3),
        (f'"a,BTC\n"b",BTC\n{TEXT}\n', "',' expected after '\"'", 3),
        (f'{TEXT}\n\n"a"a,BTC\n', "',' expected after '\"'", 4),
        (f'"{"x" * 200_000}",BTC\n', "field larger than field limit (131072)", 2),
    ],
    ids=["no end", "next quote", "after the end", "too large"],
)
@pytest.mark.parametrize("above", ["", "\n\n"])
def test_a_csv_whose_rows_cannot_be_told_apart_is_refused(
    path: Path, rows: str, words: str, number: int, above: str
) -> None:
    """A quote is missing somewhere: what follows could be read as anything."""
    result = refused(path, f"{above}{HEADER}\n{rows}")
    assert f"is not a CSV file that can be read safely: {words}" in result
    assert f" in line {number + len(above)}. Is a quote missing?" in result


# ── JSON Lines ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_json_lines_are_told_from_csv_by_their_first_line(path: Path) -> None:
    """With blank lines and a BOM, and lines counted from the top of the file."""
    row = json.dumps(ROW)
    assert lines(path, BOM + f"\n  {row}\r\n\n \n{row}".encode()) == [InputLine(2, ROW), InputLine(5, ROW)]


@pytest.mark.parametrize(
    ("written", "figure"),
    [
        ("0.10000000000000000001", Decimal("0.10000000000000000001")),
        ("1e-7", Decimal("1E-7")),
        ("1.50", Decimal("1.50")),
        ("-0.5", Decimal("-0.5")),
        ("12345678901234567890123", 12345678901234567890123),
        ('"0.1"', "0.1"),
        ("true", True),
        ("null", None),
    ],
)
@pytest.mark.parametrize("name", ["amount", "amount_to"])
def test_amounts_in_json_are_kept_to_the_last_digit(path: Path, name: str, written: str, figure: object) -> None:
    """As they were written, and of the same type."""
    [line] = lines(path, f'{{"{name}": {written}}}\n')
    assert line == InputLine(1, {name: figure})
    assert (type(line.fields[name]), str(line.fields[name])) == (type(figure), str(figure))


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.decimals(0, 10**15, places=20), st.floats(allow_nan=False, allow_infinity=False))
def test_only_amounts_are_decimals(figure: Decimal, height: float) -> None:
    """What is said of sender and receiver is sent on as it is, and JSON knows no decimals."""
    data = {"height": height, "more": [{"height": height}]}
    result = json.dumps({"foreign_id": "a", "sender_data": data, "receiver_data": [height]})
    [line] = read_lines(iter([f'{{"amount": {figure:f}, {result[1:]}']), "payouts.jsonl")
    assert line.fields == {"foreign_id": "a", "amount": figure, "sender_data": data, "receiver_data": [height]}
    assert type(line.fields["amount"]) is Decimal
    assert type(line.fields["sender_data"]["more"][0]["height"]) is float
    assert type(line.fields["receiver_data"][0]) is float


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[{"foreign_id": "a"}]', "is not a JSON object."),
        ('"a text"', "is not a JSON object."),
        ("17", "is not a JSON object."),
        ("null", "is not a JSON object."),
        (TEXT, "is not a JSON object: Expecting value: line 1 column 1 (char 0)."),
        ('{"foreign_id": "a"', "is not a JSON object: Expecting ',' delimiter"),
        ('{"foreign_id": "a"} {"foreign_id": "b"}', "is not a JSON object: Extra data"),
        ('{"foreign_id": "a\0"}', "is not a JSON object: Invalid control character"),
        ('{"foreign_id": "a", "amount": "1", "amount": "2"}', "is not a JSON object: a name appears in it twice."),
        ('{"sender_data": {"name": "Ann", "name": "Bea"}}', "is not a JSON object: a name appears in it twice."),
        (f'{{"sender_data": {DEEP}', "is not a JSON object: maximum recursion depth exceeded"),
        (f'{{"amount": {"1" * 5_000}}}', "is not a JSON object: Exceeds the limit"),
        ('{"amount": 1e9999999999999999999}', "has a number with an exponent that is too large."),
        ('{"sender_data": [1e-9999999999999999999]}', "has a number with an exponent that is too large."),
    ],
    ids=range(14),
)
def test_a_line_that_is_no_json_object_is_a_problem_of_its_row(path: Path, text: str, problem: str) -> None:
    """And the rows around it are read."""
    row = json.dumps(ROW)
    first, wrong, last = lines(path, f"{row}\n{text}\n{row}\n")
    assert (first, last) == (InputLine(1, ROW), InputLine(3, ROW))
    assert (wrong.number, wrong.fields, list(wrong.problems)) == (2, {}, ["row"])
    assert wrong.problems["row"].startswith(problem)


def test_what_is_no_field_is_left_for_the_request_to_refuse(path: Path) -> None:
    """Each row of JSON has names of its own."""
    [line] = lines(path, json.dumps({**ROW, "colour": "red"}))
    assert line == InputLine(1, {**ROW, "colour": "red"})
    with pytest.raises(ValueError, match="colour is no field of a withdrawal request"):
        request_of(line.fields)


# ── which file, and whether it stays the same ────────────────────────────────────────────────────────────────────────


def test_a_file_can_be_read_again_and_again(path: Path) -> None:
    """A reading that was broken off included."""
    path.write_text(FILE, encoding="utf-8")
    file = InputFile(path, read_lines)
    next(file.read())
    assert list(file.read()) == list(file.read()) == [InputLine(2, ROW)]
    assert (file.name, repr(file)) == ("payouts.csv", f"InputFile({str(path)!r})")


def test_a_file_that_was_changed_before_it_is_read_is_noticed(path: Path) -> None:
    """From the moment on when it was named."""
    path.write_text(FILE, encoding="utf-8")
    file = InputFile(path, read_lines)
    path.write_text(f"{FILE}\n", encoding="utf-8")
    with pytest.raises(FileChanged):
        next(file.read())


def make_nothing(path: Path) -> None:
    """Leave it missing."""


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_nothing, "cannot be read: No such file or directory. Nothing was sent."),
        (Path.mkdir, "is not a regular file. A batch reads its file twice, first to check it, then to pay it: save it"),
        (os.mkfifo, "is not a regular file. A batch reads its file twice"),
        (lambda path: path.symlink_to("/dev/null"), "is not a regular file. A batch reads its file twice"),
        (lambda path: path.symlink_to(path), "cannot be read: Too many levels of symbolic links. Nothing was sent."),
    ],
    ids=["missing", "folder", "pipe", "device", "loop"],
)
def test_what_is_no_file_is_refused(path: Path, make: Callable[[Path], None], words: str) -> None:
    """At once, without waiting for a pipe."""
    make(path)
    with pytest.raises(ConfigurationError) as caught:
        InputFile(path, read_lines)
    assert f"{path} {words}" in str(caught.value)


MANY = f"{HEADER}\n" + "".join(f"p-{one},BTC,made-up,0.5,user-1\n" for one in range(1_000))
"""More than is read from the disk at once."""


def write_over(path: Path) -> None:
    """Change an amount; the file is as long as it was."""
    path.write_text(MANY.replace("p-999,BTC,made-up,0.5", "p-999,BTC,made-up,9.5"), encoding="utf-8")


def append_row(path: Path) -> None:
    """Append a row."""
    with path.open("a", encoding="utf-8") as file:
        file.write("more,BTC,made-up,0.5,user-1\n")


def append_quote(path: Path) -> None:
    """Append the beginning of a quoted cell."""
    with path.open("a", encoding="utf-8") as file:
        file.write('"more,BTC')


def append_latin(path: Path) -> None:
    """Append what is no UTF-8."""
    with path.open("ab") as file:
        file.write(b"more,BTC,\xe9\n")


def cut(path: Path) -> None:
    """Cut it in the middle of a row."""
    os.truncate(path, len(MANY) - 15)


def clear(path: Path) -> None:
    """Leave nothing in it."""
    os.truncate(path, 0)


def replace(path: Path) -> None:
    """Put another file of the same contents in its place."""
    other = path.with_name("other")
    other.write_text(MANY, encoding="utf-8")
    other.replace(path)


def replace_with_pipe(path: Path) -> None:
    """Put a named pipe in its place."""
    path.unlink()
    os.mkfifo(path)


def replace_with_folder(path: Path) -> None:
    """Put a folder in its place."""
    path.unlink()
    path.mkdir()


def touch(path: Path) -> None:
    """Set another time."""
    os.utime(path, ns=(0, 0))


CHANGES: list[Callable[[Path], None]] = [
    write_over,
    append_row,
    append_quote,
    append_latin,
    cut,
    clear,
    replace,
    replace_with_pipe,
    replace_with_folder,
    Path.unlink,
    touch,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_two_readings_is_noticed(path: Path, change: Callable[[Path], None]) -> None:
    """And told as a change, with what to do: something may have been sent already."""
    path.write_text(MANY, encoding="utf-8")
    file = InputFile(path, read_lines)
    assert len(list(file.read())) == 1_000
    file.check()
    change(path)
    with pytest.raises(FileChanged) as caught:
        list(file.read())
    assert f"{path} changed while it was read, so nothing more of it was sent." in str(caught.value)
    assert "It continues from there and pays nothing twice." in str(caught.value)
    assert "Nothing was sent" not in str(caught.value)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_during_the_second_reading_is_noticed(path: Path, change: Callable[[Path], None]) -> None:
    """Even if the file cannot be read any more at all: its rows may be under way."""
    path.write_text(MANY, encoding="utf-8")
    file = InputFile(path, read_lines)
    list(file.read())
    rows = file.read()
    next(rows)
    change(path)
    with pytest.raises(FileChanged):
        list(rows)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_during_the_first_reading_is_noticed(path: Path, change: Callable[[Path], None]) -> None:
    """As a change, or as what is wrong with the file since."""
    path.write_text(MANY, encoding="utf-8")
    file = InputFile(path, read_lines)
    rows = file.read()
    next(rows)
    change(path)
    with pytest.raises(ConfigurationError):
        list(rows)


def test_a_change_that_hides_itself_is_noticed_by_what_the_file_says(path: Path) -> None:
    """Size, time and place are what they were, and an amount is not."""
    path.write_text(MANY, encoding="utf-8")
    was = path.stat()
    file = InputFile(path, read_lines)
    list(file.read())
    write_over(path)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    file.check()
    with pytest.raises(FileChanged):
        list(file.read())


def test_what_a_reader_leaves_unread_must_stay_the_same_too(path: Path) -> None:
    """The file is one thing, whoever reads how much of it."""
    path.write_text(MANY, encoding="utf-8")
    was = path.stat()
    file = InputFile(path, lambda texts, name: iter([InputLine(1, {"header": next(texts)})]))
    assert list(file.read()) == [InputLine(1, {"header": f"{HEADER}\n"})]
    write_over(path)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    with pytest.raises(FileChanged):
        list(file.read())


class Disk:
    """Reads the rows of a file from a disk that can fail on the way."""

    def __init__(self) -> None:
        self.is_broken = False

    def __call__(self, texts: Iterator[str], name: str) -> Iterator[InputLine]:
        for line in read_lines(texts, name):
            if self.is_broken:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            yield line


def test_a_disk_that_fails_is_told(path: Path) -> None:
    """While the file is checked nothing was sent; later, something may have been, and that is what is said."""
    path.write_text(FILE, encoding="utf-8")
    disk = Disk()
    disk.is_broken = True
    file = InputFile(path, disk)
    with pytest.raises(ConfigurationError, match=r"payouts\.csv cannot be read: Input/output error\. Nothing was sent"):
        list(file.read())
    disk.is_broken = False
    list(file.read())
    disk.is_broken = True
    with pytest.raises(FileChanged, match="so nothing more of it was sent"):
        list(file.read())


def test_a_row_shows_where_it_stands_and_cannot_be_changed() -> None:
    """What was checked is what will be paid."""
    line: Any = InputLine(2, ROW)
    assert line.problems == {}
    with pytest.raises(AttributeError):
        line.number = 3


@pytest.mark.parametrize("no_tag", [False, True])
@pytest.mark.parametrize("is_json", [False, True])
def test_an_empty_tag_is_none_on_purpose_if_that_is_said(*, no_tag: bool, is_json: bool) -> None:
    """Where the row has a place for it, and no word of its own on that; other empty cells say nothing."""
    table = f"{HEADER},tag,without_tag,convert_to\n{TEXT},,,\n{TEXT},7,,\n{TEXT},,false,\n"
    rows = csv.DictReader(io.StringIO(table))
    text = "".join(f"{json.dumps(row)}\n" for row in rows) if is_json else table
    result = list(read_lines(iter(text.splitlines(keepends=True)), "f", no_tag=no_tag))
    assert [line.fields.get("without_tag") or None for line in result] == [no_tag or None, None, "false"]


@pytest.mark.parametrize("text", [FILE, json.dumps(ROW)])
def test_a_row_without_a_place_for_a_tag_has_no_empty_tag(text: str) -> None:
    """The author of the file may not have thought of tags."""
    [line] = read_lines(iter(text.splitlines(keepends=True)), "f", no_tag=True)
    assert line.fields == ROW


def test_null_in_json_is_an_empty_tag() -> None:
    """As an empty text is."""
    [line] = read_lines(iter(['{"foreign_id": "a", "tag": null}']), "f", no_tag=True)
    assert line.fields["without_tag"] is True


@pytest.mark.parametrize("figure", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_figure_in_json_is_no_figure_here(figure: str) -> None:
    """Programs write it all the same."""
    [line] = read_lines(iter([f'{{"foreign_id": "a", "amount": {figure}}}\n']), "f.jsonl")
    assert line.problems == {"row": f"is not a JSON object: {figure} is not a number."}
