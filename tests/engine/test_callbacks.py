"""What a callback adds to its withdrawal's row, before its block handles it."""

import asyncio
import contextlib
from copy import deepcopy
from typing import Any

import msgspec
import pytest

from alphapo_async.client import AlphapoClient
from alphapo_async.core.callbacks import Callback
from alphapo_async.core.codec import decode_body, encode_body
from alphapo_async.core.errors import (
    CallbackBusy,
    CallbackError,
    ConfigurationError,
    WithdrawalFailed,
    WithdrawalRejected,
    WithdrawalUnknown,
)
from alphapo_async.core.events import Event
from alphapo_async.core.evidence import Requested, Revision
from alphapo_async.core.models import Withdrawal
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.signer import Signer
from alphapo_async.journal.memory import MemoryJournal
from tests.support.virtual import run
from tests.support.wire import (
    EPOCH,
    INSUFFICIENT,
    LOST,
    NOT_FOUND,
    Durable,
    Wire,
    client,
    request,
)


def test_what_a_journal_that_went_back_may_have_forgotten() -> None:
    """A "no" of before is looked up before it is told again, and a callback of an unknown withdrawal is an event at ERROR."""
    events: list[Event] = []

    async def story() -> None:
        journal = Durable()
        async with client(Wire([INSUFFICIENT]), journal=journal, on_event=events.append) as alphapo:
            with pytest.raises(WithdrawalRejected):
                await alphapo.withdraw(request())
            await journal.raise_epoch(EPOCH + asyncio.get_running_loop().time())
            with pytest.raises(WithdrawalRejected):
                await alphapo.enqueue(request())
            body = called(foreign_id="another")
            async with alphapo.receive_callback(KEYS.headers(body), body) as callback:
                assert callback.kind == "not in journal"

    run(story())
    assert "another" in [event.foreign_id for event in events if event.name == "journal went back"]


KEYS = Signer("made-up-key", "made-up-secret")


def called(status: str = "confirmed", foreign_id: str | None = "payout-17", **changes: Any) -> bytes:
    """Return a callback's body, as AlphaPo's samples have it."""
    part = {"currency": "BTC", "transaction_type": "blockchain", "amount": "0.00150000", "txid": "bb04"}
    result = {
        "id": 7,
        "foreign_id": foreign_id,
        "type": "withdrawal",
        "crypto_address": {"id": 1, "currency": "BTC", "address": "bc1qmadeup", "tag": None},
        "transactions": [part],
        "fees": [],
        "error": "",
        "status": status,
        **changes,
    }
    return msgspec.json.encode(result)


async def receive(alphapo: AlphapoClient, body: bytes) -> Callback:
    """Deliver a genuine callback, and handle it."""
    async with alphapo.receive_callback(KEYS.headers(body), body) as callback:
        return callback


def test_a_client_that_only_hears_callbacks_has_a_lease() -> None:
    """Others must see that it lives while it handles one."""
    journal = Durable()

    async def story() -> float | None:
        alphapo = client(Wire(), journal=journal)
        async with alphapo.receive_callback(KEYS.headers(called()), called()):
            until = await journal.ended(alphapo._engine.lease.worker, EPOCH)
        await alphapo.aclose()
        return until

    assert run(story()) is None


def test_a_kept_callback_is_handed_out_again() -> None:
    """With its kind, and not as new; of a withdrawal without one that is an error."""

    async def story() -> Callback:
        async with client(Wire()) as alphapo:
            await alphapo.withdraw(request())
            with pytest.raises(CallbackError, match="keeps no callback"):
                await alphapo.replay_callback("payout-17").__aenter__()
            await receive(alphapo, called())
            async with alphapo.replay_callback("payout-17", status="confirmed") as callback:
                return callback

    callback = run(story())
    assert (callback.transaction.status, callback.kind, callback.is_new) == ("confirmed", "ours", False)


