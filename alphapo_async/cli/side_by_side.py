"""One withdrawal as the journal knows it and as AlphaPo shows it, side by side. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from alphapo_async.cli.exit_codes import Exit, code_of
from alphapo_async.cli.journal_rows import money, why
from alphapo_async.cli.output import amount, pairs, requested_text, txids_text
from alphapo_async.cli.row_fields import outcome_of
from alphapo_async.core.errors import AlphapoUnavailable
from alphapo_async.core.models import ENDED, Money, Transaction, Withdrawal
from alphapo_async.core.row import NEGATIVE_STATES, Row, is_stale_no, own_transaction

__all__ = ["contradiction", "news", "one_below_the_other", "side_by_side", "status_code"]

_NAMES = (
    "known",
    "money",
    "why",
    "status",
    "id",
    "end_user_reference",
    "asked",
    "sent",
    "received",
    "address",
    "tag",
    "txid",
    "error",
    "attempts",
    "look-ups",
)


def side_by_side(
    row: Row | None, answer: Transaction | AlphapoUnavailable | None, *, is_durable: bool
) -> list[tuple[str, str, str]]:
    """Return name, the journal's value and AlphaPo's value, line by line; names without a value are left out."""
    left, right = _journal(row, is_durable=is_durable), _alphapo(answer)
    return [(name, left.get(name, ""), right.get(name, "")) for name in _NAMES if left.get(name) or right.get(name)]


def one_below_the_other(heads: Sequence[str], rows: Iterable[tuple[str, str, str]]) -> list[str]:
    """Return the same as lines, one side below the other, for a terminal that is too narrow; each txid has a line."""
    title, *sides = heads
    lines, kept = [title], list(rows)
    for place, side in enumerate(sides, 1):
        named = [(row[0], part) for row in kept for part in _parts(row[0], row[place])]
        lines += ["", side, *pairs(named)]
    return lines


def _parts(name: str, value: str) -> list[str]:
    """Return the values of a name that have a line each."""
    return value.split() if name == "txid" else [value] if value else []


def contradiction(before: Row | None, now: Row | None, answer: Transaction | AlphapoUnavailable | None) -> str | None:
    """Return a sentence if AlphaPo contradicts what was reported to a caller; None otherwise.

    Args:
        before: what the journal knew before AlphaPo was asked.
        now: what it knows since.
        answer: AlphaPo's.
    """
    if now is None or not isinstance(answer, Transaction):
        return None
    if now.state == "conflict":
        return "AlphaPo has the existing withdrawal under this foreign_id. This payment was not sent, and no worker will send it."
    if now.state in NEGATIVE_STATES:
        return f"AlphaPo has a withdrawal under this foreign_id, and it is not taken for this one, which is {_state(now)}. {_LOOK}"
    if now.contradiction is None:
        return None
    was = (
        f"It was {before.decision}; "
        if before is not None and before.state in NEGATIVE_STATES and before.decision
        else ""
    )
    return f"{was}AlphaPo contradicts what was reported before: {now.contradiction.replace('_', ' ')}. {_LOOK}"


def news(
    before: Row | None, now: Row | None, answer: Transaction | AlphapoUnavailable | None, option: str
) -> str | None:
    """Return a sentence if AlphaPo shows a final status that the journal did not have; None otherwise.

    Args:
        before: what the journal knew before AlphaPo was asked.
        now: what it knows since.
        answer: AlphaPo's.
        option: names the journal to another command, after a blank; empty where the environment does.
    """
    if before is None or not isinstance(answer, Transaction) or not answer.is_final:
        return None
    if _status(before) == answer.status:
        return None
    has = "recorded" if now is not None and _status(now) == answer.status else "did not record"
    return (
        f"The journal {has} {answer.status} from this answer. `alphapo resume --refresh{option}` records the status of every withdrawal "
        "that is not final."
    )


def _status(row: Row) -> str | None:
    return None if row.withdrawal is None else row.withdrawal.status


_LOOK = "A person should look at it."


def _state(row: Row) -> str:
    return outcome_of(row).replace("_", " ")


def status_code(row: Row | None, answer: Transaction | AlphapoUnavailable | None) -> Exit:
    """Return the exit code: from AlphaPo's answer if it is usable, from the journal otherwise."""
    if isinstance(answer, Transaction) and (row is None or row.state != "open"):
        return Exit.REFUSED if answer.status in ENDED else Exit.ALL_ACCEPTED
    if isinstance(answer, AlphapoUnavailable):
        return Exit.KEY_REFUSED if answer.is_key_refused else Exit.UNKNOWN
    return Exit.UNKNOWN if row is None or is_stale_no(row) else code_of([outcome_of(row)])


def _journal(row: Row | None, *, is_durable: bool) -> Mapping[str, str]:
    if row is None:
        return {"known": "nothing" if is_durable else "nothing: a journal in memory has only what its own process did"}
    asked, known = row.revision.payment, row.withdrawal or Withdrawal(id=None)
    shown = {
        "known": _state(row),
        "money": money(row),
        "why": why(row),
        "status": known.status or "",
        "id": "" if known.id is None else str(known.id),
        "sent": _figure(known.sender_amount, known.sender_currency),
        "received": _figure(known.receiver_amount, known.receiver_currency),
        "txid": txids_text(own_transaction(row)),
        "error": row.contradiction or "",
        "attempts": str(row.attempts),
        "look-ups": str(row.look_ups),
    }
    if asked is None:
        return shown
    return {
        **shown,
        "asked": requested_text(asked),
        "address": asked.address,
        "tag": asked.tag or "",
        "end_user_reference": asked.end_user_reference,
    }


def _alphapo(answer: Transaction | AlphapoUnavailable | None) -> Mapping[str, str]:
    if answer is None:
        return {"known": "not visible to this key"}
    if isinstance(answer, AlphapoUnavailable):
        return {"known": "no answer"}
    sent, received = answer.currency_sent or Money(), answer.currency_received or Money()
    at = answer.crypto_address
    return {
        "known": "found",
        "status": answer.status or "",
        "id": str(answer.id),
        "end_user_reference": answer.end_user_reference or "",
        "sent": _figure(sent.amount, sent.currency),
        "received": _figure(received.amount, received.currency),
        "address": (at and at.address) or "",
        "tag": (at and at.tag) or "",
        "txid": txids_text(answer),
        "error": answer.error or "",
    }


def _figure(figure: Decimal | None, currency: str | None) -> str:
    return "" if figure is None else amount(figure, currency)
