"""The inbox: one delivery after the other for each id, handled once a block has ended cleanly."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from alphapo_async.core.callbacks import Handled
from alphapo_async.core.errors import CallbackBusy, JournalError
from alphapo_async.core.evidence import CalledBack, ReplyExcerpt
from alphapo_async.core.models import Transaction
from alphapo_async.engine.inbox import Inbox
from alphapo_async.journal import MemoryJournal
from alphapo_async.supervisor import Supervisor
from tests.support.journal_suite import learn, pay
from tests.support.virtual import run


def output(status: str = "confirmed", number: int = 7) -> Transaction:
    """Return what a callback says."""
    return Transaction(id=number, status=status)


def inbox(journal: Any, worker: str = "one") -> Inbox:
    """Return the inbox of a worker."""
    clock = asyncio.get_running_loop().time
    return Inbox("default", journal, lambda: worker, Supervisor(), now=clock, sleep=asyncio.sleep)


async def handled(box: Inbox, transaction: Transaction, seconds: float = 0.0) -> bool:
    """Handle one, and tell whether it was new."""
    async with box.claim(transaction) as claim:
        await asyncio.sleep(seconds)
        assert claim.is_repeated is (transaction.status in claim.handled.statuses)
        return claim.is_new


async def join(journal: MemoryJournal, *workers: str, until: float = 1e9) -> None:
    """Have these workers live."""
    for worker in workers:
        await journal.join("default", "h", worker, until)


def test_a_callback_is_new_until_a_block_has_ended_cleanly() -> None:
    """Each status of each id once; whatever was told before stays known to others."""

    async def story() -> list[bool]:
        journal = MemoryJournal()
        box = inbox(journal)
        first = [await handled(box, output()) for _ in range(3)]
        others = [await handled(box, output("pending")), await handled(box, output(number=8))]
        return [*first, *others, await handled(inbox(journal, "two"), output())]

    assert run(story()) == [True, False, False, False, True, False]


def test_a_repeated_delivery_records_again_what_a_journal_that_went_back_has_lost() -> None:
    """Its block ended cleanly after the loss: no later delivery is new."""

    async def story() -> list[bool]:
        journal = MemoryJournal()
        box = inbox(journal)
        news = [await handled(box, output())]
        async with box.claim(output()) as claim:
            news.append(claim.is_new)
            text = await journal.recall("default", "callback 7")
            await journal.swap("default", "callback 7", text, Handled(by="one").text())
        return [*news, await handled(box, output())]

    assert run(story()) == [True, False, False]


@pytest.mark.parametrize("failure", [ValueError, asyncio.CancelledError, GeneratorExit, KeyboardInterrupt])
def test_a_block_that_does_not_end_cleanly_leaves_it_new(failure: type[BaseException]) -> None:
    """Whatever it was that ended it, and for whichever worker comes next."""

    async def story() -> list[bool]:
        journal = MemoryJournal()
        await join(journal, "one", "two")
        with contextlib.suppress(failure):
            async with inbox(journal).claim(output()):
                raise failure
        return [await handled(inbox(journal, "two"), output()), await handled(inbox(journal), output())]

    assert run(story()) == [True, False]


def test_sixty_four_at_once_are_one() -> None:
    """One is new, the others wait for it and are not."""

    async def story() -> tuple[int, str]:
        box = inbox(MemoryJournal())
        deliveries = [asyncio.ensure_future(handled(box, output(), 0.1)) for _ in range(64)]
        await asyncio.sleep(0.01)
        during = repr(box)
        news = await asyncio.gather(*deliveries)
        assert repr(box) == "Inbox(0 under way)"
        return sum(news), during

    assert run(story()) == (1, "Inbox(1 under way)")


def test_callbacks_of_several_ids_do_not_wait_for_each_other() -> None:
    """Only those for one id come one after the other."""

    async def story() -> float:
        box = inbox(MemoryJournal())
        await asyncio.gather(*(handled(box, output(number=number), 5.0) for number in range(20)))
        return asyncio.get_running_loop().time()

    assert run(story()) == pytest.approx(5.0)


@pytest.mark.parametrize("is_another_process", [False, True])
def test_whoever_waits_too_long_is_told_to_come_again(is_another_process: bool) -> None:  # noqa: FBT001
    """After ten seconds, in this process as in another."""

    async def story() -> float:
        journal, loop = MemoryJournal(), asyncio.get_running_loop()
        await join(journal, "one", "two")
        first = inbox(journal)
        slow = asyncio.ensure_future(handled(first, output(), 100.0))
        await asyncio.sleep(1.0)
        with pytest.raises(CallbackBusy, match="503"):
            await handled(inbox(journal, "two") if is_another_process else first, output())
        waited = loop.time() - 1.0
        assert await slow
        assert not await handled(first, output())
        return waited

    assert run(story()) == pytest.approx(10.0, abs=0.1)


def test_another_process_waits_its_turn() -> None:
    """And finds it handled."""

    async def story() -> tuple[bool, bool, float]:
        journal = MemoryJournal()
        await join(journal, "one", "two")
        slow = asyncio.ensure_future(handled(inbox(journal), output(), 3.0))
        await asyncio.sleep(0.5)
        late = await handled(inbox(journal, "two"), output())
        return await slow, late, asyncio.get_running_loop().time()

    first, late, seconds = run(story())
    assert (first, late) == (True, False)
    assert seconds == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize("claimed_by", ["one", "dead"])
def test_the_claim_of_a_worker_that_is_gone_is_void(claimed_by: str) -> None:
    """Of one that died in its handler, or of this one's own that could not be let go of: it is new again."""

    async def story() -> bool:
        journal = MemoryJournal()
        await join(journal, "one")
        await join(journal, "dead", until=-1.0)
        await journal.remember("default", "callback 7", Handled().taken(claimed_by).text())
        return await handled(inbox(journal), output())

    assert run(story())


