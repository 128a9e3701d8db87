"""Which callback of a history is handed out again."""

from __future__ import annotations

import pytest

from alphapo_async.core.errors import CallbackError
from alphapo_async.core.history import Entry
from alphapo_async.core.replays import callback_to_replay, stored_callbacks


def line(status: str, at: float, *, what: str = "", last_at: float | None = None) -> Entry:
    """Return a line of a callback with this status."""
    body = b'{"id":7,"foreign_id":"f","status":"%s"}' % status.encode()
    return Entry(at, "callback", what or status, reply=body, count=1 if last_at is None else 2, last_at=last_at)


HISTORY = [
    Entry(1.0, "request", "recorded"),
    line("pending", 2.0, last_at=9.0),
    line("confirmed", 3.0),
    line("declined", 4.0, what="does not fit: address: asked 'a', AlphaPo shows 'b'"),
    Entry(5.0, "callback", "confirmed", reply=b""),
    Entry(6.0, "callback", "confirmed", reply=b'{"id":7,"foreign_id":"f","sta'),
]


def test_the_callback_that_was_delivered_last_is_replayed() -> None:
    """A repeated one counts from its last delivery; a status chooses among them; it is not new."""
    callback = callback_to_replay(HISTORY, "f", None)
    assert (callback.transaction.status, callback.kind, callback.is_new) == ("pending", "ours", False)
    assert callback_to_replay(HISTORY, "f", "confirmed").transaction.status == "confirmed"
    assert callback_to_replay(HISTORY, "f", "declined").kind == "contradicts"


def test_what_is_not_kept_is_a_sentence_that_names_what_is() -> None:
    """A redacted body, one that was cut, and a withdrawal without a callback."""
    with pytest.raises(
        CallbackError, match=r"with status 'cancelled' .*keeps: pending, confirmed, declined"
    ) as refused:
        callback_to_replay(HISTORY, "f", "cancelled")
    assert refused.value.reason == "not kept"
    with pytest.raises(CallbackError, match="keeps: none"):
        callback_to_replay(HISTORY[4:], "f", None)


def test_every_callback_is_listed_with_or_without_its_body() -> None:
    """In the order in which each was first delivered."""
    kept = stored_callbacks(HISTORY)
    assert [one.last_at for one in kept] == [9.0, 3.0, 4.0, 5.0, 6.0]
    assert [one.transaction is None for one in kept] == [False, False, False, True, True]
