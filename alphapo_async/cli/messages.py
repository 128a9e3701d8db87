"""The messages of errors on the command line: they name options, columns and commands, and no Python. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal

from alphapo_async.core.errors import AlphapoError, JournalError, WithdrawalError, WithdrawalUnknown

__all__ = [
    "AN_EARLIER_CALL",
    "CHECK_THE_KEY",
    "advice",
    "happened",
    "is_key_refused",
    "option_problem",
    "row_fact",
    "row_message",
    "row_problem",
    "warning_text",
]

AN_EARLIER_CALL: Final = (
    "An earlier call may have sent it: keep it pending, do not refund it and do not pay it under a new foreign_id."
)
"""About a withdrawal that this call did not send, and of which the journal says nothing."""
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
    "unknown": f"{_KEEP} Another pass, or `alphapo worker`, settles it.",
    "key_refused": f"{CHECK_THE_KEY}, then request it again.",
}
_STEPS_BY_COMMAND: Final = {
    "withdraw": _STEPS,
    "resume": {**_STEPS, **_STEPS_OF_RESUME},
    "batch": {
        **_STEPS,
        "rejected": "Correct the row, or release the funds; --retry-rejected sends it again as it is.",
    },
}
_OPTION_PROBLEMS: Final = (
    (r'; make the client with amount_format="string"\.', ": pass --amount-format string."),
    (r"; send an internal id, or set allow_personal_reference=True\.", "; give an internal id."),
    (r"without_tag=True says that", "--no-tag says that"),
    (r"together with without_tag:", "together with --no-tag:"),
)

_ROW_PROBLEMS: Final = (
    (r"; make the client with amount_format=\"string\"\.", ": pass --amount-format string."),
    (
        r"; send an internal id, or set allow_personal_reference=True\.",
        "; give an internal id, or a column allow_personal_reference with true.",
    ),
    (
        r"without_tag=True says that none is wanted\.",
        "if none is wanted, write true in a column without_tag, or leave a column tag empty and pass --no-tag.",
    ),
    (r"must be text, not \w+\.", "must be text in quotes."),
    (r"must be a Decimal, str or int, not \w+\.", "must be a number, or one in quotes."),
    (r"must be a mapping, not \w+\.", "must be a JSON object."),
)


def happened(error: WithdrawalError | JournalError) -> str:
    """Return what happened, without the error's advice to programs."""
    return str(error).removesuffix(error.next_step).rstrip()


def advice(error: WithdrawalError | JournalError, command: Literal["withdraw", "resume", "batch"] = "withdraw") -> str:
    """Return what to do now, with the options of the command that reports the error."""
    steps = _STEPS_BY_COMMAND[command]
    if isinstance(error, JournalError):
        keep = "" if error.may_release_funds or error.foreign_id is None else f"{AN_EARLIER_CALL} "
        return f"{keep}{steps['journal']}"
    if isinstance(error, WithdrawalUnknown) and error.reason == "key":
        return f"{_KEEP} No pass settles it without its key: add the key to that file, then run the same command again."
    if is_key_refused(error):
        return f"{steps['key_refused']} {_KEEP}"
    return steps.get(error.outcome, error.next_step)


def is_key_refused(error: object) -> bool:
    """Return whether a row stays open because AlphaPo does not accept the key."""
    return isinstance(error, WithdrawalUnknown) and error.reason == "key refused"


def row_message(error: AlphapoError) -> str:
    """Return what happened to a row of a file, or to the whole run, and what to do now."""
    if isinstance(error, WithdrawalError | JournalError):
        return f"{happened(error)} {advice(error, 'batch')}"
    return str(error)


def row_fact(error: AlphapoError | None) -> str | None:
    """Return what happened to a row, without what to do now; None where the error has no such advice."""
    return happened(error) if isinstance(error, WithdrawalError | JournalError) else None


def option_problem(text: str) -> str:
    """Return the problem with a field of `alphapo withdraw`, which is an option there."""
    return _with(text, _OPTION_PROBLEMS)


def row_problem(text: str) -> str:
    """Return the problem with a field of a row, which is a cell or a name there."""
    return _with(text, _ROW_PROBLEMS)


def warning_text(warnings: Mapping[str, str]) -> str:
    """Return the warnings about a row, field by field."""
    return f"warning: {' '.join(f'{field} {text}' for field, text in warnings.items())}"


def _with(text: str, replacements: Iterable[tuple[str, str]]) -> str:
    for pattern, words in replacements:
        text = re.sub(pattern, words, text)
    return text
