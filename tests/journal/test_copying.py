"""Copying a journal from a file to PostgreSQL: compared, and the file is never used again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from alphapo_async.core.errors import JournalError
from alphapo_async.core.evidence import Released
from alphapo_async.core.history import Entry, noted
from alphapo_async.core.models import Totals
from alphapo_async.journal import MemoryJournal
from alphapo_async.journal.copying import CopySource, CopyTarget, Kept, Register, copy_journal
from alphapo_async.journal.postgres.journal import PostgresJournal
from alphapo_async.journal.sqlite.journal import SqliteJournal
from tests.support import postgres
from tests.support.journal_suite import ACCOUNT, LOST, accepted, asked, learn, names, pay, same


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[dict[str, Any]]:
    """Yield a journal in a file and one in a database, empty."""
    file = SqliteJournal(tmp_path / "payouts.db")
    database = PostgresJournal(postgres.url(), schema=postgres.schema())
    yield {"file": file, "database": database}
    await file.aclose()
    await database.aclose()


async def fill(journal: Any, many: int = 0) -> None:
    """Write down one of everything, under two accounts, held by a worker that has gone."""
    await journal.join(ACCOUNT, "h", "worker", 50.0)
    await journal.join("another", "loopback", "gone", 40.0)
    await learn(journal, "in doubt", asked("in doubt"), LOST, now=1.0)
    await learn(journal, "corrected", asked("corrected", "2"), Released("worker", "queue"), now=2.0)
    await learn(journal, "corrected", asked("corrected", "1"), LOST, now=3.0)
    await learn(journal, "paid", asked("paid"), accepted("paid"), now=4.0)
    await learn(journal, "paid", asked("paid"), account="another", now=5.0)
    await pay(journal, *(f"many-{number}" for number in range(many)), now=6.0)
    for worker in ("worker", "gone"):
        await journal.leave(worker, 9.0)


CLOSED = r"was copied to PostgreSQL \(`alphapo journal copy`\) and closed for good\. Use the journal in PostgreSQL"


async def test_everything_arrives_and_the_file_is_closed_for_good(both: dict[str, Any]) -> None:
    """Rows, revisions, histories, hosts, and the workers whose rows are to be freed."""
    source, target = both["file"], both["database"]
    await fill(source)
    kept = {page.row.foreign_id: page for page in await source.dump(0, 9) if page.row.account == ACCOUNT}
    assert await copy_journal(source, target, 100.0) == 4
    for foreign_id in ("in doubt", "corrected", "paid"):
        assert same(await target.find(ACCOUNT, foreign_id), kept[foreign_id].row)
        assert tuple(await target.history(ACCOUNT, foreign_id)) == kept[foreign_id].entries
    assert await target.find("another", "paid") is not None
    assert await target.find_dead(100.0) == [("worker", 9.0)]
    assert names(await target.find_held("worker", 9)) == ["in doubt", "corrected", "paid"]
    await learn(target, "new", asked("new"))


async def test_every_process_that_has_the_file_open_can_use_it_no_more(both: dict[str, Any]) -> None:
    """No statement asks for that: each fails by itself, and `recorded` is None, for the row may be paid from the copy."""
    source = both["file"]
    open_before = SqliteJournal(source.path)
    await fill(source)
    assert (await open_before.find(ACCOUNT, "paid")) is not None
    await copy_journal(source, both["database"], 100.0)
    opened_later = SqliteJournal(source.path)
    for journal in (source, open_before, opened_later):
        for refused in (
            journal.join(ACCOUNT, "h", "new", 1e11),
            learn(journal, "in doubt", LOST),
            learn(journal, "new", asked("new")),
            journal.remember(ACCOUNT, "name", "text"),
            journal.swap(ACCOUNT, "name", None, "text"),
            journal.forget(ACCOUNT, "paid", lambda row: (row, ()), keeps_history=True),
            journal.raise_epoch(1.0),
            journal.equate_epochs(Entry(1.0, "unfrozen", "nothing was lost")),
            journal.find(ACCOUNT, "paid"),
            journal.totals(ACCOUNT),
        ):
            with pytest.raises(JournalError, match=CLOSED) as caught:
                await refused
            assert caught.value.recorded is None
    await open_before.aclose()
    await opened_later.aclose()


async def test_nothing_is_written_to_the_file_while_it_is_copied(both: dict[str, Any]) -> None:
    """Another process waits, and finds the file closed."""
    source = both["file"]
    await fill(source)
    other = SqliteJournal(source.path)
    assert await other.find(ACCOUNT, "new") is None
    await source.hold()
    late = asyncio.ensure_future(learn(other, "new", asked("new")))
    await asyncio.sleep(0.05)
    assert not late.done()
    await source.retire()
    with pytest.raises(JournalError, match=CLOSED):
        await late
    await other.aclose()


async def test_a_journal_of_many_pages_is_copied_whole(both: dict[str, Any]) -> None:
    """In its order."""
    await fill(both["file"], many=600)
    assert await copy_journal(both["file"], both["database"], 100.0) == 604
    assert (await both["database"].totals(ACCOUNT))["BTC"].accepted == 601


async def test_an_empty_journal_is_copied(both: dict[str, Any]) -> None:
    """With its accounts."""
    await both["file"].join(ACCOUNT, "h", "gone", 50.0)
    await both["file"].leave("gone", 9.0)
    assert await copy_journal(both["file"], both["database"], 100.0) == 0
    assert (await both["database"].register()).hosts == {ACCOUNT: "h"}


async def test_what_a_database_cannot_hold_in_a_text_is_no_difference(both: dict[str, Any]) -> None:
    """AlphaPo's words may hold a NUL; it is shown there as what cannot be shown."""
    await fill(both["file"])
    line = Entry(5.0, "callback", "does not fit: status 'a\0b'", release="1.0")
    await both["file"].update(ACCOUNT, "paid", lambda row: noted(row, [line]))
    assert await copy_journal(both["file"], both["database"], 100.0) == 4
    assert [entry.what for entry in await both["file"].history(ACCOUNT, "paid")][-1] == line.what
    assert [entry.what for entry in await both["database"].history(ACCOUNT, "paid")][-1] == line.what.replace(
        "\0", "\ufffd"
    )