class Disconnected(MemoryJournal):
    """A journal that sees that a worker's connection is gone, although its lease runs."""

    async def ended(self, worker: str, now: float) -> float | None:
        """Return the end of its lease."""
        return await super().ended(worker, now) or self._workers[worker]


def test_the_claim_of_a_worker_without_connection_holds_until_its_lease_ends() -> None:
    """It may live, and be in its handler."""

    async def story() -> float:
        journal = Disconnected()
        await join(journal, "one")
        await join(journal, "dead", until=5.0)
        await journal.remember("default", "callback 7", Handled().taken("dead").text())
        assert await handled(inbox(journal), output())
        return asyncio.get_running_loop().time()

    assert run(story()) == pytest.approx(5.0, abs=0.1)


class Failing(MemoryJournal):
    """A journal that fails from some write on."""

    def __init__(self, good: int) -> None:
        super().__init__()
        self.good = good

    async def swap(self, account: str, name: str, before: str | None, after: str) -> bool:
        """Write, or fail."""
        self.good -= 1
        if self.good < 0:
            raise JournalError("it is gone.")
        return await super().swap(account, name, before, after)


@pytest.mark.parametrize("good", [0, 1])
def test_a_journal_that_fails_is_told_before_the_block_or_after_it(good: int) -> None:
    """Either way it does not count as handled."""

    async def story() -> list[bool]:
        journal, blocks = Failing(good), list[bool]()
        with pytest.raises(JournalError):
            async with inbox(journal).claim(output()) as claim:
                blocks.append(claim.is_new)
        journal.good = 99
        return [*blocks, await handled(inbox(journal), output())]

    assert run(story()) == [True] * (good + 1)


def test_what_the_block_raises_is_raised_though_the_journal_fails_then() -> None:
    """The claim that could not be let go of is this worker's own, and void."""

    async def story() -> bool:
        journal = Failing(1)
        with pytest.raises(ValueError, match="mine"):
            async with inbox(journal).claim(output()):
                raise ValueError("mine")
        journal.good = 99
        return await handled(inbox(journal), output())

    assert run(story())


class Forgetful:
    """A journal of somebody's own that keeps no texts."""


def test_a_journal_that_keeps_no_texts_is_stood_in_for() -> None:
    """By memory, for as long as the process lives."""

    async def story() -> list[bool]:
        box = inbox(Forgetful())
        return [await handled(box, output()) for _ in range(2)]

    assert run(story()) == [True, False]


class Contended(MemoryJournal):
    """A journal in which another process is a moment faster, once."""

    was_faster = False

    async def swap(self, account: str, name: str, before: str | None, after: str) -> bool:
        """Lose the race the first time."""
        if not self.was_faster:
            self.was_faster = True
            await super().swap(account, name, before, Handled().done("confirmed").text())
        return await super().swap(account, name, before, after)