def test_a_callback_says_what_became_of_a_withdrawal_nobody_could_tell() -> None:
    """Unknown, then called back: settled, with its txid in the history, and told by `withdraw` without a request."""
    wire = Wire([LOST], [NOT_FOUND] * 9)

    async def story() -> tuple[Callback, Withdrawal, list[str], list[str]]:
        events: list[Event] = []
        journal = Durable()
        policy = RetryPolicy.none()
        async with client(wire, journal=journal, policy=policy, on_event=events.append) as alphapo:
            with pytest.raises(WithdrawalUnknown):
                await alphapo.withdraw(request())
            callback = await receive(alphapo, called())
            withdrawal = await alphapo.withdraw(request())
            history = [f"{line.kind}: {line.what}" for line in await journal.history("default", "payout-17")]
        return callback, withdrawal, history, [event.name for event in events]

    callback, withdrawal, history, events = run(story())
    assert (callback.kind, callback.is_new, callback.transaction.txids) == ("ours", True, ("bb04",))
    assert (withdrawal.status, withdrawal.is_final, wire.posts) == ("confirmed", True, 1)
    assert "callback: confirmed; txid bb04" in history
    assert events[-5:] == ["callback", "settled", "begun", "recorded", "ended"]


@pytest.mark.parametrize("post", ["accept", "accept, lost", "silent"])
@pytest.mark.parametrize("is_durable", [False, True])
def test_a_callback_before_the_reply_settles_it_once(post: str, is_durable: bool) -> None:  # noqa: FBT001
    """Reply, look-up and callback are one state, and one event says that it is settled."""
    wire = Wire([] if post == "accept" else [post], seconds=5.0)

    async def story() -> tuple[str | None, list[str]]:
        events: list[Event] = []
        journal = Durable() if is_durable else "memory"
        async with client(wire, journal=journal, on_event=events.append) as alphapo:
            paying = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(2.0)
            await receive(alphapo, called())
            withdrawal = await paying
            await receive(alphapo, called("pending"))
        return withdrawal.status, [event.name for event in events if event.name == "settled"]

    assert run(story()) == ("confirmed", ["settled"])
    assert wire.posts == 1


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (called(foreign_id="another"), "not in journal"),
        (called(foreign_id=None), "not in journal"),
        (called(foreign_id=" \n"), "not in journal"),
        (called(foreign_id="payout-17\0"), "not in journal"),
        (called(type="deposit"), "not a withdrawal"),
        (called(id=8, crypto_address={"address": "another"}), "contradicts"),
        (called("cancelled", id=8), "contradicts"),
        (called(crypto_address={"address": "another"}), "ours"),
        (called("cancelled", crypto_address=None, transactions=[]), "ours"),
        (called("thawed", type="withdrawal_of_tomorrow"), "ours"),
    ],
)
def test_every_signed_callback_is_handed_over_and_says_what_it_is(body: bytes, kind: str) -> None:
    """With any content; each of them is new once."""

    async def story() -> list[tuple[str, bool]]:
        async with client(Wire()) as alphapo:
            await alphapo.withdraw(request())
            return [(callback.kind, callback.is_new) for callback in [await receive(alphapo, body) for _ in range(2)]]

    assert run(story()) == [(kind, True), (kind, False)]


def test_a_callback_finds_its_withdrawal_whatever_this_process_would_take_for_an_id() -> None:
    """Another process recorded it: one with a newer table of Unicode, or a release with other rules."""
    name = "payout-\u0378"  # a code point that no version of Unicode has assigned
    body = encode_body(request()).replace(b"payout-17", name.encode())

    async def story() -> tuple[str, str]:
        journal = Durable()
        async with client(Wire(), journal=journal) as alphapo:
            recorder, key = alphapo._engine.recorder, KEYS.fingerprint
            await recorder.record(name, Requested(None, Revision(body, decode_body(body)), key))
            callback = await receive(alphapo, called(foreign_id=name))
            row = await journal.find("default", name)
            assert row is not None
            return callback.kind, row.state

    assert run(story()) == ("ours", "accepted")


