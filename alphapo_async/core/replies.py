"""What one reply of AlphaPo proves: `judge_reply` for the answer to a body, `judge_look_up` for the answer to a look-up.

A reply that is not in these tables proves nothing, and leaves an attempt in doubt. The facts behind them:
https://docs.alphapo.net/api-reference/errors (the two error shapes),
https://docs.alphapo.net/api-reference/endpoints/withdrawal-crypto (success) and
https://docs.alphapo.net/api-reference/transactions/fetch-transaction-metadata (look-up).
"""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec

from alphapo_async.core.codec import read_json, read_reply, read_transaction
from alphapo_async.core.comparison import Difference, compare_reply
from alphapo_async.core.errors import AUTHENTICATION_CODES
from alphapo_async.core.models import Transaction, Withdrawal, WithdrawalRequest

__all__ = [
    "INTERNAL_ERROR",
    "Accepted",
    "Answer",
    "AnswerName",
    "Duplicate",
    "Found",
    "InDoubt",
    "KeyRefused",
    "Mismatched",
    "NoAnswer",
    "NoReply",
    "NoneFound",
    "NotSent",
    "Proof",
    "ProofName",
    "Rejected",
    "Reply",
    "has_never_left",
    "judge_look_up",
    "judge_reply",
    "lets_in",
    "mark_never_left",
    "name_of",
    "reason_of",
    "retry_after_seconds",
    "why_unanswered",
]

# ── what comes in from the wire ──────────────────────────────────────────────────────────────────────────────────────


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A whole reply as it came: status, body and the three headers that matter."""

    status: int
    body: bytes = b""
    content_type: str = ""
    retry_after: str | None = None
    date: str | None = None

    def __repr__(self) -> str:
        return f"Reply(status={self.status}, body=<{len(self.body)} bytes>)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("status", self.status), ("body", f"<{len(self.body)} bytes>")]


class NoReply(msgspec.Struct, frozen=True, gc=False):
    """No whole reply came, and whether a byte of the request may have left all the same."""

    reason: str
    may_have_left: bool


def mark_never_left(cancellation: BaseException) -> None:
    """Have a cancellation say that no byte of the request it ended has left."""
    cancellation.never_left = True  # type: ignore[attr-defined]


def has_never_left(cancellation: BaseException) -> bool:
    """Return whether a cancellation says that no byte of the request it ended has left."""
    return getattr(cancellation, "never_left", False)


# ── what a reply to a body proves ────────────────────────────────────────────────────────────────────────────────────


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """AlphaPo has it: this foreign_id, this payment."""

    withdrawal: Withdrawal


class Mismatched(msgspec.Struct, frozen=True, gc=False):
    """AlphaPo shows a withdrawal that is not the one asked for: in doubt, and never followed by another body."""

    withdrawal: Withdrawal
    differences: tuple[Difference, ...]


class InDoubt(msgspec.Struct, frozen=True, gc=False):
    """It may have arrived, and nothing proves that it did."""

    reason: str


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """AlphaPo refused this body, and says why."""

    errors: dict[str, list[str]]


class Duplicate(msgspec.Struct, frozen=True, gc=False):
    """AlphaPo blames foreign_id, and not for its form: it has this id already."""

    errors: dict[str, list[str]]


class KeyRefused(msgspec.Struct, frozen=True, gc=False):
    """AlphaPo does not accept the key or the signature."""

    code: str


class NotSent(msgspec.Struct, frozen=True, gc=False):
    """This attempt was not processed: it never left, or AlphaPo throttled it."""

    reason: str
    retry_after: float | None = None

    @property
    def is_throttled(self) -> bool:
        """AlphaPo asked for a pause (429)."""
        return self.reason == THROTTLED


Proof: TypeAlias = Accepted | Mismatched | InDoubt | Rejected | Duplicate | KeyRefused | NotSent
"""What one reply to a body proves."""

THROTTLED = "throttled"
INTERNAL_ERROR: Final = "internal error"
"""Why a request got no reply where a programming error ended it."""


# ── what an answer to a look-up says ─────────────────────────────────────────────────────────────────────────────────


class Found(msgspec.Struct, frozen=True, gc=False):
    """AlphaPo shows a withdrawal."""

    transaction: Transaction


class NoneFound(msgspec.Struct, frozen=True, gc=False):
    """AlphaPo answered "none", which proves nothing: it may be another key's, or not visible yet."""


class NoAnswer(msgspec.Struct, frozen=True, gc=False):
    """AlphaPo did not answer the question."""

    reason: str
    status: int | None = None
    code: str | None = None
    retry_after: float | None = None

    @property
    def is_throttled(self) -> bool:
        """AlphaPo asked for a pause (429)."""
        return self.reason == THROTTLED