def test_whoever_loses_the_race_looks_again() -> None:
    """And finds that it was handled."""

    async def story() -> bool:
        return await handled(inbox(Contended()), output())

    assert run(story()) is False


class Late(MemoryJournal):
    """A journal whose answers to a claim come late; meanwhile other processes may take the claimer for dead, and handle the callback."""

    def __init__(self, seconds: float, meanwhile: str | None, *, reads_late: bool = False) -> None:
        super().__init__()
        self.seconds = seconds
        self.meanwhile = meanwhile
        self.reads_late = reads_late
        self.reads = 0

    async def swap(self, account: str, name: str, before: str | None, after: str) -> bool:
        """Write, and say so later, the first time."""
        written = await super().swap(account, name, before, after)
        seconds, self.seconds = self.seconds, 0.0
        await asyncio.sleep(seconds)
        if seconds and not self.reads_late:
            await self._handle_elsewhere(account, name)
        return written

    async def recall(self, account: str, name: str) -> str | None:
        """Read, and tell what was read later, the second time."""
        result = await super().recall(account, name)
        self.reads += 1
        if self.reads == 2 and self.reads_late:
            await asyncio.sleep(1)
            await self._handle_elsewhere(account, name)
        return result

    async def _handle_elsewhere(self, account: str, name: str) -> None:
        if self.meanwhile is not None:
            await self.remember(account, name, Handled().done(self.meanwhile).text())


@pytest.mark.parametrize("reads_late", [False, True])
def test_a_claim_whose_word_came_late_is_looked_at_again(reads_late: bool) -> None:  # noqa: FBT001
    """Whoever was taken for dead meanwhile finds that others have handled it, also where that look itself took long."""

    async def story(meanwhile: str | None) -> tuple[bool, int]:
        journal = Late(3.0, meanwhile, reads_late=reads_late)
        return await handled(inbox(journal), output()), journal.reads

    is_new, _ = run(story("confirmed"))
    assert not is_new
    is_new, _ = run(story("pending"))
    assert is_new
    is_new, reads = run(story(None))
    assert is_new
    assert reads == (3 if reads_late else 2)


@pytest.mark.parametrize(("seconds", "is_lost"), [(0.5, False), (0.6, True)])
def test_a_turn_is_looked_at_again_after_what_took_long(seconds: float, is_lost: bool) -> None:  # noqa: FBT001
    """Another process, which took this one for dead, has handled it: nothing is handled here, and AlphaPo comes again."""

    async def story() -> None:
        journal = MemoryJournal()
        box = inbox(journal)
        async with box.claim(output()) as claim:
            await box.confirm(claim)
            await asyncio.sleep(seconds)
            await box.confirm(claim)
        async with box.claim(output("declined", 8)) as claim:
            await asyncio.sleep(seconds)
            await journal.remember("default", claim.name, Handled().done("declined").text())
            with pytest.raises(CallbackBusy) if is_lost else contextlib.nullcontext():
                await box.confirm(claim)

    run(story())


def test_a_claim_that_came_at_once_is_read_once() -> None:
    """Half a second of an answer's time is no reason for a doubt."""

    async def story() -> int:
        journal = Late(0.5, "confirmed", reads_late=True)
        assert await handled(inbox(journal), output())
        return journal.reads

    assert run(story()) == 1


class AlwaysLate(MemoryJournal):
    """A journal in a database under load: each answer comes late."""

    seconds = 0.6

    async def swap(self, account: str, name: str, before: str | None, after: str) -> bool:
        """Write, and answer later."""
        written = await super().swap(account, name, before, after)
        await asyncio.sleep(self.seconds)
        return written

    async def recall(self, account: str, name: str) -> str | None:
        """Read, and answer later."""
        result = await super().recall(account, name)
        await asyncio.sleep(self.seconds)
        return result


def test_a_delivery_does_not_wait_for_ever_for_a_journal_whose_answers_are_always_late() -> None:
    """It is answered with 503, its claim is void, and the next delivery is new once the journal is quick again."""

    async def story() -> tuple[float, bool]:
        journal, loop = AlwaysLate(), asyncio.get_running_loop()
        await join(journal, "one", "two")
        began = loop.time()
        with pytest.raises(JournalError, match=r"takes more than 0\.5 s"):
            await asyncio.wait_for(handled(inbox(journal), output()), 100.0)
        seconds = loop.time() - began
        journal.seconds = 0.0
        await asyncio.sleep(5)
        return seconds, await handled(inbox(journal, "two"), output())

    seconds, is_new = run(story())
    assert seconds < 15
    assert is_new


