"""The results file: what is written, what is refused, and what happens if it cannot be written."""

from __future__ import annotations

import csv
import fcntl
import io
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapo_async.cli.batch.results import (
    COLUMNS,
    ResultsError,
    ResultsFile,
    cells_of,
    invalid_cells,
    not_tried_cells,
)
from alphapo_async.cli.output import clean
from alphapo_async.core.errors import (
    AlphapoError,
    ConfigurationError,
    InvalidRequest,
    WithdrawalFailed,
    WithdrawalNotSent,
    WithdrawalRejected,
    WithdrawalUnknown,
)
from alphapo_async.core.models import Fee, Transaction, TransactionPart, Withdrawal, WithdrawalRequest
from alphapo_async.core.results import BatchResult

HEADER = "foreign_id,outcome,id,status,error,line,txids,fees\n"
ACCEPTED = ["a", "accepted", "7", "processing", "", "2"]
REQUEST = WithdrawalRequest(
    currency="BTC", address="made-up", amount="0.5", foreign_id="a", end_user_reference="user-1"
)


def is_ours(foreign_id: str) -> bool:
    """Tell whether it is one of a batch of three."""
    return foreign_id in ("a", "b", "№,7")


def read(path: Path) -> list[list[str]]:
    """Return the lines of a results file below its header."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    assert header == list(COLUMNS)
    return lines


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file grow beyond this size while the block runs, as if the disk had no room for more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# ── what is written ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_begins_with_its_header_and_holds_each_line_at_once(tmp_path: Path) -> None:
    """Whoever looks while it is being written sees whole lines."""
    path = tmp_path / "results.csv"
    with ResultsFile(path, is_ours) as results:
        results.begin()
        assert path.read_text(encoding="utf-8") == HEADER
        results.write(ACCEPTED)
        assert path.read_text(encoding="utf-8") == HEADER + "a,accepted,7,processing,,2\n"
        results.finish()
    assert read(path) == [ACCEPTED]
    assert repr(results) == f"ResultsFile({str(path)!r})"


@settings(derandomize=True, deadline=None, max_examples=60)
@given(lines=st.lists(st.lists(st.text(st.characters()), min_size=5, max_size=5), max_size=4))
def test_every_row_is_one_line_whatever_its_cells_hold(
    tmp_path_factory: pytest.TempPathFactory, lines: list[list[str]]
) -> None:
    """Newlines, quotes and characters that could steer a terminal are shown, not written."""
    path = tmp_path_factory.mktemp("results") / "results.csv"
    with ResultsFile(path, is_ours) as results:
        results.begin()
        for line in lines:
            results.write(line)
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) == text.count("\n") == 1 + len(lines)
    assert read(path) == [[clean(cell) for cell in line] for line in lines]


def test_an_error_with_newlines_stays_on_its_line(tmp_path: Path) -> None:
    """So that lines can be counted and cut by any program."""
    path = tmp_path / "results.csv"
    with ResultsFile(path, is_ours) as results:
        results.begin()
        results.write(["a", "rejected", "", "", "first\r\nsecond\x1b[2J, third", "2"])
    assert path.read_text(encoding="utf-8") == HEADER + 'a,rejected,,,"first\\r\\nsecond\\x1b[2J, third",2\n'


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    """It says who was paid."""
    path = tmp_path / "results.csv"
    with ResultsFile(path, is_ours):
        assert path.stat().st_mode & 0o777 == 0o600


def test_the_file_is_written_anew_each_time(tmp_path: Path) -> None:
    """Nothing of a longer run before is left."""
    path = tmp_path / "results.csv"
    with ResultsFile(path, is_ours) as results:
        results.begin()
        for _ in range(3):
            results.write(ACCEPTED)
    with ResultsFile(path, is_ours) as results:
        results.begin()
        assert read(path) == []
        results.write(["№,7", "unknown", "", "", "", "2"])
    assert read(path) == [["№,7", "unknown", "", "", "", "2"]]


# ── which file is taken ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEADER,
        HEADER + "a,accepted,7,processing,,2,,\nb,rejected,,,no,3,,\n",
        HEADER + "x,invalid,,,amount is negative.,2,,\nb,rejected,,,no,3,,\n,invalid,,,what?,3,,\n",
        HEADER + "x,invalid,,,amount is negative.,2,,\na,invalid,,,what?,3,,\n",
        HEADER + ",invalid,,,what?,3,,\n",
        HEADER + "a,accepted,7,processing,,2,,\nx,accepted,7,proc",
    ],
)
def test_results_of_the_same_batch_are_written_over(tmp_path: Path, text: str) -> None:
    """Of this batch are its own foreign_ids, whatever was invalid beside them, and a last line that was cut; until it begins they stay."""
    path = tmp_path / "results.csv"
    path.write_text(text, encoding="utf-8")
    with ResultsFile(path, is_ours) as results:
        assert path.read_text(encoding="utf-8") == text
        results.begin()
    assert path.read_text(encoding="utf-8") == HEADER


def test_a_last_line_may_have_been_cut_anywhere(tmp_path: Path) -> None:
    """Within a quoted cell or a character, too."""
    path = tmp_path / "results.csv"
    with ResultsFile(path, is_ours) as results:
        results.begin()
        results.write(ACCEPTED)
        results.write(["№,7", "rejected", "8", "", 'said "no, ünd"', "2"])
    whole = path.read_bytes()
    for end in range(len(HEADER), len(whole)):
        path.write_bytes(whole[:end])
        with ResultsFile(path, is_ours):
            pass


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            HEADER.encode() + b"a,accepted,7,,,2,,\nx,accepted,8,,,3,,\n",
            "holds the result of foreign_id 'x', which the rows to be paid do not have",
        ),
        (
            HEADER.encode() + b",accepted,8,,,2,,\n",
            "holds the result of foreign_id '', which the rows to be paid do not have",
        ),
        (b"foreign_id,currency,address,amount,end_user_reference\na,BTC,made-up,1,u\n", "is not a results file"),
        (
            HEADER.encode() + b",invalid,,,,2,,\nx,invalid,,,,3,,\ny,invalid,,,,4,,\n",
            "the result of foreign_id 'x'",
        ),
        (b"what somebody wrote\n", "is not a results file"),
        (b"\n", "is not a results file"),
        (b"\0\xff\xfe\x00binary", "is not a results file"),
        (b"one line\rand another\r", "is not a results file"),
        (HEADER.encode() + b"x" * 200_000, "is not a results file"),
        (b"x" * 200_000, "is not a results file"),
    ],
)
def test_a_file_that_is_not_this_batch_s_results_is_refused_and_left_as_it_is(
    tmp_path: Path, data: bytes, words: str
) -> None:
    """Nothing that somebody may need is written over."""
    path = tmp_path / "results.csv"
    path.write_bytes(data)
    with pytest.raises(ConfigurationError) as caught:
        ResultsFile(path, is_ours)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert "would be overwritten" in str(caught.value)
    assert str(caught.value).endswith("name another file with --results. Nothing was sent.")
    assert path.read_bytes() == data


def test_a_row_that_was_taken_out_because_its_funds_were_released_is_not_to_be_put_back(tmp_path: Path) -> None:
    """The report of the run before advises to take it out: put back, it would be paid."""
    path = tmp_path / "results.csv"
    path.write_text(f"{HEADER}a,accepted,7,processing,,2,,\nx,not_sent,,,,3,,\n", encoding="utf-8")
    with pytest.raises(
        ConfigurationError, match="because its funds were released, leave it out, and move these results away"
    ):
        ResultsFile(path, is_ours)


def test_a_file_that_was_refused_is_let_go_of(tmp_path: Path) -> None:
    """Whoever it belongs to can take it at once."""
    path = tmp_path / "results.csv"
    path.write_text(f"{HEADER}x,accepted,8,,,2,,\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="another batch"):
        ResultsFile(path, is_ours)
    with ResultsFile(path, "x".__eq__):
        pass


def test_two_cannot_write_one_file(tmp_path: Path) -> None:
    """The second one is refused, the first goes on, and once it has ended the next one may."""
    path = tmp_path / "results.csv"
    with ResultsFile(path, is_ours) as results:
        results.begin()
        results.write(ACCEPTED)
        with pytest.raises(ConfigurationError, match=r"Another process is writing .*results\.csv: wait for it"):
            ResultsFile(path, is_ours)
        results.write(ACCEPTED)
    assert read(path) == [ACCEPTED, ACCEPTED]
    with ResultsFile(path, is_ours):
        pass


def test_a_lock_of_anybody_else_counts(tmp_path: Path) -> None:
    """And nothing of the file is touched."""
    path = tmp_path / "results.csv"
    path.write_text(HEADER, encoding="utf-8")
    with path.open(encoding="utf-8") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        with pytest.raises(ConfigurationError, match="Another process is writing"):
            ResultsFile(path, is_ours)
    assert path.read_text(encoding="utf-8") == HEADER


def make_nothing(path: Path) -> None:
    """Leave out the folder that it should be in."""


def make_folder(path: Path) -> None:
    """Put a folder in its place."""
    path.mkdir(parents=True)


def make_pipe(path: Path) -> None:
    """Put a named pipe in its place."""
    path.parent.mkdir()
    os.mkfifo(path)


def make_device(path: Path) -> None:
    """Put a link to a device in its place, of which reading has no end."""
    path.parent.mkdir()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_nothing, "cannot be written: No such file or directory."),
        (make_folder, "cannot be written: Is a directory."),
        (make_pipe, "is not a regular file: name another one with --results."),
        (make_device, "is not a regular file: name another one with --results."),
    ],
)
def test_what_cannot_be_a_results_file_is_refused(tmp_path: Path, make: Callable[[Path], None], words: str) -> None:
    """At once, without waiting for a pipe or reading a device."""
    path = tmp_path / "folder" / "results.csv"
    make(path)
    with pytest.raises(ConfigurationError) as caught:
        ResultsFile(path, is_ours)
    assert str(caught.value) == f"The results file {path} {words} Nothing was sent."


# ── a file that cannot be written any more ───────────────────────────────────────────────────────────────────────────


def test_a_disk_that_is_full_from_the_start_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    """As any other file that cannot be written; half a header is not left."""
    path = tmp_path / "results.csv"
    with ResultsFile(path, is_ours) as results:
        with room_for(10), pytest.raises(ConfigurationError, match=r"its disk is full\. Nothing was sent"):
            results.begin()
        assert path.read_bytes() == b""
        results.begin()


@pytest.mark.parametrize(("room", "why"), [(0, "File too large"), (1, "its disk is full"), (24, "its disk is full")])
def test_a_line_is_written_whole_or_not_at_all(tmp_path: Path, room: int, why: str) -> None:
    """If the disk has no room for all of it, the file ends with the line before; once it has, writing goes on."""
    path = tmp_path / "results.csv"
    with ResultsFile(path, is_ours) as results:
        results.begin()
        results.write(ACCEPTED)
        with room_for(path.stat().st_size + room), pytest.raises(ResultsError) as caught:
            results.write(ACCEPTED)
        assert f"{path} cannot be written ({why}), so no more rows were taken." in str(caught.value)
        assert "It continues from there and pays nothing twice." in str(caught.value)
        assert read(path) == [ACCEPTED]
        results.write(["b", "accepted", "8", "", "", "3"])
    assert read(path) == [ACCEPTED, ["b", "accepted", "8", "", "", "3"]]


@pytest.mark.parametrize("use", [lambda results: results.write(ACCEPTED), ResultsFile.finish])
def test_a_file_that_was_closed_cannot_be_written(tmp_path: Path, use: Callable[[ResultsFile], None]) -> None:
    """Neither a line nor to the disk, and the error says what to do."""
    with ResultsFile(tmp_path / "results.csv", is_ours) as results:
        pass
    with pytest.raises(ResultsError, match=r"cannot be written \(Bad file descriptor\), so no more rows were taken"):
        use(results)


def test_a_device_that_takes_nothing_is_a_disk_that_is_full(tmp_path: Path) -> None:
    """The words are the system's."""
    with ResultsFile(tmp_path / "results.csv", is_ours) as results, Path("/dev/full").open("wb") as full:
        os.dup2(full.fileno(), results._file)
        with pytest.raises(ResultsError, match="No space left on device"):
            results.write(ACCEPTED)


