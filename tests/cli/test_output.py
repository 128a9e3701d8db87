"""The console, tables and lines."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from decimal import Decimal

import pytest
from rich.console import Console

from alphapo_async.cli.output import (
    amount,
    balance_fields,
    clean,
    counted,
    echo,
    fees_text,
    fitting_totals,
    json_text,
    make_console,
    pairs,
    requested_text,
    say,
    show_table,
    table,
    totals_reconcile,
    totals_table,
    txids_text,
    withdrawal_pairs,
)
from alphapo_async.core.models import CryptoAddress, Fee, Totals, Transaction, TransactionPart, Withdrawal, request_of

D = Decimal


def printed(shown: object) -> str:
    """Return what a console of 100 columns prints."""
    answer = io.StringIO()
    Console(file=answer, width=100, markup=False).print(shown)
    return answer.getvalue()


def test_balances_have_room_for_more_than_the_amount() -> None:
    """Each is an object."""
    assert balance_fields({"BTC": D(1)}) == {"BTC": {"amount": D(1)}}


def test_json_shows_the_fields_of_alphapo_and_no_note_of_this_library() -> None:
    """With the txids, for which AlphaPo has no field of its own."""
    place = CryptoAddress(address="a", tag="7", tag_is_given=True)
    shown = Transaction(id=7, crypto_address=place, transactions=(TransactionPart(txid="t"),), has_numbers=True)
    found = json.loads(json_text({"alphapo": shown, "withdrawal": Withdrawal(id=7, has_numbers=True)}))
    assert (found["alphapo"]["crypto_address"], found["alphapo"]["txids"]) == ({"address": "a", "tag": "7"}, ["t"])
    assert all("has_numbers" not in side for side in found.values())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("payout-17", "payout-17"),
        ("a b ü €", "a b ü €"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("two\nlines", "two\\nlines"),
        ("left\u202eright", "left\\u202eright"),
        ("half\ud800", "half\\ud800"),
    ],
)
def test_nothing_that_steers_a_terminal_is_shown_as_it_is(text: str, shown: str) -> None:
    """AlphaPo's words and foreign_ids come from outside: control characters are shown as escapes."""
    assert clean(text) == shown


@pytest.mark.parametrize(
    ("figure", "currency", "shown"),
    [(D("1E-8"), "BTC", "0.00000001 BTC"), (D("5.50"), None, "5.50"), (None, "BTC", "not known")],
)
def test_a_figure_is_shown_plainly(figure: Decimal | None, currency: str | None, shown: str) -> None:
    """No exponent, no digit lost, and no figure where none was told."""
    assert amount(figure, currency) == shown


def test_json_has_plain_figures_and_nothing_that_steers_a_terminal() -> None:
    """Structs become objects; figures are strings without an exponent."""
    result = json_text({"n": [D("1E-8")], "of": Totals(open=D(5)), "name": "\x1b\u202e"})
    assert '"0.00000001"' in result
    assert '"open": "5"' in result
    assert result.isascii()
    assert "\x1b" not in result


def test_names_and_values_are_aligned() -> None:
    """Values begin in one column."""
    assert pairs([("id", "7"), ("status", "pro\ncessing")]) == ["id:     7", "status: pro\\ncessing"]
    assert pairs([]) == []


def test_a_withdrawal_is_shown_whole() -> None:
    """What is told is shown, and what is not told says so."""
    withdrawal = Withdrawal(
        id=7, foreign_id="payout-17", status="processing", sender_amount=D("0.5"), sender_currency="BTC"
    )
    shown = dict(withdrawal_pairs(withdrawal))
    assert shown["outcome"] == "accepted"
    assert (shown["id"], shown["foreign_id"], shown["status"]) == ("7", "payout-17", "processing")
    assert (shown["sender_amount"], shown["receiver_amount"], shown["type"]) == ("0.5 BTC", "not known", "not known")


def test_a_table_takes_no_text_for_markup() -> None:
    """A foreign_id in square brackets is shown, not obeyed."""
    shown = printed(table("", ["name", "value"], [["[red]a[/red]", "\x1b[0m"]], right=True))
    assert "[red]a[/red]" in shown
    assert "\\x1b[0m" in shown


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"amount": "30.00"}, "30.00 USDTT"),
        ({"amount": "30.00", "convert_to": "BTC"}, "30.00 USDTT, paid out in BTC"),
        ({"amount_to": "0.1", "convert_to": "BTC"}, "0.1 BTC, debited in USDTT"),
    ],
)
def test_what_was_requested_names_both_currencies_of_a_conversion(fields: dict[str, str], text: str) -> None:
    """The figure stands in one of them."""
    request = request_of({"currency": "USDTT", "address": "a", "foreign_id": "f", "end_user_reference": "u", **fields})
    assert requested_text(request) == text


def test_totals_leave_out_empty_columns_only() -> None:
    """Requested is the sum of the columns behind it, so that a column may be left out only if it is zero everywhere."""
    shown = printed(
        totals_table(
            {
                "BTC": Totals(requested=D("3.5"), accepted=D("3"), not_sent=D("0.5")),
                "ETH": Totals(requested=D("1"), accepted=D("1")),
            }
        )
    )
    assert re.search("requested .* accepted .* not sent", shown)
    assert "unknown" not in shown
    assert "3.5" in shown