Answer: TypeAlias = Found | NoneFound | NoAnswer
"""What an answer to a look-up says."""


# ── what they are called, in the history, in events, in metrics and by the command line ──────────────────────────────

ProofName = Literal["accepted", "mismatch", "in_doubt", "rejected", "duplicate", "key_refused", "not_sent"]
"""What one reply to a body proves, in a word."""
AnswerName = Literal["found", "none", "no_answer"]
"""What an answer to a look-up says, in a word."""
_NAMES: Final[dict[type[Proof | Answer], ProofName | AnswerName]] = {
    Accepted: "accepted",
    Mismatched: "mismatch",
    InDoubt: "in_doubt",
    Rejected: "rejected",
    Duplicate: "duplicate",
    KeyRefused: "key_refused",
    NotSent: "not_sent",
    Found: "found",
    NoneFound: "none",
    NoAnswer: "no_answer",
}


def name_of(judged: Proof | Answer) -> ProofName | AnswerName:
    """Return the word for what a reply proves, or for what an answer to a look-up says."""
    return _NAMES[type(judged)]


def reason_of(judged: Proof | Answer) -> str | None:
    """Return in a few words, for people, why it is so; None where the word says it all."""
    return getattr(judged, "reason", None) or getattr(judged, "code", None)


# ── a reply to a body ────────────────────────────────────────────────────────────────────────────────

_OK = range(200, 300)
_CLIENT_ERROR = range(400, 500)
_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _REQUEST_TIMEOUT, _THROTTLED = 400, 401, 403, 404, 408, 429
_NEVER_A_NO = frozenset({_UNAUTHORIZED, _NOT_FOUND, _REQUEST_TIMEOUT})


def judge_reply(reply: Reply | NoReply, asked: WithdrawalRequest, now: float) -> Proof:
    """Return what the reply to a body proves about this attempt.

    Args:
        reply: what came back.
        asked: the payment that the body asks for.
        now: seconds since the epoch, for a `Retry-After` that is a date.
    """
    if isinstance(reply, NoReply):
        return InDoubt(reply.reason) if reply.may_have_left else NotSent(reply.reason)
    if reply.status in _OK:
        return _judge_success(reply, asked)
    if reply.status == _THROTTLED:
        return NotSent(THROTTLED, retry_after_seconds(reply, now))
    return _judge_refusal(reply) or InDoubt(f"HTTP {reply.status}")


def _judge_success(reply: Reply, asked: WithdrawalRequest) -> Proof:
    withdrawal = read_reply(reply.body)
    if withdrawal is None:
        return InDoubt(f"HTTP {reply.status} without a withdrawal")
    differences = compare_reply(asked, withdrawal).differences
    return Mismatched(withdrawal, differences) if differences else Accepted(withdrawal)


def _judge_refusal(reply: Reply) -> Proof | None:
    if reply.status not in _CLIENT_ERROR or reply.status in _NEVER_A_NO or _is_html(reply):
        return None
    content = read_json(reply.body)
    if not isinstance(content, dict):
        return None
    errors = _errors(content.get("errors"))
    if errors and _blames_foreign_id(errors):
        return Duplicate(errors)
    if _shows_a_withdrawal(content):
        return None
    return Rejected(errors) if errors else _judge_code(reply.status, content)


def _judge_code(status: int, content: dict[str, Any]) -> Proof | None:
    code = _code(content)
    if status == _BAD_REQUEST and code == "bad_content_format":
        return Rejected({"body": [str(content.get("error", "Bad content format"))]})
    if status == _FORBIDDEN and code is not None and code in AUTHENTICATION_CODES:
        return KeyRefused(code)
    return None


def _is_html(reply: Reply) -> bool:
    return "html" in reply.content_type.lower()


def _shows_a_withdrawal(content: dict[str, Any]) -> bool:
    """A "no" that shows a withdrawal in the same breath is neither a "no" nor a "none"."""
    return read_transaction(content.get("data")) is not None


def _code(content: dict[str, Any]) -> str | None:
    code = content.get("code")
    return code if isinstance(code, str) else None


def _errors(content: Any) -> dict[str, list[str]] | None:
    """Return the validation errors, each field with a list of texts; None for any other shape."""
    if not isinstance(content, dict) or not content:
        return None
    errors = {field: [texts] if isinstance(texts, str) else texts for field, texts in content.items()}
    return errors if all(_are_texts(texts) for texts in errors.values()) else None


def _are_texts(texts: Any) -> bool:
    return isinstance(texts, list) and bool(texts) and all(isinstance(text, str) for text in texts)