# ── the cells ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("known", "error", "cells"),
    [
        (Withdrawal(id=7, status="processing"), None, ["a", "accepted", "7", "processing", ""]),
        (Withdrawal(id="7-x"), None, ["a", "accepted", "7-x", "", ""]),
        (Withdrawal(id=0), None, ["a", "accepted", "0", "", ""]),
        (Withdrawal(id=None), None, ["a", "accepted", "", "", ""]),
        (None, None, ["a", "accepted", "", "", ""]),
        (
            None,
            WithdrawalRejected("No.", errors={}),
            [
                "a",
                "rejected",
                "",
                "",
                "No. Correct the row, or release the funds; --retry-rejected sends it again as it is.",
            ],
        ),
        (
            None,
            InvalidRequest({"amount": "is negative.", "tag": "is missing."}),
            ["a", "invalid", "", "", "amount is negative. tag is missing."],
        ),
        (None, AlphapoError("Why?"), ["a", "invalid", "", "", "Why?"]),
    ],
)
def test_a_row_that_was_tried_says_what_became_of_it(
    known: Withdrawal | None, error: AlphapoError | None, cells: list[str]
) -> None:
    """What AlphaPo has, or the error in its words; of a wrong request only what is wrong."""
    assert cells_of(BatchResult(index=0, request=REQUEST, withdrawal=known, error=error), 5) == [*cells, "5", "", ""]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (WithdrawalNotSent("It never arrived.", reason="outage"), "Stopped before it was sent. No money moved."),
        (WithdrawalNotSent("It never arrived.", reason="expired"), "It never arrived."),
        (WithdrawalUnknown("It is under way.", reason="closing"), "It is under way."),
    ],
)
def test_a_row_that_the_end_of_the_run_stopped_has_no_reason_of_its_own(error: AlphapoError, words: str) -> None:
    """The report gives the reason once; every other row keeps its own."""
    assert cells_of(BatchResult(index=0, request=REQUEST, withdrawal=None, error=error), 5, is_stopped=True)[
        4
    ].startswith(words)
    assert cells_of(BatchResult(index=0, request=REQUEST, withdrawal=None, error=error), 5)[4].startswith("It ")