def test_a_delivery_that_is_cancelled_while_its_claim_is_looked_at_again_holds_no_process_up() -> None:
    """The claim is let go of: another process takes the next delivery."""

    async def story() -> bool:
        journal = AlwaysLate()
        await join(journal, "one", "two")
        delivery = asyncio.ensure_future(handled(inbox(journal), output()))
        await asyncio.sleep(1.5)  # it has claimed, and reads the claim again
        delivery.cancel()
        await asyncio.gather(delivery, return_exceptions=True)
        journal.seconds = 0.0
        await asyncio.sleep(5)
        return await handled(inbox(journal, "two"), output())

    assert run(story())


class Slow(MemoryJournal):
    """A journal whose writes take a second, and go on though nobody waits for them."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[Exception] = []

    async def swap(self, account: str, name: str, before: str | None, after: str) -> bool:
        """Write, a second later."""
        return await asyncio.ensure_future(self._write(account, name, before, after))

    async def _write(self, account: str, name: str, before: str | None, after: str) -> bool:
        await asyncio.sleep(1)
        written = await super().swap(account, name, before, after)
        if self.failures:
            raise self.failures.pop()
        return written


@pytest.mark.parametrize(
    "failures",
    [[], [JournalError("The answer was lost.", recorded=None)], [ValueError("a fault of the journal's own")]],
)
def test_whoever_is_cancelled_while_claiming_holds_nobody_up(failures: list[Exception]) -> None:
    """The claim may come through all the same, however it is answered; it is let go of, and another process goes on."""

    async def story() -> tuple[bool, float]:
        journal = Slow()
        await join(journal, "one", "two")
        journal.failures = list(failures)
        first = inbox(journal)
        claiming = asyncio.ensure_future(handled(first, output()))
        await asyncio.sleep(0.5)
        claiming.cancel()
        return await handled(inbox(journal, "two"), output()), asyncio.get_running_loop().time()

    is_new, seconds = run(story())
    assert is_new
    assert seconds < 6


def test_a_claim_that_cannot_be_let_go_of_is_tried_again() -> None:
    """Until the journal takes it; other processes do not wait for this one's end."""

    async def story() -> tuple[bool, float]:
        journal = Failing(1)
        await join(journal, "one", "two")
        with pytest.raises(ValueError, match="mine"):
            async with inbox(journal).claim(output()):
                raise ValueError("mine")
        await asyncio.sleep(2)
        journal.good = 99
        return await handled(inbox(journal, "two"), output()), asyncio.get_running_loop().time()

    is_new, seconds = run(story())
    assert is_new
    assert seconds == pytest.approx(3.0, abs=0.1)


def test_a_claim_is_let_go_of_also_where_the_end_of_its_block_could_not_be_written() -> None:
    """Otherwise another process would answer 503 for as long as this one lives."""

    async def story() -> tuple[bool, float]:
        journal = Failing(1)
        await join(journal, "one", "two")
        with pytest.raises(JournalError):
            await handled(inbox(journal), output())
        journal.good = 99
        return await handled(inbox(journal, "two"), output()), asyncio.get_running_loop().time()

    is_new, seconds = run(story())
    assert is_new
    assert seconds < 1


def test_a_claim_is_not_let_go_of_while_the_next_delivery_has_its_turn_here() -> None:
    """It is the same claim; another process waits until that block has ended."""

    async def story() -> list[bool]:
        journal = Failing(1)
        await join(journal, "one", "two")
        box = inbox(journal)
        with pytest.raises(ValueError, match="mine"):
            async with box.claim(output()):
                raise ValueError("mine")
        await asyncio.sleep(0.5)
        journal.good = 99
        again = asyncio.ensure_future(handled(box, output(), 5.0))
        await asyncio.sleep(2)
        return [await handled(inbox(journal, "two"), output()), await again]

    assert run(story()) == [False, True]