@pytest.mark.parametrize(
    ("sums", "is_right"),
    [
        (Totals(), True),
        (
            Totals(requested=D(6), open=D(1), accepted=D(1), failed=D(1), rejected=D(1), unknown=D(1), conflict=D(1)),
            True,
        ),
        (Totals(requested=D("1E+30") + D(0), accepted=D("1E+30"), unknown=D("1E-30")), False),
        (Totals(requested=D(1)), False),
    ],
)
def test_totals_are_added_to_the_last_decimal(sums: Totals, *, is_right: bool) -> None:
    """A digit far behind the comma is not rounded away."""
    assert totals_reconcile(sums) is is_right


class Terminal(io.StringIO):
    """Standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_pipe_is_wide_and_a_terminal_as_wide_as_it_is() -> None:
    """Values are not broken where programs read them."""
    with contextlib.redirect_stdout(io.StringIO()):
        assert make_console().width == 160
    with contextlib.redirect_stdout(Terminal()):
        assert make_console().is_terminal


@pytest.mark.parametrize(("environment", "is_red"), [({"NO_COLOR": "1"}, False), ({}, True)])
def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], *, is_red: bool) -> None:
    """With NO_COLOR even a forced terminal gets no colors."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"TERM": "xterm", "FORCE_COLOR": "1", **environment}.items():
        monkeypatch.setenv(name, value)
    printed = io.StringIO()
    make_console(printed).print("paid", style="red")
    assert ("\x1b[31m" in printed.getvalue()) is is_red


@pytest.mark.parametrize(("width", "heads"), [(120, 5), (80, 3), (60, 3)])
def test_totals_are_a_list_where_the_table_would_be_too_wide(width: int, heads: int) -> None:
    """No figure is broken at the end of a line; what is zero is left out of the list."""
    figure = Decimal("123456789012.123456789")
    totals = {"USDTT": Totals(requested=3 * figure, accepted=figure, failed=figure, unknown=figure)}
    console = Console(file=io.StringIO(), width=width)
    shown = fitting_totals(console, totals)
    assert len(shown.columns) == heads
    console.print(shown)
    assert str(figure) in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_sentence_is_broken_between_words_on_a_terminal_alone() -> None:
    """A pipe gets it in one line, with what could steer a terminal escaped."""
    answer = []
    for is_terminal in (True, False):
        file = io.StringIO()
        say(
            Console(file=file, width=20, force_terminal=is_terminal, color_system=None), "a sentence of some length\x1b"
        )
        answer.append(file.getvalue())
    assert answer == ["a sentence of some\nlength\\x1b\n", "a sentence of some length\\x1b\n"]


def test_no_word_is_broken_on_a_terminal() -> None:
    """A path or an id that is wider than the terminal stays in one piece, to be copied."""
    file = io.StringIO()
    say(Console(file=file, width=20, force_terminal=True, color_system=None), "see a-path/which-is/wider/than-20 now")
    assert file.getvalue() == "see\na-path/which-is/wider/than-20\nnow\n"


class AtTerminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


def test_a_line_is_broken_at_blanks_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """And continues with its indent; a value that is wider than the terminal has a line of its own."""
    monkeypatch.setenv("COLUMNS", "20")
    out, err = AtTerminal(), AtTerminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    echo("txid: 0000000000000000000000000")
    echo("a sentence of some length", err=True, indent="  ")
    assert (out.getvalue(), err.getvalue()) == (
        "txid:\n0000000000000000000000000\n",
        "a sentence of some\n  length\n",
    )


def table_shown(width: int, *rows: tuple[str, str]) -> str:
    """Return what is printed of the rows on a console of this width."""
    file = io.StringIO()
    show_table(Console(file=file, width=width), "Rows", ["id", "why"], rows)
    return file.getvalue()


def test_a_table_that_would_break_an_id_is_printed_row_by_row() -> None:
    """A sentence may be broken at its blanks, in a few lines."""
    assert "┃ id" in table_shown(40, ("0123456789", "it was refused, and why"))
    assert table_shown(24, ("0123456789abcdef0123456789", "refused"), ("b", "")) == (
        "Rows\n\nid:  0123456789abcdef0123456789\nwhy: refused\n\nid: b\n"
    )
    assert "┃ id" not in table_shown(30, ("0123456789", "a sentence that is far too long for so narrow a column"))


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (1, ("row",), "1 row"),
        (0, ("row",), "0 rows"),
        (1_200, ("row",), "1,200 rows"),
        (2, ("address", "addresses"), "2 addresses"),
    ],
)
def test_a_number_stands_with_its_noun(number: int, words: tuple[str, ...], text: str) -> None:
    """Singular for one."""
    assert counted(number, *words) == text


def test_a_line_is_printed_without_what_could_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard output, or standard error."""
    echo("paid\x1b")
    echo("not\npaid", err=True)
    assert capsys.readouterr() == ("paid\\x1b\n", "not\\npaid\n")


def test_txids_and_fees_are_texts() -> None:
    """Empty where AlphaPo shows none; a fee without a figure says so."""
    shown = Transaction(
        id=7,
        transactions=(TransactionPart(txid="one"), TransactionPart(), TransactionPart(txid="two")),
        fees=(Fee(type="mining", currency="ETH", amount=Decimal("0.0001")), Fee(type=None, currency=None, amount=None)),
    )
    assert (txids_text(shown), fees_text(shown)) == ("one two", "0.0001 ETH mining; not known")
    assert (txids_text(None), fees_text(None)) == ("", "")