def test_a_row_that_was_not_reached_is_not_tried() -> None:
    """Its line says so, and belongs to the batch."""
    cells = not_tried_cells(7, "a")
    assert (cells[0], cells[1], cells[5], len(cells)) == ("a", "not_tried", "7", len(COLUMNS))
    assert cells[4].startswith("Not tried: the run ended before this row.")


def test_a_row_that_was_not_tried_may_be_corrected(tmp_path: Path) -> None:
    """The next run overwrites its results although the old foreign_id is gone."""
    path = tmp_path / "results.csv"
    path.write_text(f"{HEADER}a,accepted,7,,,2,,\nold,not_tried,,,Not tried,3,,\n", encoding="utf-8")
    with ResultsFile(path, is_ours):
        pass


def test_what_alphapo_shows_fills_id_status_txid_and_fees() -> None:
    """Also of a row that it has ended."""
    fees = (
        Fee(type="mining", currency="BTC", amount=Decimal("0.0001")),
        Fee(type="withdrawal", currency="EUR", amount=Decimal("1.50")),
        Fee(type=None, currency="X", amount=None),
    )
    shown = Transaction(
        id=7, status="cancelled", fees=fees, transactions=(TransactionPart(txid="one"), TransactionPart(txid="two"))
    )
    failed = WithdrawalFailed("It ended.", transaction=shown)
    cells = cells_of(BatchResult(index=0, request=REQUEST, withdrawal=None, error=failed), 5, shown)
    assert cells[:4] == ["a", "failed", "7", "cancelled"]
    assert cells[5:] == ["5", "one two", "0.0001 BTC mining; 1.50 EUR withdrawal; not known"]


