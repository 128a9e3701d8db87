"""AlphaPo's export of withdrawals: a CSV whose columns are named by the operator, or guessed from its header."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Final, TextIO

import click

from alphapo_async.cli.batch.cells import is_exact_figure, problems_of_cells
from alphapo_async.core.callbacks import is_withdrawal
from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.models import Transaction
from alphapo_async.core.reconciliation import FIELDS, NEEDED, ExportLine, find_columns
from alphapo_async.core.texts import shown

__all__ = ["AlphapoExport", "columns_of", "columns_text"]

_NOTHING: Final = "Nothing was compared."


def columns_of(_context: click.Context, _parameter: click.Parameter, text: str | None) -> dict[str, str]:
    """Return the columns that --columns names, by field; an empty name says that the export has no such column.

    Raises:
        click.BadParameter: it is no list of FIELD=COLUMN.
    """
    named: dict[str, str] = {}
    for part in (text or "").split(",") if text else []:
        field, sign, column = part.partition("=")
        if not sign or field.strip() not in FIELDS:
            raise click.BadParameter(f"write FIELD=COLUMN,… with the fields {', '.join(FIELDS)}; {part!r} is none.")
        named[field.strip()] = column.strip()
    return named


class AlphapoExport:
    """An export that is read once.

    Args:
        path: of a CSV in UTF-8, with commas, semicolons or tabs between its columns.
        named: the columns that the operator names, by field.

    Raises:
        ConfigurationError: the file cannot be read, or a column is missing.
    """

    def __init__(self, path: Path, named: Mapping[str, str]) -> None:
        self.name = path.name
        self._path = path
        self.left_out = 0
        """Lines that are no withdrawals, by their type."""
        with self._opened() as stream:
            self._separator = max(",;\t", key=self._first(stream).count)
            stream.seek(0)
            _, self._header = next(self._read(stream), (0, []))
        self.columns = self._columns(named)

    def __repr__(self) -> str:
        return f"AlphapoExport({self.name!r})"

    def _opened(self) -> TextIO:
        try:
            return self._path.open(encoding="utf-8-sig", newline="")
        except OSError as error:
            raise ConfigurationError(f"{self._path} cannot be read: {error.strerror}. {_NOTHING}") from None

    def _first(self, stream: TextIO) -> str:
        try:
            return stream.readline()
        except UnicodeDecodeError:
            raise self._encoding() from None

    def _encoding(self) -> ConfigurationError:
        return ConfigurationError(f"{self.name} is not in UTF-8: save it as CSV UTF-8. {_NOTHING}")

    def _read(self, stream: TextIO) -> Iterator[tuple[int, list[str]]]:
        """Yield the cells of each record, and the number of its last line."""
        reader = csv.reader(stream, delimiter=self._separator, strict=True)
        try:
            for cells in reader:
                yield reader.line_num, [cell.strip() for cell in cells]
        except UnicodeDecodeError:
            raise self._encoding() from None
        except csv.Error as error:
            raise self._wrong(reader.line_num, f"{error}. Is a quote missing?") from None

    def _wrong(self, number: int, problem: str) -> ConfigurationError:
        return ConfigurationError(f"{self.name}, line {number}: {problem} {_NOTHING}")

    def _columns(self, named: Mapping[str, str]) -> dict[str, str]:
        """Return the column of each field that the export has."""
        if unknown := [column for column in named.values() if column and column not in self._header]:
            raise ConfigurationError(f"{self.name} has no column {unknown[0]!r}. {self._advice()}")
        chosen = {**find_columns(self._header), **named}
        if missing := [
            field for field in NEEDED if field not in chosen or (field == "foreign_id" and not chosen[field])
        ]:
            raise ConfigurationError(
                f"{self.name}: no column can be guessed for {', '.join(missing)}. {self._advice()}"
            )
        return {field: column for field, column in chosen.items() if column}

    def _advice(self) -> str:
        return (
            f"Its header is: {', '.join(self._header)}. Name the columns, such as --columns foreign_id=COLUMN,amount=COLUMN; an empty name "
            f"(txid=) says that the export has none. {_NOTHING}"
        )

    def lines(self) -> Iterator[tuple[int, ExportLine]]:
        """Yield the withdrawals, each with the number of its line.

        Raises:
            ConfigurationError: a line cannot be read for certain.
        """
        places = {field: self._header.index(column) for field, column in self.columns.items()}
        with self._opened() as stream:
            cells = self._read(stream)
            next(cells)
            for number, line in cells:
                if not any(line):
                    continue
                if len(line) != len(self._header):
                    raise self._wrong(number, f"it has {len(line)} cells, and the header has {len(self._header)}.")
                values = {field: line[place] for field, place in places.items()}
                if is_withdrawal(Transaction(id="", type=values.pop("type", None))):
                    yield number, self._line_of(number, values)
                else:
                    self.left_out += 1

    def _line_of(self, number: int, values: dict[str, str]) -> ExportLine:
        texts = {
            field: values.get(field, "") for field in ("foreign_id", "currency", "status", "txid", "id", "address")
        }
        if problems := problems_of_cells({"foreign_id": texts["foreign_id"], "address": texts["address"]}):
            [(field, problem), *_] = problems.items()
            raise self._wrong(number, f"{field} {problem}")
        return ExportLine(amount=self._figure(number, values.get("amount", "")), tag=values.get("tag"), **texts)

    def _figure(self, number: int, cell: str) -> Decimal | None:
        """Return the figure of a cell; a minus sign says that money left the balance, and is dropped."""
        if not cell:
            return None
        if not is_exact_figure(cell):
            raise self._wrong(
                number,
                f"amount {shown(cell)} is not a plain number such as 1234.5: save the export with a decimal point and without thousands "
                "separators, or name another column with --columns amount=COLUMN.",
            )
        return Decimal(cell).copy_abs()  # abs() would round


def columns_text(columns: Mapping[str, str]) -> str:
    """Return which column is used for which field."""
    return ", ".join(f"{field}={columns.get(field, '')}" for field in FIELDS)