def test_a_block_that_ends_after_closing_leaves_its_claim_as_it_stands() -> None:
    """Its claim ends with the worker; nothing of the inbox is at work any more."""

    async def story() -> set[str]:
        box = inbox(Failing(1))
        with contextlib.suppress(ValueError):
            async with box.claim(output()):
                await box.aclose()
                raise ValueError("mine")
        return {repr(task.get_coro()) for task in asyncio.all_tasks() - {asyncio.current_task()}}

    assert run(story()) == set()


def test_closing_frees_nothing_any_more() -> None:
    """With the worker, its claims end."""

    async def story() -> int:
        journal = Failing(1)
        box = inbox(journal)
        with pytest.raises(ValueError, match="mine"):
            async with box.claim(output()):
                raise ValueError("mine")
        await box.aclose()
        return len(asyncio.all_tasks())

    assert run(story()) == 1


def test_cancelled_while_letting_go_it_is_let_go_of_later() -> None:
    """The cancel goes on its way."""

    async def story() -> bool:
        journal = Slow()
        await join(journal, "one", "two")
        box = inbox(journal)
        handling = asyncio.ensure_future(handled(box, output(), 5.0))
        await asyncio.sleep(2)
        handling.cancel()
        await asyncio.sleep(0.5)
        handling.cancel()
        await asyncio.gather(handling, return_exceptions=True)
        await asyncio.sleep(5)
        return await handled(inbox(journal, "two"), output())

    assert run(story())


class Overtaken(MemoryJournal):
    """A journal in which another worker has taken the claim over meanwhile, and again while it is looked at."""

    races = 0

    async def swap(self, account: str, name: str, before: str | None, after: str) -> bool:
        """Let the other one write first, once it is at it."""
        if self.races > 0:
            self.races -= 1
            other = Handled(("pending",) if self.races else ("pending", "declined"), "two")
            await self.remember(account, name, other.text())
            return False
        return await super().swap(account, name, before, after)


def test_what_was_handled_is_known_also_where_the_claim_was_lost() -> None:
    """The other one's claim stays as it is."""

    async def story() -> str | None:
        journal = Overtaken()
        async with inbox(journal).claim(output()):
            journal.races = 2
        return await journal.recall("default", "callback 7")

    assert run(story()) == Handled(("pending", "declined", "confirmed"), "two").text()


def test_blocks_are_under_way_until_they_end() -> None:
    """However they end."""

    async def story() -> list[int]:
        blocks, seen = inbox(MemoryJournal()), list[int]()
        with contextlib.suppress(ValueError), blocks.block():
            seen.append(len(blocks.under_way))
            (block,) = blocks.under_way
            raise ValueError
        assert block.done()
        return [*seen, len(blocks.under_way)]

    assert run(story()) == [1, 0]


def test_an_unexpected_error_of_the_journal_does_not_hide_what_the_block_raised() -> None:
    """It is reported, and the claim is released in the background."""

    class Odd(MemoryJournal):
        """A journal that raises what it should not when a claim is let go of, once."""

        swaps = 0

        async def swap(self, account: str, name: str, before: str | None, after: str) -> bool:
            self.swaps += 1
            if self.swaps == 2:
                raise ZeroDivisionError
            return await super().swap(account, name, before, after)

    async def story() -> tuple[list[str], bool]:
        journal, reported = Odd(), list[str]()
        box = inbox(journal)
        box._supervisor = Supervisor(lambda task, _: reported.append(task))
        with pytest.raises(KeyError):
            async with box.claim(output()):
                raise KeyError
        await asyncio.sleep(2)
        return reported, await handled(inbox(journal, "two"), output())

    assert run(story()) == (["release of a callback"], True)


def test_a_replay_waits_for_its_turn_and_counts_as_no_delivery() -> None:
    """The next delivery is as new as before; the history has the replay."""

    async def story() -> tuple[list[str], bool, bool]:
        journal = MemoryJournal()
        box = inbox(journal)
        await pay(journal, "f")
        body = b'{"id":7,"foreign_id":"f","status":"confirmed"}'
        await learn(journal, "f", CalledBack(output(), ReplyExcerpt(None, body)))
        delivery = asyncio.create_task(handled(box, output("pending"), 1.0))
        await asyncio.sleep(0.1)
        async with box.replay("f", None) as callback:
            was_first = delivery.done()
        lines = [line.kind for line in await journal.history("default", "f")]
        return lines[-2:], was_first, not callback.is_new and await handled(box, output())

    assert run(story()) == (["callback", "replayed"], True, True)