@pytest.mark.parametrize(("foreign_id", "text"), [("a", "a"), ("", ""), (7, "7"), (None, ""), (["x"], "['x']")])
def test_a_row_that_was_never_tried_says_its_line_and_every_problem(foreign_id: object, text: str) -> None:
    """Under the text that stands in place of the foreign_id; null is no foreign_id."""
    problems = {"amount": "is negative.", "address": "is required."}
    assert invalid_cells(12, foreign_id, problems) == [
        text,
        "invalid",
        "",
        "",
        "amount is negative. address is required.",
        "12",
        "",
        "",
    ]


def test_the_cells_fit_the_columns(tmp_path: Path) -> None:
    """Both kinds of lines, as the file is read by others."""
    path = tmp_path / "results.csv"
    with ResultsFile(path, is_ours) as results:
        results.begin()
        results.write(cells_of(BatchResult(index=0, request=REQUEST, withdrawal=Withdrawal(id=7), error=None), 2))
        results.write(invalid_cells(3, "b", {"row": "is not a JSON object."}))
    result = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert [tuple(line) for line in result] == [COLUMNS, COLUMNS]
    assert [(line["error"], line["line"]) for line in result] == [("", "2"), ("row is not a JSON object.", "3")]


@pytest.mark.parametrize(
    "left", ["", "f", "foreign_id,outcome,id,sta", "foreign_id,outcome,id,status,error,line,txids,fees"]
)
def test_a_header_that_was_cut_by_a_crash_is_no_other_file(tmp_path: Path, left: str) -> None:
    """It is written anew."""
    path = tmp_path / "results.csv"
    path.write_text(left, encoding="utf-8")
    with ResultsFile(path, lambda _: False) as results:
        results.begin()
    assert path.read_text(encoding="utf-8") == "foreign_id,outcome,id,status,error,line,txids,fees\n"


