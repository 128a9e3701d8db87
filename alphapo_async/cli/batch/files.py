"""Read the rows of a file, each with the number of its line: CSV with commas or semicolons, or JSON Lines.

Problems of a row are returned with the row. Problems of the whole file are raised before a row of it is used.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import json
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

import msgspec

from alphapo_async.cli.output import counted
from alphapo_async.cli.row_fields import OUTCOME_FIELDS
from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.models import WithdrawalRequest

__all__ = ["FileChanged", "InputFile", "InputLine", "Lines", "read_csv", "read_lines"]

_BOM: Final = b"\xef\xbb\xbf"
_MARK: Final = "\ufeff"  # what is left of a second one
_WORKBOOKS: Final = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How the files of spreadsheets begin: a zip archive (.xlsx, .ods, .numbers), or Microsoft's older container (.xls)."""
_REQUIRED: Final = ("foreign_id", "currency", "address", "end_user_reference")
_AMOUNTS: Final = ("amount", "amount_to")
_FIELDS: Final = WithdrawalRequest.__struct_fields__
_LEFT_OUT: Final = frozenset(OUTCOME_FIELDS)
"""What an export has beside the fields of a request."""
_OBJECTS: Final = ("sender_data", "receiver_data")


class InputLine(msgspec.Struct, frozen=True):
    """One row of the file."""

    number: int
    """The line on which it begins, from 1."""
    fields: Mapping[str, Any]
    problems: Mapping[str, str] = {}
    """Why the row could not be read, by field."""
    left_out: tuple[str, ...] = ()
    """Columns of an export that are no fields of a request."""
    has_semicolons: bool = False
    """Semicolons separate its cells, as in files of programs that write a decimal comma."""


Lines: TypeAlias = Callable[[Iterator[str], str], Iterator[InputLine]]
"""Reads rows from the lines of a file; the file's name is for errors."""


class FileChanged(ConfigurationError):
    """The file has changed since it was first read."""


class InputFile:
    """A file that is read more than once and must not change.

    Args:
        path: of the file.
        lines: reads its rows.

    Raises:
        ConfigurationError: the path is not a regular file, or cannot be read.
    """

    def __init__(self, path: Path, lines: Lines) -> None:
        self.name = path.name
        self._path = path
        self._lines = lines
        self._digest: bytes | None = None
        try:
            self._is = _identity(path)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}. Nothing was sent.") from None
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigurationError(
                f"{path} is not a regular file. A batch reads its file twice, first to check it, then to pay it: save it as a file. "
                "Nothing was sent."
            )

    def __repr__(self) -> str:
        return f"InputFile({str(self._path)!r})"

    def read(self) -> Iterator[InputLine]:
        """Yield the rows, from the first on.

        Raises:
            ConfigurationError: the file has the wrong form.
            FileChanged: the file has changed since it was read before.
        """
        self.check()
        digest = hashlib.sha256()
        try:
            with self._path.open("rb") as stream:
                yield from self._lines(_texts(stream, self.name, digest.update), self.name)
                digest.update(stream.read())
        except (OSError, ConfigurationError) as error:
            if self._digest is not None:  # it was read whole before, and rows of it may have been sent since
                raise self.changed() from None
            if isinstance(error, OSError):
                raise ConfigurationError(f"{self._path} cannot be read: {error.strerror}. Nothing was sent.") from None
            raise
        self.check()
        if self._digest not in (None, digest.digest()):
            raise self.changed()
        self._digest = digest.digest()

    def check(self) -> None:
        """Pass if size, time and inode of the file are unchanged.

        Raises:
            FileChanged: they are not.
        """
        try:
            is_same = _identity(self._path) == self._is
        except OSError:
            is_same = False
        if not is_same:
            raise self.changed()

    def changed(self) -> FileChanged:
        """Return the error for a changed file."""
        return FileChanged(
            f"{self._path} changed while it was read, so nothing more of it was sent. What was sent is in the journal: correct the file, "
            "then run the same command again. It continues from there and pays nothing twice."
        )


def _identity(path: Path) -> tuple[int, ...]:
    is_now = path.stat()
    return is_now.st_dev, is_now.st_ino, is_now.st_size, is_now.st_mtime_ns