_OF_FORM = ("required", "must be", "format")
# "must be unique" is a word about a duplicate, not about form: these win.
_OF_DUPLICATE = ("taken", "already", "unique", "exist", "duplicate", "used", "in use", "differ", "distinct", "another")
_FOREIGN_ID = re.compile(r"foreign[\s_-]*id")


def _blames_foreign_id(errors: dict[str, list[str]]) -> bool:
    """`foreign_id` is blamed, under its own name or in the words of another field, for anything but its form."""
    return any(
        _FOREIGN_ID.search(f"{field} {text}".lower()) and not _is_about_form(text.lower())
        for field, texts in errors.items()
        for text in texts
    )


def _is_about_form(text: str) -> bool:
    return any(word in text for word in _OF_FORM) and not any(word in text for word in _OF_DUPLICATE)


# ── an answer to a look-up ──────────────────────────────────────────────────────────────────────────


def judge_look_up(reply: Reply | NoReply, now: float) -> Answer:
    """Return what an answer to a look-up shows; only a withdrawal in it proves anything."""
    if isinstance(reply, NoReply) or reply.status == _THROTTLED:
        return why_unanswered(reply, now)
    content = read_json(reply.body)
    if reply.status in _OK:
        return _judge_look_up_success(reply, content)
    return NoneFound() if _says_none(reply, content) else why_unanswered(reply, now)


def why_unanswered(reply: Reply | NoReply, now: float) -> NoAnswer:
    """Return why a reply of any kind does not answer a question."""
    if isinstance(reply, NoReply):
        return NoAnswer(reply.reason)
    if reply.status == _THROTTLED:
        return NoAnswer(THROTTLED, reply.status, retry_after=retry_after_seconds(reply, now))
    if reply.status in _OK:
        return NoAnswer("unexpected reply", reply.status)
    content = read_json(reply.body)
    return NoAnswer(f"HTTP {reply.status}", reply.status, _code(content) if isinstance(content, dict) else None)


def _judge_look_up_success(reply: Reply, content: Any) -> Answer:
    # The object stands alone on AlphaPo's page; one wrapped in `data`, as its POSTs are, is the same witness.
    bare = (
        content["data"]
        if isinstance(content, dict) and "id" not in content and isinstance(content.get("data"), dict)
        else content
    )
    transaction = read_transaction(bare)
    if transaction is not None:
        return Found(transaction)
    if reply.status == _OK[0] and (content is None or content == {}):
        return NoneFound()
    return NoAnswer(f"HTTP {reply.status} without a withdrawal", reply.status)


def _says_none(reply: Reply, content: Any) -> bool:
    """A JSON 404, a 400 that blames foreign_id, or a 403 with a code that is not about the key.

    "The foreign id field is required" is no answer: it says that the question was lost on its way.
    """
    if not isinstance(content, dict) or _is_html(reply) or _shows_a_withdrawal(content):
        return False
    if reply.status == _NOT_FOUND:
        return True
    if reply.status == _BAD_REQUEST:
        return _blames_foreign_id(_errors(content.get("errors")) or {})
    code = _code(content)
    return reply.status == _FORBIDDEN and code is not None and code not in AUTHENTICATION_CODES


# ── whether a key is accepted ────────────────────────────────────────────────────────────────────────────────────────


def lets_in(reply: Reply | NoReply) -> bool:
    """Return whether AlphaPo itself answered a signed question, and not with one of the four codes.

    A page of the edge, a throttled request and a failing server say nothing about the key.
    """
    if isinstance(reply, NoReply) or reply.status not in (*_OK, *_CLIENT_ERROR) or _is_html(reply):
        return False
    content = read_json(reply.body)
    is_answer = reply.status not in (_REQUEST_TIMEOUT, _THROTTLED) and isinstance(content, dict)
    return is_answer and _code(content) not in AUTHENTICATION_CODES


_SECONDS = re.compile(r"\d{1,9}", re.ASCII)


def retry_after_seconds(reply: Reply, now: float) -> float | None:
    """Return the seconds that `Retry-After` asks for, as seconds or as a date; None if it asks for nothing readable.

    A date is read against the reply's own `Date` where it has one, so that a wrong clock on either side does not
    matter.
    """
    if reply.retry_after is None:
        return None
    text = reply.retry_after.strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    until = _unix_time(text)
    if until is None:
        return None
    since = _unix_time(reply.date) if reply.date else None
    return max(0.0, until - (now if since is None else since))


def _unix_time(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        # The dates of HTTP are all GMT; an old form does not say so, and would be taken for local time.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
