"""The keys of one client: which of them AlphaPo refuses, and what a worker may still claim under them.

What a reply means for a key is decided in `core.key_state`. A refused key is a state of this client alone: another client may have the
right secret for the same key. Direct calls always send; these rules hold for work without a caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from alphapo_async.core.key_state import ACCEPTED, KeyState, after_body, after_question, key_for
from alphapo_async.core.replies import KeyRefused, NoReply, Proof, Reply
from alphapo_async.core.row import Row
from alphapo_async.engine.limiter import QueuedRequest

__all__ = ["RefusedKeys"]


class RefusedKeys:
    """The keys of one client.

    Args:
        current: fingerprint of the key that signs new bodies.
        wait_max: seconds between two questions about a refused key.
        give_up: takes a body's place in the queue away.
        on_change: called with a fingerprint, and with AlphaPo's code when the key begins to be refused, or None when it is accepted again.
    """

    def __init__(
        self,
        current: str,
        wait_max: float,
        *,
        give_up: Callable[[QueuedRequest], None],
        on_change: Callable[[str, str | None], None],
    ) -> None:
        self.current = current
        self.queued: dict[QueuedRequest, str] = {}
        """Bodies of a worker that queue, and their keys: none of them leaves once the key is refused."""
        self._wait_max = wait_max
        self._give_up = give_up
        self._on_change = on_change
        self.refused: dict[str, KeyState] = {}
        """Of the keys that are refused."""
        self._finding_out: set[str] = set()
        """Refused keys under which one row is being worked on."""
        self._refusals: dict[str, int] = {}
        self.refusals = 0
        """How many bodies were refused for their key so far; a mark for `is_refused_since`."""

    def __repr__(self) -> str:
        return f"RefusedKeys(current={self.current!r}, refused={sorted(self.refused)})"

    def code_of(self, key: str) -> str | None:
        """Return AlphaPo's code for a refused key; None while the key is accepted."""
        return self.refused.get(key, ACCEPTED).code

    def key_for(self, row: Row) -> str:
        """Return the key under which a row is sent or looked up next."""
        return key_for(row, self.current)

    def is_refused_since(self, key: str, mark: int) -> bool:
        """Return whether the key is refused, and a body was refused for it after `refusals` was at this mark."""
        return key in self.refused and self._refusals[key] > mark

    def judged(self, key: str, proof: Proof, now: float) -> None:
        """Take note of what the reply to a body proves about its key."""
        before = self.refused.get(key, ACCEPTED)
        after = after_body(before, proof, now, self._wait_max)
        if isinstance(proof, KeyRefused):
            self.refusals += 1
            self._refusals[key] = self.refusals
            self._let_go_of_queued(key)
        if after.code is None:
            self.refused.pop(key, None)
        else:
            self.refused[key] = after
        if (before.code is None) is not (after.code is None):
            self._on_change(key, after.code)

    def _let_go_of_queued(self, key: str) -> None:
        for place, queued in self.queued.items():
            if queued == key:
                self._give_up(place)

    # ── what a worker does ───────────────────────────────────────────────────────────────────────────────────────────

    @property
    def held_back(self) -> frozenset[str]:
        """The keys under which a worker takes no row now."""
        return frozenset(
            key for key, state in self.refused.items() if not state.may_send_one or key in self._finding_out
        )

    @contextmanager
    def claimed(self, key: str) -> Iterator[bool]:
        """Return whether a worker may work on a row under this key while the block runs; under a refused key on one row at a time."""
        if key not in self.refused or key in self.held_back:
            yield key not in self.refused
            return
        self._finding_out.add(key)
        try:
            yield True
        finally:
            self._finding_out.discard(key)

    def to_ask(self, now: float) -> list[str]:
        """Return the refused keys with which `accounts/list` is to be asked now."""
        return [key for key, state in self.refused.items() if state.ask_at <= now]

    def answered(self, key: str, reply: Reply | NoReply, now: float) -> None:
        """Take note of the answer to `accounts/list`."""
        state = after_question(self.refused.get(key, ACCEPTED), reply, now, self._wait_max)
        if state.code is not None:
            self.refused[key] = state
