"""Decide what to do with each row of a file. The file is read twice: first to check it, then to pay it.

The first reading finds problems of the whole file before anything is sent, and the first line of each foreign_id. The second reading yields
the rows to pay, and no row that the first reading has not seen.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from decimal import Decimal, localcontext
from typing import Final

import msgspec

from alphapo_async.cli.batch.cells import decimal_comma, point_means, problems_of_cells
from alphapo_async.cli.batch.files import InputFile, InputLine
from alphapo_async.cli.batch.index import Index
from alphapo_async.cli.batch.results import invalid_cells, not_tried_cells
from alphapo_async.cli.messages import row_problem
from alphapo_async.cli.output import amount, clean, counted
from alphapo_async.core.codec import AmountFormat, digest, encode_body
from alphapo_async.core.errors import ConfigurationError, InvalidRequest
from alphapo_async.core.models import WithdrawalRequest, has_conversion, is_on_xrp_ledger, request_of, requested_figure
from alphapo_async.core.texts import shown

__all__ = ["EXACT", "Sifter", "Survey", "Tell"]

EXACT: Final = 1_000
"""Digits of sums: more than any amount has."""
_CHECK_EVERY: Final = 1_000  # rows
_IN_ONE_GO: Final = 100
"""Rows that are read before other tasks and signals get a turn."""

_NONE: Final = Decimal(0)
_PLAIN: Final = re.compile(r"\d{1,40}(\.\d{1,40})?", re.ASCII)
_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,20}", re.ASCII)

Tell = Callable[[str, list[str], WithdrawalRequest | None], None]
"""Called with outcome, results line and request of a row that is reported without being tried."""


class Survey(msgspec.Struct):
    """The counts and sums of a file."""

    rows: int = 0
    invalid: int = 0
    repeated: int = 0
    """Rows that ask for the same payment as an earlier one; sent once."""
    conflict: int = 0
    """Rows that ask for another payment under the foreign_id of an earlier one; not sent."""
    invalid_sums: dict[str, Decimal] = {}
    """By the currency in the cell: the sum of the invalid rows whose currency and amount can be read."""
    invalid_without_sum: int = 0
    """Invalid rows whose currency or amount cannot be read."""
    to_pay: dict[str, Decimal] = {}
    """By asked currency: the sum of the rows to pay."""
    not_to_pay: dict[str, Decimal] = {}
    """By asked currency: the sum of the rows in conflict."""
    to_debit: dict[str, Decimal] = {}
    """By debited currency: the sum of the rows to pay that have `amount`."""
    converted: dict[tuple[str, str], tuple[Decimal, int]] = {}
    """By asked currency, and where to or where from, such as `to BTC`: sum and number of the rows to pay with a conversion."""
    counts: Counter[str] = msgspec.field(default_factory=Counter)
    """Rows to pay, by asked currency."""
    without_tag: int = 0
    """Rows to pay on the XRP Ledger without a tag, on purpose."""
    left_out: tuple[str, ...] = ()
    """Columns of an export, which are no fields of a request."""

    def take(self, request: WithdrawalRequest) -> None:
        """Count a row to pay."""
        figure, currency = requested_figure(request)
        with localcontext(prec=EXACT):
            self.counts[currency] += 1
            self.without_tag += is_on_xrp_ledger(request) and request.without_tag
            _add(self.to_pay, currency, figure)
            self._take_conversion(request, currency, figure)
            if request.amount is not None:
                _add(self.to_debit, request.currency, figure)

    def _take_conversion(self, request: WithdrawalRequest, currency: str, figure: Decimal) -> None:
        if has_conversion(request):
            way = f"to {request.convert_to}" if request.amount is not None else f"from {request.currency}"
            total, count = self.converted.get((currency, way), (_NONE, 0))
            self.converted[currency, way] = total + figure, count + 1

    def conversions(self, currency: str) -> list[str]:
        """Return sum and number of the rows to pay in an asked currency, by the other currency of their conversion, as text."""
        found = [(way, *sums) for (asked, way), sums in self.converted.items() if asked == currency]
        return [f"{amount(total, currency)} in {counted(count, 'row')} {way}" for way, total, count in found]

    def take_invalid(self, fields: Mapping[str, object]) -> None:
        """Count an invalid row, and its amount where that can be read."""
        self.invalid += 1
        named = ("amount_to", "convert_to") if fields.get("amount_to") else ("amount", "currency")
        figure, currency = (str(fields.get(name) or "") for name in named)
        if not (_PLAIN.fullmatch(figure) and _CODE.fullmatch(currency)):
            self.invalid_without_sum += 1
            return
        with localcontext(prec=EXACT):
            _add(self.invalid_sums, currency, Decimal(figure))

    @property
    def requested(self) -> dict[str, Decimal]:
        """By asked currency: the sum of all rows except invalid ones and repetitions of an earlier row."""
        names = dict.fromkeys((*self.to_pay, *self.not_to_pay))
        with localcontext(prec=EXACT):
            return {name: self.to_pay.get(name, _NONE) + self.not_to_pay.get(name, _NONE) for name in names}


class _Points:
    """What the points in the amounts of a file with semicolons mean: German programs write 1500 as `1.500`, and separate cells so."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._unclear = ""
        self._are_decimal = False

    def take(self, line: InputLine) -> None:
        """Look at the amounts of a row."""
        found = point_means(line.fields) if line.has_semicolons else None
        if found is True:
            self._are_decimal = True
        elif found and not self._unclear:
            self._unclear = f"line {line.number}: {found[0]} {shown(found[1])}"

    def check(self) -> None:
        """Pass if an amount shows that a point is a decimal point, or none could mean anything else.

        Raises:
            ConfigurationError: it may separate thousands.
        """
        if self._unclear and not self._are_decimal:
            raise ConfigurationError(
                f"{self._name} separates cells by semicolons, and its points may separate thousands ({self._unclear}): write such numbers "
                "without a point, or with fewer or more than three decimals, or separate the cells by commas. Nothing was sent."
            )


