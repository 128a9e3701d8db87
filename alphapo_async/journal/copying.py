"""Copying a journal from a file to PostgreSQL: copied, compared row by row, then the file is closed for good and nothing is sent from it.

It is offline: the file is locked while it is copied, and no worker of it may live. Closing the file for good renames the table that every
statement on a row reads, so that each of them fails from then on, in every process; no statement asks whether the journal was copied.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

from msgspec.structs import replace

from alphapo_async.core.errors import JournalError
from alphapo_async.core.history import Entry
from alphapo_async.core.models import Totals
from alphapo_async.core.row import MANY, Epoch, Row
from alphapo_async.core.row_format import to_record

__all__ = ["CopySource", "CopyTarget", "Dumpable", "Kept", "Register", "copy_journal"]

_PAGE: Final = 500


class Kept(NamedTuple):
    """One withdrawal with all that is kept of it."""

    place: int
    """Its position in its table, in the order in which the rows came."""
    row: Row
    entries: tuple[Entry, ...]


class Register(NamedTuple):
    """What a journal keeps beside withdrawals."""

    hosts: dict[str, str]
    """By account."""
    leases: dict[str, float]
    """By worker, when each one ends or ended."""
    texts: dict[tuple[str, str], str]
    """By account and name, the texts that it keeps, such as the state of callbacks."""
    epoch: Epoch = Epoch()
    """The epoch of the journal, which the copy keeps."""


class Dumpable(Protocol):
    """A journal that can be read whole."""

    async def register(self) -> Register:
        """Return accounts, workers, texts and epoch."""
        ...

    async def dump(self, after: int, limit: int, *, with_history: bool = True) -> list[Kept]:
        """Return withdrawals of all accounts, in order, from behind this place on.

        With their histories, none is left out, for a copy. Without them, withdrawals that only a newer release can read are left out.

        Raises:
            UnreadableRow: with histories, only a newer release can read one of them.
        """
        ...

    async def totals(self, account: str) -> dict[str, Totals]:
        """Return the sums of everything requested."""
        ...


@runtime_checkable
class CopySource(Dumpable, Protocol):
    """A journal that can be copied."""

    async def find_living(self, now: float) -> list[str]:
        """Return the workers that may still send."""
        ...

    async def hold(self) -> None:
        """Lock the journal: no other process writes to it until `release` or `retire`."""
        ...

    async def release(self) -> None:
        """Unlock the journal, unchanged."""
        ...

    async def retire(self) -> None:
        """Close the held journal for good: every later statement on a row fails, in every process."""
        ...


@runtime_checkable
class CopyTarget(Dumpable, Protocol):
    """A journal that takes a copy."""

    async def load(self, register: Register | None, kept: list[Kept]) -> None:
        """Record what another journal kept; its workers have ended. None: withdrawals alone."""
        ...


async def copy_journal(source: CopySource, target: CopyTarget, now: float) -> int:
    """Copy everything, compare it, and close the source for good; return how many withdrawals were copied.

    Args:
        source: a journal that no worker uses.
        target: an empty one.
        now: seconds since the epoch.

    Raises:
        JournalError: the target is not empty, a worker of the source lives, or the copy differs; the source is as it was.
    """
    if (await target.register()).hosts or await target.dump(0, 1):
        raise JournalError(
            "The target already holds withdrawals: name an empty one (drop what a copy left that was interrupted). Nothing was copied.",
            recorded=None,
        )
    try:
        await source.hold()
        count = await _copy(source, target, now)
        await source.retire()
    except BaseException:
        await source.release()
        raise
    return count


async def _copy(source: CopySource, target: CopyTarget, now: float) -> int:
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
        await target.load(None, page)
        after, count = page[-1].place, count + len(page)
    await _compare(source, target, register)
    return count


async def _compare(source: CopySource, target: CopyTarget, register: Register) -> None:
    await _compare_rows(source, target)
    if await target.register() != register:
        raise _differs("what it keeps beside withdrawals")
    for account in register.hosts:
        if await source.totals(account) != await target.totals(account):
            raise _differs(f"the totals of account {account!r}")


async def _compare_rows(source: CopySource, target: CopyTarget) -> None:
    places = [0, 0]
    while True:
        pages = [await each.dump(place, _PAGE) for each, place in zip((source, target), places, strict=True)]
        for ours, theirs in zip(*pages, strict=False):
            if _essence(ours) != _essence(theirs):
                raise _differs(f"withdrawal {ours.row.foreign_id!r} of account {ours.row.account!r}")
        if len(pages[0]) != len(pages[1]):
            raise _differs("the number of withdrawals")
        if not pages[0]:
            return
        places = [page[-1].place for page in pages]


def _differs(what: str) -> JournalError:
    return JournalError(
        f"The copy differs from its source: {what}. The source is unchanged: keep it, and drop the target.",
        recorded=None,
    )


def _essence(kept: Kept) -> tuple[Any, ...]:
    """Return what must be equal on both sides. Text in PostgreSQL holds no NUL; a frozen row counts more arrivals each time it is read."""
    row = replace(kept.row, arrivals=min(kept.row.arrivals, MANY))
    revisions = [(revision.number, revision.body, revision.digest) for revision in (*row.earlier, row.revision)]
    entries = [replace(line, what=line.what.replace("\0", "\ufffd")) for line in kept.entries]
    return to_record(row), revisions, entries
