"""Settings: checked when the client is made, so that a wrong one never waits for the first withdrawal."""

from __future__ import annotations

import inspect
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from alphapo_async.core.codec import AMOUNT_FORMATS
from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.events import Event
from alphapo_async.core.frames import hides_arguments
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.setting_checks import check_number, check_path, check_text, check_web_address, may_hold_password
from alphapo_async.core.signer import Signer
from alphapo_async.journal import VERBS, Journal, open_journal
from alphapo_async.session import SessionManager

__all__ = [
    "all_signers",
    "by_fingerprint",
    "check_account",
    "check_base_url",
    "check_filled",
    "check_hook",
    "check_rate",
    "from_environment",
    "is_loopback",
    "missing_credentials",
    "read_retired_keys",
    "the_journal",
]

RETIRED_KEYS: Final = "ALPHAPO_RETIRED_KEYS_FILE"
PRODUCTION: Final = "https://app.alphapo.net"
"""AlphaPo's production host (https://docs.alphapo.net/api-reference/endpoints/withdrawal-crypto)."""


def check_base_url(base_url: str) -> str:
    """Return scheme, host and port, without a closing slash or the API's own path.

    Raises:
        ConfigurationError: no such URL, or plain http to a host that is not loopback.
    """
    parts = check_web_address("base_url", base_url, PRODUCTION)
    if "@" in parts.netloc:
        raise ConfigurationError(
            "base_url holds a user or a password, and AlphaPo asks for none. It is not shown. Nothing was sent."
        )
    if parts.path.rstrip("/") not in ("", "/api/v2"):
        raise ConfigurationError(
            f"base_url must have no path, not {parts.path!r}; the API's own is added to it. Nothing was sent."
        )
    if parts.scheme == "http" and not is_loopback(base_url):
        raise ConfigurationError(
            f"base_url must be https: http to {parts.hostname!r} would show withdrawals to the network. Nothing was sent."
        )
    return f"{parts.scheme}://{parts.netloc}"