class Sifter:
    """Reads one file.

    Args:
        file: the input.
        index: the first line of each foreign_id; filled by the first reading.
        amount_format: every amount must be exact in this format.
    """

    def __init__(self, file: InputFile, index: Index, amount_format: AmountFormat) -> None:
        self._file = file
        self._index = index
        self._amount_format: AmountFormat = amount_format

    def survey(self, on_problem: Callable[[str], None], on_repeated: Callable[[str], None] | None = None) -> Survey:
        """Read the whole file, and return its counts and sums.

        Args:
            on_problem: called with a sentence for every row that will not be paid.
            on_repeated: called instead for a row that repeats an earlier one, which loses nothing by that.

        Raises:
            ConfigurationError: it is in the wrong form.
        """
        survey, points = Survey(), _Points(self._file.name)
        with localcontext(prec=EXACT):
            for line in self._file.read():
                survey.rows += 1
                survey.left_out = line.left_out or survey.left_out
                self._check_commas(line)
                points.take(line)
                self._count(survey, line, on_problem, on_repeated or on_problem)
        points.check()
        return survey

    def _check_commas(self, line: InputLine) -> None:
        if (found := decimal_comma(line.fields)) is not None:
            name, cell = found
            raise ConfigurationError(
                f"{self._file.name} may use decimal commas (line {line.number}: {name} {shown(cell)}), and 1.234 would then mean 1234: "
                "write every number with a decimal point and no thousands separators. Nothing was sent."
            )

    def _count(
        self, survey: Survey, line: InputLine, on_problem: Callable[[str], None], on_repeated: Callable[[str], None]
    ) -> None:
        request = self._checked(line)
        if isinstance(request, dict):
            survey.take_invalid(line.fields)
            cells = invalid_cells(line.number, line.fields.get("foreign_id", ""), request)
            self._index.note(clean(cells[0]))
            on_problem(f"line {line.number}: {cells[4]}")
            return
        standing = self._index.add(line.number, request.foreign_id, digest(request))
        about = f"line {line.number}: foreign_id {request.foreign_id!r} is also in line {standing.first}, "
        if not standing.is_first and standing.is_same:
            survey.repeated += 1
            on_repeated(f"{about}with the same payment: it is sent only once.")
            return
        figure, currency = requested_figure(request)
        if not standing.is_first:
            survey.conflict += 1
            _add(survey.not_to_pay, currency, figure)
            on_problem(f"{about}with another payment: this one is not sent.")
            return
        survey.take(request)

    async def to_pay(self, tell: Tell) -> AsyncGenerator[WithdrawalRequest, None]:
        """Yield the rows to pay, in order, and report the rows that are not paid.

        Raises:
            FileChanged: the file has changed since the first reading.
        """
        for place, line in enumerate(self._file.read()):
            if place % _CHECK_EVERY == 0:
                self._file.check()
            if place % _IN_ONE_GO == 0:
                await asyncio.sleep(0)
            request = self._checked(line)
            if isinstance(request, dict):
                tell("invalid", invalid_cells(line.number, line.fields.get("foreign_id", ""), request), None)
                continue
            standing = self._index.standing(line.number, request.foreign_id, digest(request))
            if standing is None:
                raise self._file.changed()
            if standing.is_first:
                yield request
            elif not standing.is_same:
                why = (
                    f"Line {standing.first} asks for another payment under this foreign_id; this one was not sent. "
                    f"If both lines are the same payout, do nothing: line {standing.first} counts. Only a different payout gets a "
                    "foreign_id of its own."
                )
                tell("conflict", [request.foreign_id, "conflict", "", "", why, str(line.number), "", ""], request)

    def not_tried(self, after: int) -> Iterator[list[str]]:
        """Yield the results lines of the rows behind a line, except repetitions of a row with a result.

        Raises:
            FileChanged: the file has changed since the first reading.
        """
        for line in self._file.read():
            if line.number > after and not self._index.has_result(line.number):
                yield not_tried_cells(line.number, line.fields.get("foreign_id", ""))

    def same_again(self) -> Iterator[list[str]]:
        """Yield the results lines of rows that repeat an earlier row."""
        for later in self._index.same_again():
            if later.cells is not None:
                about = (
                    f"The same payment as in line {later.first}, and not sent again: this is the outcome of that line."
                )
                error, _, *shown = later.cells[4:]
                yield [*later.cells[:4], f"{about} {error}".rstrip(), str(later.line), *shown]

    def _checked(self, line: InputLine) -> WithdrawalRequest | dict[str, str]:
        """Return the request of a row, or every problem with it; problems made by a spreadsheet replace other problems of the same cell."""
        problems = {**problems_of_cells(line.fields), **line.problems}
        try:
            request = request_of(line.fields)
            encode_body(request, self._amount_format)
        except InvalidRequest as error:
            # A row that could not be read misses fields for that reason alone.
            found = {field: row_problem(text) for field, text in error.problems.items()}
            return problems if "row" in problems else {**found, **problems}
        return problems or request


def _add(sums: dict[str, Decimal], currency: str, figure: Decimal) -> None:
    sums[currency] = sums.get(currency, _NONE) + figure