@pytest.mark.parametrize("left", ["foreign_id\n", "foreign_id\na\n", "foreign_id,outcome\n"])
def test_a_list_that_begins_alike_is_another_file(tmp_path: Path, left: str) -> None:
    """And stays what it is."""
    path = tmp_path / "results.csv"
    path.write_text(left, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="is not a results file"):
        ResultsFile(path, lambda _: True)
    assert path.read_text(encoding="utf-8") == left


def test_what_is_wrong_is_told_at_a_length_that_can_be_read_again(tmp_path: Path) -> None:
    """However long a wrong cell is, the next run takes the file for its own."""
    path = tmp_path / "results.csv"
    with ResultsFile(path, lambda _: False) as results:
        results.begin()
        results.write(invalid_cells(7, "x" * 200_000, {"row": "y" * 200_000}))
    with pytest.raises(ConfigurationError, match=r"foreign_id 'x{100}', which"):
        ResultsFile(path, lambda _: False)


def test_a_run_that_never_begins_leaves_no_file_and_changes_none(tmp_path: Path) -> None:
    """Whatever kept it from beginning."""
    path = tmp_path / "results.csv"
    with ResultsFile(path, is_ours):
        assert path.exists()
    assert not path.exists()
    path.touch()
    with ResultsFile(path, is_ours):
        pass
    assert path.exists()


def test_a_file_that_cannot_be_closed_ends_nothing(tmp_path: Path) -> None:
    """What was written is on the disk since `finish`, and the rows have been paid."""
    with ResultsFile(tmp_path / "results.csv", is_ours) as results:
        results.begin()
        results.finish()
        os.close(results._file)


def test_a_file_that_another_run_removes_before_the_lock_is_not_written(tmp_path: Path) -> None:
    """A dry run removes the file that it made: a run that opened it meanwhile would write its results where no path leads."""
    path = tmp_path / "results.csv"
    path.write_text(f"{HEADER}a,accepted,7,processing,,2,,\n", encoding="utf-8")

    def removes_it(_: str) -> bool:
        path.unlink(missing_ok=True)
        return True

    with pytest.raises(ConfigurationError, match="run the same command again"):
        ResultsFile(path, removes_it)


def test_a_file_that_another_run_writes_before_the_lock_is_not_removed(tmp_path: Path) -> None:
    """It was made by a run that never began, and holds the results of a whole run since."""
    path = tmp_path / "results.csv"
    with ResultsFile(path, is_ours):
        path.write_text(HEADER, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == HEADER