def test_a_callback_with_another_id_is_loud_and_changes_nothing() -> None:
    """It stands in the history, with what does not fit; repeated, it is not reported anew."""

    async def story() -> tuple[list[str], list[str | None]]:
        events: list[Event] = []
        journal = Durable()
        async with client(Wire(), journal=journal, on_event=events.append) as alphapo:
            before = await alphapo.withdraw(request())
            await receive(alphapo, called("cancelled", id=8))
            await receive(alphapo, called("cancelled", id=8))
            after = await alphapo.withdraw(request())
            assert (before.id, before.status) == (after.id, after.status)
            history = [line.what for line in await journal.history("default", "payout-17") if line.kind == "callback"]
        return history, [event.reason for event in events if event.name == "contradiction"]

    assert run(story()) == (["does not fit: another id, 8"], ["a callback shows another id, 8"])


def test_figures_that_differ_under_the_same_id_are_a_warning() -> None:
    """The status counts; an amount or address that was not requested is reported once."""

    async def story() -> tuple[str, list[tuple[str, str | None]]]:
        events: list[Event] = []
        async with client(Wire(), journal=Durable(), on_event=events.append) as alphapo:
            await alphapo.withdraw(request())
            body = called("declined", crypto_address={"address": "another"}, transactions=[])
            callback = await receive(alphapo, body)
            await receive(alphapo, body)
            with pytest.raises(WithdrawalFailed):
                await alphapo.withdraw(request())
        names = ("contradiction", "figures differ")
        return callback.kind, [(event.name, event.reason) for event in events if event.name in names]

    reason = "address: asked 'bc1qmadeup', AlphaPo shows 'another'"
    assert run(story()) == ("ours", [("figures differ", reason)])


def test_a_callback_under_a_retired_key_is_alphapos() -> None:
    """Under an unknown key it is not."""
    body = called()

    async def story() -> str:
        old = Signer("old-key", "old-secret")
        async with client(Wire(), retired_keys=[("old-key", "old-secret")]) as alphapo:
            async with alphapo.receive_callback(old.headers(body), body) as callback:
                pass
            with pytest.raises(CallbackError):
                await receive_under(alphapo, Signer("nobody", "secret"), body)
        return callback.kind

    assert run(story()) == "not in journal"


async def receive_under(alphapo: AlphapoClient, signer: Signer, body: bytes) -> None:
    """Deliver a callback that this key has signed."""
    async with alphapo.receive_callback(signer.headers(body), body):
        raise AssertionError


def test_a_block_that_fails_is_tried_again_and_its_evidence_is_not_lost() -> None:
    """What the callback says is in the journal before the block begins."""

    async def story() -> tuple[list[bool], str]:
        seen: list[bool] = []
        async with client(Wire([LOST], [NOT_FOUND] * 9), journal=Durable(), policy=RetryPolicy.none()) as alphapo:
            with pytest.raises(WithdrawalUnknown):
                await alphapo.withdraw(request())
            for error in (ValueError, asyncio.CancelledError, None):
                with contextlib.suppress(ValueError, asyncio.CancelledError):
                    async with alphapo.receive_callback(KEYS.headers(called()), called()) as callback:
                        seen.append(callback.is_new)
                        if error is not None:
                            assert (await alphapo.withdraw(request())).status == "confirmed"
                            raise error
            return [*seen, (await receive(alphapo, called())).is_new], callback.kind

    assert run(story()) == ([True, True, True, False], "ours")


def test_a_closed_client_receives_nothing() -> None:
    """Its journal is closed, too: let AlphaPo send it again."""

    async def story() -> None:
        alphapo = client(Wire())
        await alphapo.aclose()
        with pytest.raises(ConfigurationError):
            await receive(alphapo, called())

    run(story())


