"""AlphaPo's export as a file: its columns, and what is not read for certain."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import click
import pytest

from alphapo_async.cli.alphapo_export import AlphapoExport, columns_of, columns_text
from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.reconciliation import ExportLine

HEADER = "foreign_id,amount,currency,status,txid"


def export(folder: Path, text: str | bytes, **named: str) -> AlphapoExport:
    """Return the export of a file with this text."""
    path = folder / "export.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return AlphapoExport(path, named)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_lines_are_read_with_their_numbers(tmp_path: Path, separator: str) -> None:
    """Blank lines and a byte order mark are passed over; a minus sign is dropped, and no digit is rounded."""
    figure = "0." + "1234567890" * 4
    text = f"\ufeff{HEADER}\n\na,-{figure},BTC,confirmed,bb04\nb,,,,\n".replace(",", separator)
    read = export(tmp_path, text)
    assert list(read.lines()) == [
        (3, ExportLine("a", Decimal(figure), "BTC", "confirmed", "bb04", "", "", None)),
        (4, ExportLine("b", None, "", "", "", "", "", None)),
    ]
    assert repr(read) == "AlphapoExport('export.csv')"


def test_lines_that_are_no_withdrawals_are_left_out(tmp_path: Path) -> None:
    """By their type, where the export gives one."""
    text = "Foreign ID,Amount,Currency,Status,TxID,Type,Tag\na,1,BTC,confirmed,x,deposit,\nb,1,BTC,confirmed,x,Withdrawal,7\n"
    read = export(tmp_path, text + "c,1,BTC,confirmed,x,,\n")
    assert [(line.foreign_id, line.tag) for _, line in read.lines()] == [("b", "7"), ("c", "")]
    assert read.left_out == 1
    shown = columns_text(read.columns)
    assert shown.startswith("foreign_id=Foreign ID, amount=Amount,")
    assert shown.endswith("id=, address=, tag=Tag, type=Type")


def test_columns_are_named_where_they_cannot_be_guessed(tmp_path: Path) -> None:
    """An empty name says that the export has none."""
    text = "Reference,Sum,What\nr,1.5,x\n"
    read = export(tmp_path, text, foreign_id="Reference", currency="", status="", txid="")
    assert [line.amount for _, line in read.lines()] == [Decimal("1.5")]


@pytest.mark.parametrize(
    ("text", "named", "words"),
    [
        (
            "Reference,Sum\nr,1\n",
            {},
            "can be guessed for foreign_id, currency, status, txid. Its header is: Reference, Sum",
        ),
        (
            "Reference,Sum\nr,1\n",
            {"foreign_id": "Ref"},
            "no column 'Ref'. Its header is: Reference, Sum. Name the columns",
        ),
        (HEADER, {"foreign_id": ""}, "can be guessed for foreign_id"),
        ("", {}, "--columns foreign_id=COLUMN"),
        (b"\xff\xfe", {}, "is not in UTF-8"),
        (HEADER.encode() + b"\n" + b"a,1,BTC,c,x\n" * 9_000 + b"\xff,1,BTC,c,x\n", {}, "is not in UTF-8"),
        (HEADER + '\na,1,BTC,"c,x\n', {}, "Is a quote missing?"),
        (HEADER + "\na,1,BTC,c\n", {}, "line 2: it has 4 cells, and the header has 5."),
        (HEADER + '\na,1,BTC,c,x\nb,"1,5",BTC,c,x\n', {}, "line 3: amount '1,5' is not a plain number such as 1234.5"),
        (HEADER + "\na,1e5,BTC,c,x\n", {}, "'1e5' is not a plain number"),
        (HEADER + "\na,nan,BTC,c,x\n", {}, "is not a plain number"),
        (HEADER + "\n7.35202E+17,1,BTC,c,x\n", {}, "foreign_id '7.35202E+17' is how a spreadsheet shows a long number"),
    ],
)
def test_what_cannot_be_read_for_certain_is_a_sentence(
    tmp_path: Path, text: str | bytes, named: dict[str, str], words: str
) -> None:
    """It names the line and the value, and says what to do."""
    with pytest.raises(ConfigurationError) as refused:
        list(export(tmp_path, text, **named).lines())
    assert words in str(refused.value)
    assert str(refused.value).endswith("Nothing was compared.")


def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    """Wherever it went since the command began."""
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        AlphapoExport(tmp_path / "missing.csv", {})


def test_columns_are_typed_as_pairs() -> None:
    """With fields that there are."""
    context, option = click.Context(click.Command("c")), click.Option(["--columns"])
    assert columns_of(context, option, None) == {}
    assert columns_of(context, option, "foreign_id=My Ref, txid=") == {"foreign_id": "My Ref", "txid": ""}
    for text in ("foreign_id", "what=x", "amount"):
        with pytest.raises(click.BadParameter, match="write FIELD=COLUMN"):
            columns_of(context, option, text)
