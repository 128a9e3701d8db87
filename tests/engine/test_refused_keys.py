"""The keys of a client: what a worker may claim, and who hears that a key is refused."""

from __future__ import annotations

import asyncio
from typing import Any

from alphapo_async.core.replies import Accepted, KeyRefused, Reply
from alphapo_async.engine.refused_keys import RefusedKeys
from tests.support.rows import DOUBTED, TOLD, row
from tests.support.virtual import run

REFUSED = KeyRefused("bad_header_key")
LET_IN = Reply(200, b"{}")


class Heard:
    """A client's keys, and what they call."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str | None]] = []
        self.given_up: list[Any] = []
        self.keys = RefusedKeys(
            "new",
            20.0,
            give_up=self.given_up.append,
            on_change=lambda key, code: self.changes.append((key, code)),
        )


def test_a_refusal_is_reported_once_and_holds_back_its_key_alone() -> None:
    """Until a body under the key is answered otherwise."""
    events = Heard()
    keys = events.keys
    keys.judged("new", Accepted(TOLD), 0.0)
    assert keys.held_back == frozenset()
    keys.judged("new", REFUSED, 1.0)
    keys.judged("new", REFUSED, 2.0)
    assert keys.held_back == frozenset({"new"})
    assert (keys.code_of("new"), keys.code_of("old")) == ("bad_header_key", None)
    assert repr(keys) == "RefusedKeys(current='new', refused=['new'])"
    keys.judged("old", Accepted(TOLD), 3.0)
    keys.judged("new", Accepted(TOLD), 3.0)
    assert keys.held_back == frozenset()
    assert events.changes == [("new", "bad_header_key"), ("new", None)]


def test_only_what_began_before_a_refusal_is_held_back_by_it() -> None:
    """A direct call, or another pass, may send under the key after it."""
    keys = Heard().keys
    before = keys.refusals
    keys.judged("new", REFUSED, 1.0)
    assert keys.is_refused_since("new", before)
    assert not keys.is_refused_since("new", keys.refusals)
    assert not keys.is_refused_since("old", before)
    keys.judged("new", Accepted(TOLD), 2.0)
    assert not keys.is_refused_since("new", before)


def test_a_refused_key_lets_one_row_find_out_once_the_question_is_let_in() -> None:
    """One at a time; what began before the refusal gives back no place that it did not take."""
    keys = Heard().keys
    with keys.claimed("new") as early:
        keys.judged("new", REFUSED, 1.0)
        assert keys.to_ask(20.9) == []
        assert keys.to_ask(21.0) == ["new"]
        with keys.claimed("new") as is_claimed:
            assert not is_claimed
        keys.answered("new", LET_IN, 21.0)
        assert keys.to_ask(99.0) == []
        assert keys.held_back == frozenset()
        with keys.claimed("new") as first, keys.claimed("new") as second:
            assert (early, first, second) == (True, True, False)
            assert keys.held_back == frozenset({"new"})
        with keys.claimed("new") as again:
            assert again


def test_an_answer_after_the_key_was_accepted_is_forgotten() -> None:
    """A direct call was quicker than the question."""
    keys = Heard().keys
    keys.answered("new", LET_IN, 1.0)
    assert keys.code_of("new") is None
    assert keys.to_ask(99.0) == []


def test_bodies_that_queue_under_a_refused_key_give_up_their_places() -> None:
    """Those under other keys keep theirs."""

    async def story() -> None:
        events, loop = Heard(), asyncio.get_running_loop()
        refused, other = loop.create_future(), loop.create_future()
        events.keys.queued |= {refused: "new", other: "old"}
        events.keys.judged("new", REFUSED, 1.0)
        assert events.given_up == [refused]

    run(story())


def test_the_key_of_a_row_is_the_current_one_until_it_is_in_doubt() -> None:
    """As the journal's rows are taken on."""
    keys = Heard().keys
    assert (keys.key_for(row()), keys.key_for(DOUBTED)) == ("new", "key")