def _texts(stream: BinaryIO, name: str, hear: Callable[[bytes], None]) -> Iterator[str]:
    for number, line in enumerate(stream, 1):
        hear(line)
        if number == 1 and line.startswith(_WORKBOOKS):
            raise ConfigurationError(
                f"{name} is a spreadsheet workbook (such as .xlsx): open it in the spreadsheet and save it as CSV UTF-8. Nothing was sent."
            )
        try:
            yield (line.removeprefix(_BOM) if number == 1 else line).decode("utf-8")
        except UnicodeDecodeError:
            raise ConfigurationError(
                f"{name} is not in UTF-8 (line {number}): save it as UTF-8 (in Excel: CSV UTF-8). Nothing was sent."
            ) from None


# ── CSV and JSON Lines ───────────────────────────────────────────────────────────────────────────────────────────────


def read_lines(texts: Iterator[str], name: str, *, no_tag: bool = False) -> Iterator[InputLine]:
    """Yield the rows of a CSV or JSON Lines file.

    Args:
        texts: the lines.
        name: of the file.
        no_tag: an empty `tag` means that no tag is wanted, unless the row has `without_tag`.

    Raises:
        ConfigurationError: it is neither, is empty, or its header is wrong.
    """
    begin, first = _first_line(texts, name)
    rest = _prepended(first, texts)
    if first.lstrip().startswith("["):
        raise ConfigurationError(
            f"{name} is a JSON array: write one object per line (jq -c '.[]' does that). Nothing was sent."
        )
    is_json = first.lstrip().startswith("{")
    rows = _read_json(rest, begin, no_tag=no_tag) if is_json else read_csv(rest, name, begin, no_tag=no_tag)
    yield from _some(rows, name)


def _first_line(texts: Iterator[str], name: str) -> tuple[int, str]:
    """Return the number and the text of the first line that is not blank.

    Raises:
        ConfigurationError: all of them are.
    """
    for number, text in enumerate(texts, 1):
        if text.strip():
            _check_first(text, name)
            return number, text
    raise ConfigurationError(f"{name} is empty. Nothing was sent.")


def _check_first(text: str, name: str) -> None:
    """Pass unless the line is a mark of the program that wrote the file."""
    if text.startswith(_MARK):
        raise ConfigurationError(
            f"{name} begins with two byte order marks: a program added a second one. Save it as UTF-8. Nothing was sent."
        )
    if re.match(r"\s*\"?sep=", text, re.IGNORECASE):
        raise ConfigurationError(
            f"{name} begins with {text.strip()!r}, a line for Excel only: delete that line. Nothing was sent."
        )
    if "\r" in text.strip():
        raise ConfigurationError(f"{name} {_OLD_MAC}")


_OLD_MAC: Final = "has line ends of old Macs (CR only): save it as CSV UTF-8, not as CSV (Macintosh). Nothing was sent."


