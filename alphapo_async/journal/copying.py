"""Moving a journal from one storage to another: copied, compared row by row, and the source marked so that nothing sends from it."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

from msgspec.structs import replace

from alphapo_async.core.errors import JournalError
from alphapo_async.core.history import Entry
from alphapo_async.core.models import Totals
from alphapo_async.core.row import Epoch, Row
from alphapo_async.core.row_format import to_record

__all__ = ["Kept", "Movable", "Register", "move"]

_PAGE: Final = 500


class Kept(NamedTuple):
    """One withdrawal with all that is kept of it."""

    place: int
    """Where it stands in its table: in the order in which the rows came."""
    row: Row
    entries: tuple[Entry, ...]


class Register(NamedTuple):
    """What a journal keeps besides withdrawals."""

    hosts: dict[str, str]
    """By account."""
    leases: dict[str, float]
    """By worker, when each one ends or ended."""
    notes: dict[tuple[str, str], str]
    """By account and name, the texts that it keeps for others."""
    epoch: Epoch = Epoch()
    """In which the copy goes on."""


@runtime_checkable
class Movable(Protocol):
    """What a journal must be able to do to be moved."""

    async def register(self) -> Register:
        """Return accounts and workers."""
        ...

    async def find_living(self, now: float) -> list[str]:
        """Return the workers that may still send."""
        ...

    async def dump(self, after: int, limit: int) -> list[Kept]:
        """Return withdrawals of all accounts, in order, from behind this place on."""
        ...

    async def load(self, register: Register, kept: list[Kept]) -> None:
        """Write down what another journal kept; its workers have ended."""
        ...

    async def move_to(self, name: str | None) -> None:
        """Mark the journal as moved: nothing is written in it any more. None takes the mark back."""
        ...

    async def totals(self, account: str) -> dict[str, Totals]:
        """Return what became of everything asked for."""
        ...


async def move(source: Movable, target: Movable, name: str, now: float) -> int:
    """Copy everything, compare it, and leave the source marked; return how many withdrawals moved.

    Args:
        source: a journal that nobody uses.
        target: an empty one.
        name: what the source says of where it has gone; without a password.
        now: seconds since the epoch.

    Raises:
        JournalError: the target is not empty, a worker may still send, or a copy is not what it should be; the source is as it was.
    """
    if (await target.register()).hosts or await target.dump(0, 1):
        raise JournalError(
            "The target holds withdrawals already: name an empty one. Nothing was copied.", recorded=None
        )
    await source.move_to(name)  # first, so that nobody can begin to send meanwhile
    try:
        return await _copy(source, target, now)
    except BaseException:
        await source.move_to(None)
        raise


async def _copy(source: Movable, target: Movable, now: float) -> int:
    living = await source.find_living(now)
    if living:
        raise JournalError(
            f"{len(living)} worker(s) still use the journal ({', '.join(sorted(living))}): stop them first. Nothing was copied.",
            recorded=None,
        )
    register = await source.register()
    await target.load(register, [])
    after = count = 0
    while page := await source.dump(after, _PAGE):
        await target.load(Register({}, {}, {}), page)
        after, count = page[-1].place, count + len(page)
    await _compare(source, target, register)
    return count


async def _compare(source: Movable, target: Movable, register: Register) -> None:
    places = [0, 0]
    while True:
        pages = [await each.dump(place, _PAGE) for each, place in zip((source, target), places, strict=True)]
        for ours, theirs in zip(*pages, strict=False):
            if _essence(ours) != _essence(theirs):
                raise _differs(f"withdrawal {ours.row.foreign_id!r} of account {ours.row.account!r}")
        if len(pages[0]) != len(pages[1]):
            raise _differs("the number of withdrawals")
        if not pages[0]:
            break
        places = [page[-1].place for page in pages]
    if (await target.register()).notes != register.notes:
        raise _differs("what it keeps for others")
    for account in register.hosts:
        if await source.totals(account) != await target.totals(account):
            raise _differs(f"the totals of account {account!r}")


def _differs(what: str) -> JournalError:
    return JournalError(
        f"The copy is not what it should be: {what} differs. Keep the source, and drop the target.", recorded=None
    )


def _essence(kept: Kept) -> tuple[Any, ...]:
    """What must be the same, wherever it is kept; text in PostgreSQL holds no NUL."""
    row = kept.row
    revisions = [(revision.number, revision.body, revision.digest) for revision in (*row.earlier, row.revision)]
    entries = [replace(line, what=line.what.replace("\0", "\ufffd")) for line in kept.entries]
    return to_record(row), revisions, entries