def is_loopback(base_url: str) -> bool:
    """Tell whether the host is this machine: `localhost`, 127.0.0.0/8 or ::1."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_account(account: object) -> str:
    """Return your name for the merchant account.

    Raises:
        ConfigurationError: not a name, or one that only looks like another.
    """
    return check_text("account", account)


def check_rate(max_rate: float | None) -> float | None:
    """Return the withdrawals per second.

    Raises:
        ConfigurationError: not a number, or not above 0.
    """
    if max_rate is None:
        return None
    return check_number("max_rate", max_rate, "withdrawals per second", may_be_zero=False)


_ARGUMENTS: Final = {0: "no argument", 1: "one argument"}


def check_hook(name: str, hook: object, *, is_async: bool, arguments: int) -> None:
    """Pass if a function that was handed in can be called as documented; called in vain, it would fail only when it is needed.

    Args:
        name: of the argument.
        hook: the function, method or callable object.
        is_async: whether it is awaited.
        arguments: how many it is called with, by position.

    Raises:
        ConfigurationError: it cannot.
    """
    kind = "a coroutine function (async def)" if is_async else "an ordinary function (def)"
    wanted = f"{name} must be {kind} that takes {_ARGUMENTS[arguments]}"
    if not callable(hook):
        raise ConfigurationError(f"{wanted}, not {type(hook).__name__}.")
    if (found := _kind_of(hook)) != kind:
        raise ConfigurationError(f"{wanted}; this is {found}.")
    try:
        inspect.signature(hook).bind(*(None,) * arguments)
    except TypeError as error:
        raise ConfigurationError(f"{wanted}; this one does not: {error}.") from None
    except ValueError:
        pass  # of what is written in C nothing is known before it is called


def _kind_of(hook: Callable[..., object]) -> str:
    """Return what comes of calling it, as far as it can be seen."""
    both = (hook, getattr(type(hook), "__call__", None))  # noqa: B004 - an object is called by its class's method
    if any(map(inspect.iscoroutinefunction, both)):
        return "a coroutine function (async def)"
    if any(inspect.isasyncgenfunction(one) or inspect.isgeneratorfunction(one) for one in both):
        return "a generator function, which does nothing when it is called"
    return "an ordinary function (def)"


def check_client_settings(
    account: object, policy: object, session: object, amount_format: object, on_event: Callable[[Event], None] | None
) -> None:
    """Pass if these settings of a client are of the right kind.

    Raises:
        ConfigurationError: one of them is not.
    """
    if amount_format not in AMOUNT_FORMATS:
        raise ConfigurationError(f'amount_format must be "number" or "string", not {amount_format!r}.')
    check_account(account)
    if policy is not None and not isinstance(policy, RetryPolicy):
        raise ConfigurationError(f"policy must be a RetryPolicy, not {type(policy).__name__}.")
    if session is not None and not isinstance(session, SessionManager):
        raise ConfigurationError(f"session must be a SessionManager, not {type(session).__name__}.")
    if on_event is not None:
        check_hook("on_event", on_event, is_async=False, arguments=1)


def all_signers(current: Signer, retired: Iterable[tuple[str, str]]) -> tuple[Signer, ...]:
    """Return the signers of all key pairs, the current one first.

    Raises:
        ConfigurationError: `retired` is something else than pairs.
    """
    if not isinstance(retired, Iterable):
        raise ConfigurationError("retired_keys must be (key, secret) pairs.")
    signers = [current]
    for pair in retired:
        if not isinstance(pair, tuple) or len(pair) != 2:  # noqa: PLR2004 - a pair
            raise ConfigurationError("retired_keys must be (key, secret) pairs.")
        signers.append(Signer(*pair))
    return tuple(signers)


def by_fingerprint(signers: Iterable[Signer]) -> Mapping[str, Signer]:
    """Return them by the fingerprints of their keys; of several with one key, the first."""
    named: dict[str, Signer] = {}
    for signer in signers:
        named.setdefault(signer.fingerprint, signer)
    return named


def the_journal(journal: Journal | str | Path | None, base_url: str) -> Journal:
    """Return the journal to use.

    Raises:
        ConfigurationError: none was named for a host that is not loopback, or its name is not known.
    """
    if journal is None:
        if not is_loopback(base_url):
            raise ConfigurationError(
                'Set ALPHAPO_JOURNAL=payouts.db (or journal="payouts.db") to a file on a permanent disk, or to a postgresql:// URL. '
                "The journal records every withdrawal before it is sent, so that no restart pays it twice. Nothing was sent. Only a "
                "local sandbox may go without a journal."
            )
        return open_journal("memory")
    if isinstance(journal, str | Path):
        return open_journal(journal)
    if not hasattr(journal, "is_durable") or not all(callable(getattr(journal, verb, None)) for verb in VERBS):
        raise ConfigurationError(
            'journal must be a name ("payouts.db", "postgresql://…", "memory") or what open_journal returns, '
            f"not {type(journal).__name__}. Nothing was sent."
        )
    return journal


_VARIABLES: Final = {"base_url": "ALPHAPO_BASE_URL", "journal": "ALPHAPO_JOURNAL", "account": "ALPHAPO_ACCOUNT"}


@hides_arguments
def from_environment(
    environment: Mapping[str, str], given: Mapping[str, Any] | None = None, *, needs_key: bool = True
) -> dict[str, Any]:
    """Return the client's arguments: those given, and those that the environment names.

    Args:
        environment: the variables.
        given: arguments that need no variable.
        needs_key: whether key and secret are among the arguments.

    Raises:
        ConfigurationError: key or secret is missing, a variable is empty or cannot be meant, or the file of the secret or of the retired
            keys cannot be read.
    """
    found: dict[str, Any] = dict(given or {})
    variables = _filled(environment, found)
    if needs_key:
        found |= _credentials(variables, found)
    for name, variable in _VARIABLES.items():
        if name not in found and variable in variables:
            text = variables[variable]
            found[name] = check_path(variable, text, is_secret=may_hold_password(text))
    if "retired_keys" not in found and RETIRED_KEYS in variables:
        found["retired_keys"] = read_retired_keys(variables[RETIRED_KEYS], RETIRED_KEYS)
    return found


def missing_credentials(environment: Mapping[str, str]) -> str:
    """Return what to say of key and secret that are not set; empty if both are."""
    return " ".join(_missing(environment, {}))


def _filled(environment: Mapping[str, str], given: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the variables that name arguments; those of arguments that are given are not read.

    Raises:
        ConfigurationError: one is set and empty.
    """
    names = {
        "ALPHAPO_KEY": "key",
        "ALPHAPO_SECRET": "secret",
        "ALPHAPO_SECRET_FILE": "secret",
        RETIRED_KEYS: "retired_keys",
        **{variable: name for name, variable in _VARIABLES.items()},
    }
    variables = {name: environment[name] for name in names if name in environment and names[name] not in given}
    check_filled(variables)
    return variables