def _prepended(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _some(rows: Iterator[InputLine], name: str) -> Iterator[InputLine]:
    first = next(rows, None)
    if first is None:
        raise ConfigurationError(f"{name} has a header and no rows. Nothing was sent.")
    yield first
    yield from rows


def read_csv(texts: Iterator[str], name: str, begin: int = 1, *, no_tag: bool = False) -> Iterator[InputLine]:
    """Yield the rows of a CSV whose header names the fields of a request; the separator follows from the header.

    Args:
        texts: the lines, from the header on.
        name: of the file.
        begin: the line of the header.
        no_tag: an empty `tag` means that no tag is wanted, unless the row has `without_tag`.

    Raises:
        ConfigurationError: the header is wrong, or a quote is missing, so that it is not certain where rows end.
    """
    first = next(texts)
    separator = ";" if first.count(";") > first.count(",") else ","
    reader = csv.reader(_prepended(first, texts), delimiter=separator, strict=True)
    try:
        header = [cell.strip() for cell in next(reader)]
        _check_header(header, name)
        left_out = tuple(filter(_LEFT_OUT.__contains__, header))
        begins = begin + reader.line_num
        for cells in reader:
            if any(cells):
                line = _line_of(begins, header, cells, no_tag=no_tag)
                line = msgspec.structs.replace(line, has_semicolons=True) if separator == ";" else line
                yield _without_outcome(line, left_out) if left_out else line
            begins = begin + reader.line_num
    except csv.Error as error:
        if "new-line character" in str(error):
            raise ConfigurationError(f"{name} {_OLD_MAC}") from None
        raise ConfigurationError(
            f"{name} is not a CSV file that can be read safely: {error} in line {begin + reader.line_num - 1}. Is a quote missing? "
            "Nothing was sent."
        ) from None


def _check_header(header: Sequence[str], name: str) -> None:
    if header and not header[-1]:
        surplus = header.count("")
        raise ConfigurationError(
            f"{name} has {surplus} columns without a name, the last one among them: delete the empty columns to the right of the table. "
            "Nothing was sent."
        )
    if len(header) == 1 and "\t" in header[0]:
        raise ConfigurationError(
            f"{name} has tabs between its columns: save it as CSV UTF-8, with commas or semicolons. Nothing was sent."
        )
    if "foreign_id" not in header:
        alike = [column for column in header if re.sub(r"[\W_]", "", column).lower() == "foreignid"]
        advice = f"Rename {alike[0]!r} to it" if alike else "Add one, with a unique foreign_id of your own in every row"
        raise ConfigurationError(
            f"{name} has no column foreign_id; its header is: {', '.join(header)}. {advice}: it is what keeps the row from being paid "
            f"twice. The columns are: {', '.join((*_REQUIRED, 'amount'))}, and where needed others. Nothing was sent."
        )
    if unknown := [column for column in header if column not in _FIELDS and column not in _LEFT_OUT]:
        raise ConfigurationError(
            f"{name}: column {unknown[0]!r} is not a field of a withdrawal{_meant(unknown[0])}. Correct its name, or leave it out. "
            f"The fields are: {', '.join(_FIELDS)}. Nothing was sent."
        )
    if twice := [column for column in header if header.count(column) > 1]:
        raise ConfigurationError(f"{name} has two columns {twice[0]!r}: leave one out. Nothing was sent.")
    missing = [column for column in _REQUIRED if column not in header]
    missing += [] if set(_AMOUNTS) & set(header) else ["amount"]
    if missing:
        raise ConfigurationError(f"{name} has no column {', '.join(missing)}. Nothing was sent.")


def _meant(column: str) -> str:
    close = difflib.get_close_matches(column.lower(), _FIELDS, 1)
    return f" (is it {close[0]}?)" if close else ""


def _line_of(number: int, header: Sequence[str], cells: Sequence[str], *, no_tag: bool) -> InputLine:
    fields: dict[str, Any] = {name: cell for name, cell in zip(header, cells, strict=False) if cell}
    if no_tag and "tag" in header and "tag" not in fields:
        fields.setdefault("without_tag", True)
    if len(cells) != len(header):
        problem = f"has {counted(len(cells), 'cell')}, and the header has {len(header)}.{_why_too_many(header, cells)}"
        return InputLine(number, fields, {"row": problem})
    problems: dict[str, str] = {}
    for name in _OBJECTS:
        if name in fields:
            try:
                fields[name] = json.loads(fields[name], object_pairs_hook=_once)
            except (ValueError, RecursionError) as error:
                problems[name] = f"is not a JSON object: {error}."
    return InputLine(number, fields, problems)


def _without_outcome(line: InputLine, left_out: tuple[str, ...]) -> InputLine:
    """Return a line of an export with the fields of a request alone."""
    fields = {name: value for name, value in line.fields.items() if name not in _LEFT_OUT}
    return msgspec.structs.replace(line, fields=fields, left_out=left_out)


def _why_too_many(header: Sequence[str], cells: Sequence[str]) -> str:
    is_empty = len(cells) > len(header) and not any(cells[len(header) :])
    return " Those beyond it are empty: delete the empty columns to the right of the table." if is_empty else ""


def _read_json(texts: Iterator[str], begin: int, *, no_tag: bool) -> Iterator[InputLine]:
    for number, text in enumerate(texts, begin):
        if not text.strip():
            continue
        try:
            found = json.loads(text, parse_float=Decimal, parse_constant=_no_figure, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            yield InputLine(number, {}, {"row": f"is not a JSON object: {error}."})
            continue
        except InvalidOperation:
            yield InputLine(number, {}, {"row": "has a number with an exponent that is too large."})
            continue
        if not isinstance(found, dict):
            yield InputLine(number, {}, {"row": "is not a JSON object."})
            continue
        # Only amounts are numbers that must keep their digits.
        found |= {name: json.loads(text)[name] for name in _OBJECTS if name in found}
        if no_tag and found.get("tag", found) in ("", None) and found.get("without_tag") in ("", None):
            found["without_tag"] = True
        left_out = tuple(filter(_LEFT_OUT.__contains__, found))
        line = InputLine(number, found)
        yield _without_outcome(line, left_out) if left_out else line


def _no_figure(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    told = dict(pairs)
    if len(told) != len(pairs):
        raise ValueError("a name appears in it twice")
    return told
