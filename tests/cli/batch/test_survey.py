"""What is to be done with each row of a file, read twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

from alphapo_async.cli.batch.files import FileChanged, InputFile, read_lines
from alphapo_async.cli.batch.survey import Sifter, Survey
from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.models import WithdrawalRequest
from tests.support.indexes import new_index

HEADER = "foreign_id,currency,address,amount,amount_to,convert_to,end_user_reference"
FILE = f"""{HEADER}
a,BTC,made-up-1,0.1,,,user-1
b,BTC,made-up-2,0.25,,,user-1
a,BTC,made-up-1,0.10,,,user-1

a,BTC,made-up-1,0.2,,,user-1
c,EUR,made-up-3,,0.5,BTC,user-1
,BTC,made-up-4,-1,,,user-1
d,BTC
e,BTC,made-up-5,0.12345678901234567890,,,user-1
"""


def sifter(path: Path, text: str = FILE) -> Sifter:
    """Return the sifter of a file with this text."""
    path.write_text(text, encoding="utf-8")
    return Sifter(InputFile(path, read_lines), new_index(), "number")


async def result(sifting: Sifter) -> tuple[list[str], list[tuple[str, list[str], WithdrawalRequest | None]]]:
    """Return what is to be paid, and what is told of the rest."""
    rest: list[tuple[str, list[str], WithdrawalRequest | None]] = []
    names = [request.foreign_id async for request in sifting.to_pay(lambda *each: rest.append(each))]
    return names, rest


async def add_to(names: list[str], requests: AsyncIterator[WithdrawalRequest]) -> None:
    """Add the foreign_ids of requests to a list, as they come."""
    async for each in requests:
        names.append(each.foreign_id)  # noqa: PERF401 - those before an error count


def test_the_survey_counts_and_adds_up_what_a_file_holds(tmp_path: Path) -> None:
    """Rows to be paid by asked currency, what leaves which balance, and what is not paid at all."""
    problems, repeated = list[str](), list[str]()
    survey = sifter(tmp_path / "f.csv").survey(problems.append, repeated.append)
    assert (survey.rows, survey.invalid, survey.repeated, survey.conflict) == (8, 3, 1, 1)
    assert (len(problems), len(repeated)) == (4, 1)
    assert survey.counts == {"BTC": 3}
    assert survey.to_pay == {"BTC": Decimal("0.85")}
    assert survey.not_to_pay == {"BTC": Decimal("0.2")}
    assert survey.to_debit == {"BTC": Decimal("0.35")}
    assert survey.requested == {"BTC": Decimal("1.05")}


def test_the_survey_adds_up_conversions_by_the_other_currency(tmp_path: Path) -> None:
    """What arrives, or what is debited: whichever the sums do not show."""
    header = "foreign_id,currency,address,amount,amount_to,convert_to,end_user_reference\n"
    text = "a,USDTT,x,30.00,,BTC,u\nb,USDTT,x,1,,BTC,u\nc,USDTT,x,25,,,u\nd,EUR,x,,0.1,BTC,u\n"
    survey = sifter(tmp_path / "f.csv", header + text).survey(lambda _: None)
    assert survey.conversions("USDTT") == ["31.00 USDTT in 2 rows to BTC"]
    assert survey.conversions("BTC") == ["0.1 BTC in 1 row from EUR"]
    assert survey.conversions("EUR") == []


def test_the_columns_of_an_export_that_are_not_read_are_kept(tmp_path: Path) -> None:
    """Of the whole file; the rows are those of the same file without them."""
    text = FILE.replace("\n", ",accepted,7\n").replace(f"{HEADER},accepted,7", f"{HEADER},outcome,status", 1)
    survey = sifter(tmp_path / "f.csv", text).survey(lambda _: None)
    assert survey.left_out == ("outcome", "status")
    assert survey.to_pay == {"BTC": Decimal("0.85")}
    assert sifter(tmp_path / "g.csv").survey(lambda _: None).left_out == ()


def test_invalid_rows_are_added_up_as_far_as_they_can_be_read(tmp_path: Path) -> None:
    """By the currency that was asked for; an amount that is no plain number is counted."""
    rows = [
        "a,BTC,,0.1,,,u",
        ",BTC,x,0.25,,,u",
        "b,EUR,,,0.5,BTC,u",
        "c,BTC,x,-1,,,u",
        "d,BTC,x,1e3,,,u",
        "e,,x,1,,,u",
        "f",
    ]
    survey = sifter(tmp_path / "f.csv", "\n".join([HEADER, *rows])).survey(lambda _: None)
    assert survey.invalid == 7
    assert (survey.invalid_sums, survey.invalid_without_sum) == ({"BTC": Decimal("0.85")}, 4)


def test_rows_behind_a_line_are_not_tried(tmp_path: Path) -> None:
    """Whatever is wrong with them, except repetitions of a row with a result."""
    sifting = sifter(tmp_path / "f.csv")
    sifting.survey(lambda _: None)
    lines = [(cells[0], cells[1], int(cells[5])) for cells in sifting.not_tried(3)]
    assert [(name, line) for name, _, line in lines] == [("a", 4), ("a", 6), ("c", 7), ("", 8), ("d", 9), ("e", 10)]
    assert {outcome for _, outcome, _ in lines} == {"not_tried"}
    assert list(sifting.not_tried(10)) == []


def test_every_problem_is_told_with_its_line(tmp_path: Path) -> None:
    """Duplicates with the line of the first, wrong rows with all that is wrong; what could not be read complains of nothing else."""
    problems: list[str] = []
    sifter(tmp_path / "f.csv").survey(problems.append)
    assert problems == [
        "line 4: foreign_id 'a' is also in line 2, with the same payment: it is sent only once.",
        "line 6: foreign_id 'a' is also in line 2, with another payment: this one is not sent.",
        "line 8: foreign_id is required and must not be empty. amount '-1' is negative.",
        "line 9: row has 2 cells, and the header has 7.",
        "line 10: amount '0.12345678901234567890' would be rounded as a JSON number: pass --amount-format string.",
    ]


def test_a_row_with_a_wrong_cell_and_wrong_fields_is_told_both(tmp_path: Path) -> None:
    """As long as its cells could be told apart."""
    problems: list[str] = []
    text = f"{HEADER},allow_personal_reference\na,BTC,made-up,-1,,,u,perhaps\nb,BTC,made-up,1,,,u,perhaps\n"
    sifter(tmp_path / "f.csv", text).survey(problems.append)
    assert problems == [
        "line 2: allow_personal_reference must be true or false. amount '-1' is negative.",
        "line 3: allow_personal_reference must be true or false.",
    ]


async def test_the_second_reading_yields_each_payment_once_and_tells_the_rest(tmp_path: Path) -> None:
    """The first line of a foreign_id stands; those that say the same again are told at the end."""
    sifting = sifter(tmp_path / "f.csv")
    sifting.survey(lambda _: None)
    names, rest = await result(sifting)
    assert names == ["a", "b", "c"]
    assert [(outcome, cells[0], request is None) for outcome, cells, request in rest] == [
        ("conflict", "a", False),
        ("invalid", "", True),
        ("invalid", "d", True),
        ("invalid", "e", True),
    ]
    assert rest[0][1][4:] == [
        (
            "Line 2 asks for another payment under this foreign_id; this one was not sent. "
            "If both lines are the same payout, do nothing: line 2 counts. Only a different payout gets a foreign_id of its own."
        ),
        "6",
        "",
        "",
    ]


def test_a_row_that_says_the_same_again_is_told_what_the_first_was_told(tmp_path: Path) -> None:
    """Once the first was told anything at all."""
    index = new_index()
    path = tmp_path / "f.csv"
    path.write_text(FILE, encoding="utf-8")
    sifting = Sifter(InputFile(path, read_lines), index, "number")
    sifting.survey(lambda _: None)
    assert list(sifting.same_again()) == []
    about = "The same payment as in line 2, and not sent again: this is the outcome of that line."
    first = (
        ["a", "accepted", "7", "confirmed", "", "2", "bb04", ""],
        ["a", "not_sent", "", "", "No money moved.", "2", "", ""],
    )
    for cells in first:  # of the second nothing was sent at all
        index.tell("a", cells)
        words = f"{about} {cells[4]}".rstrip()
        assert list(sifting.same_again()) == [[*cells[:4], words, "4", *cells[6:]]]


@pytest.mark.parametrize(
    "other",
    [
        FILE.replace("b,BTC,made-up-2,0.25", "b,BTC,made-up-2,0.26"),
        FILE.replace("b,BTC,made-up-2,0.25", "z,BTC,made-up-2,0.25"),
        FILE.replace("\n\na,BTC", "\na,BTC"),
    ],
)
async def test_nothing_is_paid_that_the_survey_has_not_seen(tmp_path: Path, other: str) -> None:
    """Not even where size and time of the file are what they were."""
    path, changed = tmp_path / "f.csv", tmp_path / "g.csv"
    path.write_text(FILE, encoding="utf-8")
    index = new_index()
    Sifter(InputFile(path, read_lines), index, "number").survey(lambda _: None)
    changed.write_text(other, encoding="utf-8")
    sifting = Sifter(InputFile(changed, read_lines), index, "number")
    paid: list[str] = []
    with pytest.raises(FileChanged):
        await add_to(paid, sifting.to_pay(lambda *_: None))
    assert set(paid) <= {"a", "b", "c"}


async def test_a_file_that_grows_while_it_is_paid_is_noticed_on_the_way(tmp_path: Path) -> None:
    """Long before its end."""
    path = tmp_path / "f.csv"
    rows = "\n".join(f"p-{one},BTC,made-up,1,,,u" for one in range(5_000))
    sifting = sifter(path, f"{HEADER}\n{rows}\n")
    sifting.survey(lambda _: None)
    paying = sifting.to_pay(lambda *_: None)
    await anext(paying)
    with path.open("a", encoding="utf-8") as file:
        file.write("more,BTC,made-up,1,,,u\n")
    paid: list[str] = []
    with pytest.raises(FileChanged):
        await add_to(paid, paying)
    assert len(paid) < 1_000


def test_an_empty_survey_asks_for_nothing() -> None:
    """Nothing requested in no currency."""
    assert Survey().requested == {}


def test_rows_that_cannot_be_paid_are_rows_of_this_file_too(tmp_path: Path) -> None:
    """By whatever stands where their foreign_id should be, as the results file shows it."""
    index, path = new_index(), tmp_path / "f.csv"
    path.write_text(f"{HEADER}\na\x07,BTC,made-up,1,,,u\nb,BTC,made-up,-1,,,u\n", encoding="utf-8")
    Sifter(InputFile(path, read_lines), index, "number").survey(lambda _: None)
    assert [index.knows(name) for name in ("a\\x07", "b", "c")] == [True, True, False]


async def test_whoever_reads_a_long_file_gives_others_a_turn(tmp_path: Path) -> None:
    """Also where nothing in it is to be paid."""
    sifting = sifter(tmp_path / "f.csv", f"{HEADER}\n" + "x,BTC,made-up,-1,,,u\n" * 1_000)
    sifting.survey(lambda _: None)
    turns = 0
    reading = asyncio.ensure_future(result(sifting))
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 10


@pytest.mark.parametrize("rows", ["a,BTC,x,1.234,,,u\nb,BTC,x,{},,,u\n", "b,BTC,x,{},,,u\na,BTC,x,1.234,,,u\n"])
@pytest.mark.parametrize("cell", ["1.234,56", "0,5"])
def test_one_decimal_comma_stops_the_whole_file(tmp_path: Path, rows: str, cell: str) -> None:
    """Before anything is sent: 1.234 in another row would mean 1234."""
    text = f"{HEADER}\n{rows.format(cell)}".replace(",", ";").replace(cell.replace(",", ";"), cell)
    with pytest.raises(
        ConfigurationError, match=r"may use decimal commas .*1\.234 would then mean 1234.*Nothing was sent"
    ):
        sifter(tmp_path / "f.csv", text).survey(lambda _: None)


UNCLEAR = "a;BTC;x;1.500;;;u\nb;BTC;x;200;;;u\n"


@pytest.mark.parametrize("rows", [UNCLEAR, UNCLEAR + "c;BTC;x;20.250;;;u\n"])
def test_a_point_that_may_separate_thousands_stops_a_file_with_semicolons(tmp_path: Path, rows: str) -> None:
    """A German spreadsheet writes 1500 as 1.500, and pays a thousandth of it."""
    why = r"its points may separate thousands \(line 2: amount '1\.500'\): write .* Nothing was sent"
    with pytest.raises(ConfigurationError, match=why):
        sifter(tmp_path / "f.csv", f"{HEADER}\n".replace(",", ";") + rows).survey(lambda _: None)


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}\n{UNCLEAR}".replace(";", ","),
        f"{HEADER}\n{UNCLEAR}c;BTC;x;0.5;;;u\n".replace(",", ";"),
        f"{HEADER}\nc;BTC;x;12.25;;;u\n{UNCLEAR}".replace(",", ";"),
        f"{HEADER}\na;BTC;x;0.125;;;u\n".replace(",", ";"),
    ],
)
def test_a_decimal_point_is_taken_where_it_can_mean_nothing_else(tmp_path: Path, text: str) -> None:
    """Between commas; and where another amount has it with other than three decimals, or nothing before it."""
    found = sifter(tmp_path / "f.csv", text).survey(lambda _: None)
    assert found.invalid == 0


def test_what_a_spreadsheet_did_to_a_cell_is_told_instead_of_what_is_wrong_with_it(tmp_path: Path) -> None:
    """One problem a field, with the cell."""
    problems: list[str] = []
    text = f'{HEADER}\n7.35202E+17,BTC,x,"1,250.00",,,u\n'
    sifter(tmp_path / "f.csv", text).survey(problems.append)
    [problem] = problems
    assert problem == (
        "line 2: amount '1,250.00': write 1250.00. foreign_id '7.35202E+17' is how a spreadsheet shows a long number: "
        "format the column as text, and fill it again."
    )
