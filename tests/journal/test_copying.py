"""Moving a journal: between a file and a database, compared, and never into use twice."""

from __future__ import annotations

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
from alphapo_async.journal.copying import Kept, Movable, Register, move
from alphapo_async.journal.postgres.journal import PostgresJournal
from alphapo_async.journal.sqlite.journal import SqliteJournal
from tests.support import postgres
from tests.support.journal_suite import ACCOUNT, LOST, accepted, asked, hear, names, pay, same


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
    await hear(journal, "in doubt", asked("in doubt"), LOST, now=1.0)
    await hear(journal, "corrected", asked("corrected", "2"), Released("worker", "queue"), now=2.0)
    await hear(journal, "corrected", asked("corrected", "1"), LOST, now=3.0)
    await hear(journal, "paid", asked("paid"), accepted("paid"), now=4.0)
    await hear(journal, "paid", asked("paid"), account="another", now=5.0)
    await pay(journal, *(f"many-{number}" for number in range(many)), now=6.0)
    for worker in ("worker", "gone"):
        await journal.leave(worker, 9.0)


@pytest.mark.parametrize(("from_", "to"), [("file", "database"), ("database", "file")])
async def test_everything_arrives_and_nothing_is_left_in_use(both: dict[str, Any], from_: str, to: str) -> None:
    """Rows, revisions, histories, hosts, and the workers whose rows are to be freed."""
    source, target = both[from_], both[to]
    await fill(source)
    assert await move(source, target, "the other", 100.0) == 4
    for account, foreign_id in ((ACCOUNT, "in doubt"), (ACCOUNT, "corrected"), (ACCOUNT, "paid"), ("another", "paid")):
        assert same(await target.find(account, foreign_id), await source.find(account, foreign_id))
        assert await target.history(account, foreign_id) == await source.history(account, foreign_id)
    assert await target.find_dead(100.0) == [("worker", 9.0)]
    assert names(await target.find_held("worker", 9)) == ["in doubt", "corrected", "paid"]
    with pytest.raises(JournalError, match="moved to the other"):
        await source.join(ACCOUNT, "h", "new", 200.0)
    with pytest.raises(JournalError, match="moved to the other"):
        await hear(source, "new", asked("new"))
    with pytest.raises(JournalError, match="moved to the other"):
        await source.move_to("a third")
    await hear(target, "new", asked("new"))


async def test_a_journal_of_many_pages_moves_whole(both: dict[str, Any]) -> None:
    """In its order."""
    await fill(both["file"], many=1_100)
    assert await move(both["file"], both["database"], "there", 100.0) == 1_104
    assert (await both["database"].totals(ACCOUNT))["BTC"].accepted == 1_101


async def test_an_empty_journal_moves(both: dict[str, Any]) -> None:
    """With its accounts."""
    await both["file"].join(ACCOUNT, "h", "gone", 50.0)
    await both["file"].leave("gone", 9.0)
    assert await move(both["file"], both["database"], "there", 100.0) == 0
    assert (await both["database"].register()).hosts == {ACCOUNT: "h"}


async def test_what_a_database_cannot_hold_in_a_text_is_no_difference(both: dict[str, Any]) -> None:
    """AlphaPo's words may hold a NUL; it is shown there as what cannot be shown."""
    await fill(both["file"])
    line = Entry(5.0, "callback", "does not fit: status 'a\0b'", release="1.0")
    await both["file"].update(ACCOUNT, "paid", lambda row: noted(row, [line]))
    assert await move(both["file"], both["database"], "there", 100.0) == 4
    assert [entry.what for entry in await both["file"].history(ACCOUNT, "paid")][-1] == line.what
    assert [entry.what for entry in await both["database"].history(ACCOUNT, "paid")][-1] == line.what.replace(
        "\0", "\ufffd"
    )


async def test_a_journal_in_use_does_not_move(both: dict[str, Any]) -> None:
    """Whoever may still send is named; nothing is copied, and the source goes on."""
    await both["file"].join(ACCOUNT, "h", "alive", 1e11)
    with pytest.raises(JournalError, match=r"1 worker.*alive.*stop them first") as caught:
        await move(both["file"], both["database"], "there", 100.0)
    assert caught.value.recorded is None
    await hear(both["file"], "f", asked("f"))
    assert await both["database"].dump(0, 9) == []


async def test_nothing_moves_over_what_is_there(both: dict[str, Any]) -> None:
    """The target must be empty."""
    await pay(both["database"], "f")
    await fill(both["file"])
    with pytest.raises(JournalError, match="name an empty one") as caught:
        await move(both["file"], both["database"], "there", 100.0)
    assert caught.value.recorded is None
    await hear(both["file"], "f", asked("f"))


class Careless:
    """A target that changes what it is given."""

    def __init__(
        self, spoil: Callable[[list[Kept]], list[Kept]], notes: dict[tuple[str, str], str] | None = None
    ) -> None:
        self._spoil = spoil
        self._notes = notes or {}
        self._kept: list[Kept] = []

    async def register(self) -> Register:
        return Register({}, {}, self._notes)

    async def find_living(self, now: float) -> list[str]:
        return []

    async def dump(self, after: int, limit: int) -> list[Kept]:
        return [kept for kept in self._kept if kept.place > after][:limit]

    async def load(self, register: Register, kept: list[Kept]) -> None:
        self._kept.extend(self._spoil(kept))

    async def move_to(self, name: str | None) -> None:
        raise NotImplementedError

    async def totals(self, account: str) -> dict[str, Totals]:
        return {}


def _other_row(kept: list[Kept]) -> list[Kept]:
    return [one._replace(row=replace(one.row, attempts=one.row.attempts + 1)) for one in kept]


def _other_history(kept: list[Kept]) -> list[Kept]:
    return [one._replace(entries=(*one.entries, Entry(1.0, "attempt", "InDoubt", number=9))) for one in kept]


def _without_last(kept: list[Kept]) -> list[Kept]:
    return kept[:-1]


def _other_end(kept: list[Kept]) -> list[Kept]:
    return [one._replace(row=replace(one.row, attempts=9)) if one.row.foreign_id == "many-599" else one for one in kept]


async def test_a_copy_that_differs_on_a_later_page_is_found_out(both: dict[str, Any]) -> None:
    """Every row is compared."""
    await fill(both["file"], many=600)
    with pytest.raises(JournalError, match="'many-599'"):
        await move(both["file"], Careless(_other_end), "there", 100.0)


def _as_it_is(kept: list[Kept]) -> list[Kept]:
    return kept


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_other_row, "'in doubt'"),
        (_other_history, "'in doubt'"),
        (_without_last, "the number of withdrawals"),
        (_as_it_is, "totals of account 'another'"),
    ],
)
async def test_a_copy_that_differs_is_found_out(
    both: dict[str, Any], spoil: Callable[[list[Kept]], list[Kept]], told: str
) -> None:
    """And the source is as it was."""
    await fill(both["file"])
    with pytest.raises(JournalError, match=told) as caught:
        await move(both["file"], Careless(spoil), "there", 100.0)
    assert caught.value.recorded is None
    await hear(both["file"], "f", asked("f"))


async def test_a_text_that_was_not_copied_is_found_out(both: dict[str, Any]) -> None:
    """What a journal keeps for others belongs to it."""
    await fill(both["file"])
    with pytest.raises(JournalError, match="what it keeps for others"):
        await move(both["file"], Careless(_as_it_is, {("default", "sheet"): "another"}), "there", 100.0)


def test_a_journal_in_memory_does_not_move() -> None:
    """It ends with its process."""
    assert not isinstance(MemoryJournal(), Movable)
