"""What one client knows of one of its keys: whether AlphaPo accepts it, and when to find out again.

Only the reply to a body shows that a key is refused, and only the reply to a body shows that it is accepted again. In between a worker asks
a question that moves no money, so that a refused key costs AlphaPo one small request every `wait_max`, and no body.
"""

from __future__ import annotations

from math import inf
from typing import Final

import msgspec
from msgspec.structs import replace

from alphapo_async.core.replies import (
    Accepted,
    Duplicate,
    KeyRefused,
    Mismatched,
    NoReply,
    Proof,
    Rejected,
    Reply,
    lets_in,
)
from alphapo_async.core.row import Row, counted_as

__all__ = ["ACCEPTED", "KeyState", "after_body", "after_question", "key_for"]


class KeyState(msgspec.Struct, frozen=True, gc=False):
    """Whether a key is refused. Times are seconds of the event loop's clock."""

    code: str | None = None
    """AlphaPo's code for the refusal; None while the key is accepted."""
    ask_at: float = inf
    """When `accounts/list` is asked next."""
    may_send_one: bool = False
    """`accounts/list` was answered with none of the four codes: one body may find out."""


ACCEPTED: Final = KeyState()


def after_body(state: KeyState, proof: Proof, now: float, wait_max: float) -> KeyState:
    """Return the state after the reply to a body that was signed with the key."""
    match proof:
        case KeyRefused(code):
            is_asked_soon = state.code is not None and not state.may_send_one
            return KeyState(code, state.ask_at if is_asked_soon else now + wait_max)
        case Accepted() | Mismatched() | Rejected() | Duplicate():
            return ACCEPTED
        case _:
            # The one body found out nothing: the question comes first again.
            return replace(state, may_send_one=False, ask_at=now + wait_max) if state.may_send_one else state


def after_question(state: KeyState, reply: Reply | NoReply, now: float, wait_max: float) -> KeyState:
    """Return the state after `accounts/list` was asked with the key."""
    if state.code is None:
        return state  # a body was accepted meanwhile
    if lets_in(reply):
        return replace(state, may_send_one=True, ask_at=inf)
    return replace(state, ask_at=now + wait_max)


def key_for(row: Row, current: str) -> str:
    """Return the key under which a row is sent or looked up next: its own in doubt and settled, else the current one."""
    return current if counted_as(row) == "open" else row.key_fingerprint
