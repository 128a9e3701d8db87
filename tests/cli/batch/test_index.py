"""Which line came first with its foreign_id."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapo_async.cli.batch.index import Index, Later, Standing

NAMES = ("a", "A", "b", "7", "ünïcödé-№")
PAYMENTS = ("1:p", "1:q", "1:r")


@pytest.fixture
def index() -> Iterator[Index]:
    """An index of four rows: a first, the same again, another one, and another payment under a name that is taken."""
    with closing(Index()) as made:
        made.add(2, "a", "p")
        made.add(3, "a", "p")
        made.add(5, "b", "p")
        made.add(8, "a", "q")
        yield made


def test_the_first_row_of_a_name_stands_and_later_ones_are_held_against_it() -> None:
    """Whatever the later ones say, the first stays the first."""
    with closing(Index()) as index:
        assert index.add(2, "a", "p") == Standing(2, is_first=True, is_same=True)
        assert index.add(3, "a", "q") == Standing(2, is_first=False, is_same=False)
        assert index.add(4, "a", "p") == Standing(2, is_first=False, is_same=True)
        assert index.add(5, "a", "q") == Standing(2, is_first=False, is_same=False)


@pytest.mark.parametrize(
    ("line", "foreign_id", "payment", "standing"),
    [
        (2, "a", "p", Standing(2, is_first=True, is_same=True)),
        (3, "a", "p", Standing(2, is_first=False, is_same=True)),
        (5, "b", "p", Standing(5, is_first=True, is_same=True)),
        (8, "a", "q", Standing(2, is_first=False, is_same=False)),
        (2, "a", "q", None),  # its payment is another one
        (2, "b", "p", None),  # its name is another row's
        (2, "c", "p", None),  # its name is nobody's
        (3, "b", "p", None),  # a later row's line, under another name
        (3, "a", "q", None),  # a later row's line, with another payment
        (4, "a", "p", None),  # a line that was no row
        (8, "a", "r", None),  # another payment than the first's, and yet not the one that was seen
    ],
)
def test_a_row_has_its_standing_only_if_it_was_taken_in_just_so(
    index: Index, line: int, foreign_id: str, payment: str, standing: Standing | None
) -> None:
    """Line, name and payment must all be what they were; anything else means that the file is another one."""
    assert index.standing(line, foreign_id, payment) == standing


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from(NAMES), st.sampled_from(PAYMENTS)), max_size=12))
def test_an_index_knows_what_a_dictionary_would(steps: list[tuple[int, str, str]]) -> None:
    """Taking in, asking again for every line, name and payment there could be, and listing what says the same."""
    firsts: dict[str, tuple[int, str]] = {}
    rows: dict[tuple[int, str, str], Standing] = {}
    line = 1
    with closing(Index()) as index:
        for step, name, payment in steps:
            line += step
            first, known = firsts.setdefault(name, (line, payment))
            rows[line, name, payment] = Standing(first, is_first=first == line, is_same=known == payment)
            assert index.add(line, name, payment) == rows[line, name, payment]
        for asked in range(line + 2):
            for name in NAMES:
                for payment in PAYMENTS:
                    assert index.standing(asked, name, payment) == rows.get((asked, name, payment))
        assert [index.knows(name) for name in NAMES] == [name in firsts for name in NAMES]
        same = [(at, name, row.first) for (at, name, _), row in rows.items() if row.is_same and not row.is_first]
        assert [(later.line, later.foreign_id, later.first) for later in index.same_again()] == same


def test_what_was_told_of_a_row_is_told_of_those_that_say_the_same(index: Index) -> None:
    """The last that was told of it; a row in conflict is none of them, and of a row without another nothing is kept."""
    assert list(index.same_again()) == [Later(3, "a", 2, None)]
    index.tell("a", ["a", "unknown", "", "", "no answer"])
    index.tell("a", ["a", "accepted", "7", "processing", 'with "quotes",\n№'])
    index.tell("b", ["b", "accepted", "8", "", ""])
    assert list(index.same_again()) == [Later(3, "a", 2, ["a", "accepted", "7", "processing", 'with "quotes",\n№'])]


def test_a_later_row_has_the_result_of_the_first(index: Index) -> None:
    """Once that has one, and only if it requests the same payment."""
    assert [line for line in range(10) if index.has_result(line)] == []
    index.tell("a", ["a", "accepted"])
    assert [line for line in range(10) if index.has_result(line)] == [3]


def test_rows_that_say_the_same_are_listed_in_the_order_of_their_lines() -> None:
    """Whatever their names are."""
    with closing(Index()) as index:
        for line, name in enumerate(("z", "a", "m", "m", "a", "z", "a"), 2):
            index.add(line, name, "p")
        assert [(later.line, later.first) for later in index.same_again()] == [(5, 4), (6, 3), (7, 2), (8, 3)]


def test_names_are_told_apart_letter_for_letter(index: Index) -> None:
    """AlphaPo tells them apart, too."""
    assert index.knows("a")
    assert not index.knows("A")
    assert not index.knows("a ")


def test_two_indexes_know_nothing_of_each_other(index: Index) -> None:
    """Each has a file of its own."""
    with closing(Index()) as other:
        assert not other.knows("a")
    assert index.knows("a")


def test_an_index_shows_none_of_its_rows(index: Index) -> None:
    """They would be too many."""
    assert repr(index) == "Index()"


def test_rows_that_cannot_be_paid_are_known_too() -> None:
    """However often the same name comes."""
    with closing(Index()) as index:
        index.note("x")
        index.note("x")
        assert (index.knows("x"), index.knows("y")) == (True, False)


def test_the_line_of_a_row_is_found_by_its_foreign_id(index: Index) -> None:
    """Of the first row that has it; 0 if none can be paid under it."""
    index.note("never")
    assert [index.line_of(name) for name in ("a", "never", "c")] == [2, 0, 0]