def test_a_callback_that_came_too_early_settles_its_withdrawal_when_it_comes_again() -> None:
    """First the withdrawal was unknown; then AlphaPo might have it; the repeated delivery shows that, and is not new."""

    async def story() -> tuple[list[tuple[str, bool]], str, list[str]]:
        journal, received = Durable(), []
        async with client(Wire([LOST], [NOT_FOUND] * 9), journal=journal, policy=RetryPolicy.none()) as alphapo:
            received.append(await receive(alphapo, called()))
            with pytest.raises(WithdrawalUnknown):
                await alphapo.withdraw(request())
            received += [await receive(alphapo, called()) for _ in range(2)]
            status = (await alphapo.withdraw(request())).status
        lines = [line.kind for line in await journal.history("default", "payout-17")]
        return [(one.kind, one.is_new) for one in received], str(status), lines

    result, status, lines = run(story())
    assert result == [("not in journal", True), ("ours", False), ("ours", False)]
    assert status == "confirmed"
    assert lines.count("callback") == 1


def test_a_callback_that_tells_too_little_while_its_withdrawal_is_sent_comes_again() -> None:
    """Busy, and no contradiction: the reply says more in a moment."""
    cut = msgspec.json.encode({"id": 7, "foreign_id": "payout-17", "type": "withdrawal", "status": "cancelled"})

    async def story() -> tuple[str, list[str]]:
        events: list[Event] = []
        async with client(Wire(seconds=2.0), journal=Durable(), on_event=events.append) as alphapo:
            paying = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(1)
            with pytest.raises(CallbackBusy, match="being sent"):
                await receive(alphapo, cut)
            await paying
            return (await receive(alphapo, cut)).kind, [event.name for event in events]

    kind, events = run(story())
    assert kind == "ours"
    assert "contradiction" not in events


@pytest.mark.parametrize(("seconds", "expected"), [(5.0, "busy"), (200.0, "contradicts")])
def test_a_callback_that_gives_too_little_is_taken_where_the_worker_of_its_row_is_gone(
    seconds: float, expected: str
) -> None:
    """No reply will give more, and AlphaPo delivers a callback for a day only: without a worker it would never be handled."""
    cut = msgspec.json.encode({"id": 7, "foreign_id": "payout-17", "type": "withdrawal", "status": "confirmed"})
    journal = Durable()

    async def story() -> tuple[str, bool]:
        async with client(Wire(["silent"]), journal=journal, close_grace=0.0) as alphapo:
            paying = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(1)
            left = deepcopy(journal)  # the worker is dead, as far as this copy knows
        await asyncio.gather(paying, return_exceptions=True)
        async with client(Wire(), journal=left) as other:
            await asyncio.sleep(seconds)
            try:
                kind: str = (await receive(other, cut)).kind
            except CallbackBusy:
                kind = "busy"
            row = await left.find("default", "payout-17")
            return kind, row is not None and row.look_ups_only

    assert run(story()) == (expected, expected != "busy")


def test_closing_waits_for_the_blocks_that_handle_callbacks() -> None:
    """As for what is under way: they end, and count as handled."""

    async def story() -> tuple[float, bool]:
        journal, loop = Durable(), asyncio.get_running_loop()
        alphapo = client(Wire(), journal=journal)

        async def handle() -> None:
            async with alphapo.receive_callback(KEYS.headers(called()), called()):
                await asyncio.sleep(3)

        handling = asyncio.ensure_future(handle())
        await asyncio.sleep(1)
        await alphapo.aclose()
        closed = loop.time()
        await handling
        async with client(Wire(), journal=journal) as another:
            return closed, (await receive(another, called())).is_new

    assert run(story()) == (3.0, False)


def test_a_callback_of_an_old_withdrawal_is_not_taken_for_known() -> None:
    """Of which the journal remembers no more than how it ended."""

    async def story() -> str:
        async with client(Wire(), journal=MemoryJournal(whole_rows=0)) as alphapo:
            await alphapo.withdraw(request())
            return (await receive(alphapo, called("cancelled"))).kind

    assert run(story()) == "not in journal"
