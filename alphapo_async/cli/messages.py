"""What errors of one withdrawal say to somebody who types a command: options and commands, and nothing in Python. Pure."""

from __future__ import annotations

import re
from typing import Final

from alphapo_async.core.errors import JournalError, WithdrawalError, WithdrawalUnknown

__all__ = ["CHECK_THE_KEY", "advice", "happened", "is_key_refused", "spoken_problem"]

CHECK_THE_KEY: Final = "Check ALPHAPO_KEY, ALPHAPO_SECRET, the host and the key's IP allowlist"
_KEEP: Final = "Keep it pending: do not refund it and do not pay it under a new foreign_id."
_STEPS: Final = {
    "rejected": "Correct the request, or release the funds; --retry-rejected sends the same request again.",
    "not_sent": "Run the same command again, or release the funds.",
    "unknown": f"{_KEEP} Running the same command again is safe and looks it up.",
    "key_refused": f"{CHECK_THE_KEY}, then run the same command again.",
    "journal": "Run the same command again once the journal works.",
}
_STEPS_OF_RESUME: Final = {
    "rejected": "Correct the request, or release the funds.",
    "not_sent": "Request it again under the same foreign_id, or release the funds.",
    "unknown": f"{_KEEP} Another pass, or `alphapo worker`, looks it up.",
    "key_refused": f"{CHECK_THE_KEY}, then request it again.",
}
_PROBLEMS: Final = (
    (r'; make the client with amount_format="string"\.', ": pass --amount-format string."),
    (r"; send an internal id, or set allow_personal_reference=True\.", "; give an internal id."),
    (r"without_tag=True says that", "--no-tag says that"),
    (r"together with without_tag:", "together with --no-tag:"),
)


def happened(error: WithdrawalError | JournalError) -> str:
    """Return what an error says, without its advice to programs."""
    return str(error).removesuffix(error.next_step).rstrip()


def advice(error: WithdrawalError | JournalError, *, of_resume: bool = False) -> str:
    """Return what to do now.

    Args:
        error: of a withdrawal.
        of_resume: it was told by a command that was given no request to correct or to repeat.
    """
    kind = "journal" if isinstance(error, JournalError) else error.outcome
    steps = {**_STEPS, **_STEPS_OF_RESUME} if of_resume else _STEPS
    if isinstance(error, WithdrawalUnknown) and error.reason == "key":
        return f"{_KEEP} No pass settles it without its key: add the key to that file, then run the same command again."
    if is_key_refused(error):
        return f"{steps['key_refused']} {_KEEP}"
    return steps.get(kind, error.next_step)


def is_key_refused(error: object) -> bool:
    """Return whether a row stays open because AlphaPo does not accept the key."""
    return isinstance(error, WithdrawalUnknown) and error.reason == "key refused"


def spoken_problem(text: str) -> str:
    """Return what is wrong with a field, in the words of `alphapo withdraw`."""
    for pattern, words in _PROBLEMS:
        text = re.sub(pattern, words, text)
    return text