def check_filled(variables: Mapping[str, str]) -> None:
    """Pass if no variable is empty.

    Raises:
        ConfigurationError: one is. It may have been meant: without it the default is AlphaPo's production host, or another journal.
    """
    if empty := [name for name, text in variables.items() if not text]:
        raise ConfigurationError(f"{', '.join(empty)}: set, but empty. Fill it, or unset it. Nothing was sent.")


def _credentials(variables: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return key and secret, as far as they are not given."""
    if missing := _missing(variables, given):
        raise ConfigurationError(" ".join([*missing, "Nothing was sent."]))
    found = {}
    if "key" not in given:
        found["key"] = check_text("ALPHAPO_KEY", variables["ALPHAPO_KEY"], is_secret=True)
    if "secret" not in given:
        found["secret"] = _secret(variables)
    return found


@hides_arguments
def read_retired_keys(path: str | Path, setting: str) -> tuple[tuple[str, str], ...]:
    """Return the key pairs of a file: one a line, key, blank, secret; empty lines and those that begin with # are skipped.

    Args:
        path: the file.
        setting: what named it, for the error.

    Raises:
        ConfigurationError: the file cannot be read, or a line is not a pair; the error names the line's number alone.
    """
    pairs = []
    for number, line in enumerate(_lines_of(path, setting), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if not _is_pair(words):
            raise ConfigurationError(
                f"{setting}, line {number}: a line is a key, a blank and its secret, both in printable ASCII. Nothing was sent."
            )
        pairs.append((words[0], words[1]))
    return tuple(pairs)


def _lines_of(path: str | Path, setting: str) -> list[str]:
    if isinstance(path, str):
        check_path(setting, path, is_secret=True)
    try:
        return Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError):
        pass
    # What it names is not shown: it may be a key or a secret itself.
    raise ConfigurationError(f"{setting} names a file that cannot be read. Nothing was sent.")


def _is_pair(words: list[str]) -> bool:
    try:
        Signer(*words)
    except (ConfigurationError, TypeError):
        return False
    return True


def _missing(variables: Mapping[str, str], given: Mapping[str, Any]) -> list[str]:
    """Return what to say of the credentials that are not there."""
    missing = []
    if "key" not in given and "ALPHAPO_KEY" not in variables:
        missing.append("ALPHAPO_KEY is not set: it holds the public API key.")
    if "secret" not in given and "ALPHAPO_SECRET" not in variables and "ALPHAPO_SECRET_FILE" not in variables:
        missing.append(
            "ALPHAPO_SECRET is not set, and neither is ALPHAPO_SECRET_FILE: one of them holds the secret key."
        )
    return missing


def _secret(variables: Mapping[str, str]) -> str:
    if "ALPHAPO_SECRET" in variables:
        return check_text("ALPHAPO_SECRET", variables["ALPHAPO_SECRET"], is_secret=True)
    path = check_path("ALPHAPO_SECRET_FILE", variables["ALPHAPO_SECRET_FILE"], is_secret=True)
    try:
        return Path(path).read_text(encoding="utf-8-sig").strip()
    except (OSError, ValueError):
        pass
    # What it names is not shown: it may be the secret itself.
    raise ConfigurationError("ALPHAPO_SECRET_FILE names a file that cannot be read. Nothing was sent.")