async def test_a_journal_in_use_is_not_copied(both: dict[str, Any]) -> None:
    """Each living worker is named; nothing is copied, and the source goes on."""
    await both["file"].join(ACCOUNT, "h", "alive", 1e11)
    with pytest.raises(JournalError, match=r"1 worker.*alive.*stop them first") as caught:
        await copy_journal(both["file"], both["database"], 100.0)
    assert caught.value.recorded is None
    await learn(both["file"], "f", asked("f"))
    assert await both["database"].dump(0, 9) == []


async def test_nothing_is_copied_over_what_is_there(both: dict[str, Any]) -> None:
    """The target must be empty."""
    await pay(both["database"], "f")
    await fill(both["file"])
    with pytest.raises(JournalError, match="name an empty one") as caught:
        await copy_journal(both["file"], both["database"], 100.0)
    assert caught.value.recorded is None
    await learn(both["file"], "f", asked("f"))


class Careless:
    """A target that changes what it is given."""

    def __init__(self, spoil: Callable[[list[Kept]], list[Kept]], *, keeps_register: bool = True) -> None:
        self._spoil = spoil
        self._keeps_register = keeps_register
        self._register = Register({}, {}, {})
        self._kept: list[Kept] = []

    async def register(self) -> Register:
        return self._register

    async def dump(self, after: int, limit: int, *, with_history: bool = True) -> list[Kept]:
        return [kept for kept in self._kept if kept.place > after][:limit]

    async def load(self, register: Register | None, kept: list[Kept]) -> None:
        if register is not None and self._keeps_register:
            self._register = register
        self._kept.extend(self._spoil(kept))

    async def totals(self, account: str) -> dict[str, Totals]:
        return {}


def _other_row(kept: list[Kept]) -> list[Kept]:
    return [one._replace(row=replace(one.row, attempts=one.row.attempts + 1)) for one in kept]


def _other_history(kept: list[Kept]) -> list[Kept]:
    return [one._replace(entries=(*one.entries, Entry(1.0, "attempt", "in_doubt", number=9))) for one in kept]


def _without_last(kept: list[Kept]) -> list[Kept]:
    return kept[:-1]


def _other_end(kept: list[Kept]) -> list[Kept]:
    return [one._replace(row=replace(one.row, attempts=9)) if one.row.foreign_id == "many-599" else one for one in kept]


async def test_a_copy_that_differs_on_a_later_page_is_found_out(both: dict[str, Any]) -> None:
    """Every row is compared."""
    await fill(both["file"], many=600)
    with pytest.raises(JournalError, match="'many-599'"):
        await copy_journal(both["file"], Careless(_other_end), 100.0)


def _as_it_is(kept: list[Kept]) -> list[Kept]:
    return kept


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (_other_row, "'in doubt'"),
        (_other_history, "'in doubt'"),
        (_without_last, "the number of withdrawals"),
        (_as_it_is, "totals of account 'another'"),
    ],
)
async def test_a_copy_that_differs_is_found_out(
    both: dict[str, Any], spoil: Callable[[list[Kept]], list[Kept]], expected: str
) -> None:
    """And the source is as it was."""
    await fill(both["file"])
    with pytest.raises(JournalError, match=expected) as caught:
        await copy_journal(both["file"], Careless(spoil), 100.0)
    assert caught.value.recorded is None
    assert "source is unchanged: keep it, and drop the target" in str(caught.value)
    await learn(both["file"], "f", asked("f"))


async def test_accounts_workers_texts_and_epoch_are_compared_too(both: dict[str, Any]) -> None:
    """They belong to the journal as well."""
    await fill(both["file"])
    with pytest.raises(JournalError, match="what it keeps beside withdrawals"):
        await copy_journal(both["file"], Careless(_as_it_is, keeps_register=False), 100.0)


async def test_what_is_frozen_stays_frozen_in_the_copy(both: dict[str, Any]) -> None:
    """The copy is in the epoch of its journal, also after its rows were loaded: a worker must not send them."""
    await fill(both["file"])
    raised = await both["file"].raise_epoch(40.0)
    await copy_journal(both["file"], both["database"], 100.0)
    assert both["database"].epoch == raised
    assert await both["database"].count_frozen(ACCOUNT) == 2


async def test_a_copy_goes_from_a_file_to_postgresql_alone(both: dict[str, Any]) -> None:
    """Nothing else offers what it takes."""
    offers = {name: (isinstance(each, CopySource), isinstance(each, CopyTarget)) for name, each in both.items()}
    assert offers == {"file": (True, False), "database": (False, True)}
    assert not isinstance(MemoryJournal(), CopySource | CopyTarget)
