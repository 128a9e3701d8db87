"""Settings are checked when the client is made; a wrong one never waits for the first withdrawal."""

import re
import traceback
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapo_async.cli import alphapo
from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.signer import Signer
from alphapo_async.journal import open_journal
from alphapo_async.journal.memory import MemoryJournal
from alphapo_async.session import SessionManager
from alphapo_async.settings import (
    all_signers,
    by_fingerprint,
    check_account,
    check_base_url,
    check_client_settings,
    check_hook,
    check_rate,
    from_environment,
    is_loopback,
    missing_credentials,
    read_retired_keys,
    the_journal,
)

PRODUCTION = "https://app.alphapo.net"
KEYED = {"ALPHAPO_KEY": "made-up-key", "ALPHAPO_SECRET": "made-up-secret"}

# ── base_url ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given_url", "kept"),
    [
        (PRODUCTION, PRODUCTION),
        (f"{PRODUCTION}/", PRODUCTION),
        (f"{PRODUCTION}/api/v2", PRODUCTION),
        (f"{PRODUCTION}/api/v2/", PRODUCTION),
        ("HTTPS://app.alphapo.net:8443", "https://app.alphapo.net:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.9.9.9", "http://127.9.9.9"),
        ("http://localhost:1/", "http://localhost:1"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_base_url_is_kept_as_scheme_host_and_port(given_url: str, kept: str) -> None:
    """A closing slash and the API's own path are left out, nothing else."""
    assert check_base_url(given_url) == kept


@pytest.mark.parametrize(
    "url",
    [
        "",
        "app.alphapo.net",
        "//app.alphapo.net",
        "https://",
        "https://:443",
        "https://[::1",
        "https://app.alphapo.net:99999",
        "https://app.alphapo.net:x",
        "ftp://app.alphapo.net",
        "file:///etc/passwd",
        "https://app.alphapo.net?x=1",
        "https://app.alphapo.net#x",
        "https://user:word@app.alphapo.net",
        "http://localhost@evil.example",
        "https://app.alphapo.net ",
        " https://app.alphapo.net",
        "https://app.alphapo.net\n",
        "https://app alphapo.net",
        "https://app.alphapo.net/api/v1",
        "https://app.alphapo.net/api/v2/withdrawal",
        "http://app.alphapo.net",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://127.1.evil",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "http://[::2]",
        None,
        7,
    ],
)
def test_a_base_url_that_cannot_be_meant_is_refused(url: Any) -> None:
    """No URL, something beside scheme and host, a blank that would spoil every request, or plain http to the network."""
    with pytest.raises(ConfigurationError, match=r"^base_url .* Nothing was sent\.$"):
        check_base_url(url)


def test_a_password_in_the_base_url_is_not_shown() -> None:
    """The refusal does not repeat what may be a credential."""
    with pytest.raises(ConfigurationError) as caught:
        check_base_url("https://user:hunter2@app.alphapo.net")

    assert "hunter2" not in str(caught.value)


@settings(derandomize=True)
@given(st.ip_addresses(v=4))
def test_plain_http_is_for_127_alone(address: Any) -> None:
    """Of all IPv4 addresses exactly 127.0.0.0/8 may be spoken to without TLS."""
    url = f"http://{address}"
    is_here = str(address).startswith("127.")

    assert is_loopback(url) is is_here
    if is_here:
        assert check_base_url(url) == url
    else:
        with pytest.raises(ConfigurationError, match="https"):
            check_base_url(url)


def test_a_url_without_host_is_not_loopback() -> None:
    """Nowhere is not here."""
    assert not is_loopback("nonsense")


# ── accounts and rates ───────────────────────────────────────────────────────────────────────────────────────────────


def test_an_account_is_a_name_that_cannot_be_mistaken() -> None:
    """A journal knows a withdrawal by account and foreign_id: under a name that only looks like this one it would be paid again."""
    assert check_account("north west") == "north west"
    for wrong in ("", " ops", "ops\n", "o\u200bps", '"ops"', None, 7):
        with pytest.raises(ConfigurationError, match=r"^account .* Nothing was sent\.$"):
            check_account(wrong)


def test_rates_are_above_zero_or_not_set() -> None:
    """None sets no limit; anything above 0 does."""
    assert check_rate(None) is None
    assert check_rate(5) == 5.0
    assert check_rate(0.1) == 0.1


@pytest.mark.parametrize("rate", [0, 0.0, -1, float("inf"), float("nan"), True, "5"])
def test_other_rates_are_refused(rate: Any) -> None:
    """A rate of nothing would never send, and an endless one is spelt None."""
    with pytest.raises(ConfigurationError, match="max_rate must be"):
        check_rate(rate)


# ── signers and journals ─────────────────────────────────────────────────────────────────────────────────────────────


def test_signers_are_found_by_fingerprint_the_current_one_first() -> None:
    """Retired keys follow; a key that is both current and retired signs with the current secret."""
    current = Signer("key-2", "secret-2")
    old = Signer("key-1", "secret-1")

    signers = by_fingerprint(all_signers(current, [("key-1", "secret-1"), ("key-2", "another secret")]))

    assert list(signers) == [current.fingerprint, old.fingerprint]
    assert signers[current.fingerprint] is current
    assert signers[old.fingerprint].sign(b"x") == old.sign(b"x")


@pytest.mark.parametrize("pair", ["ab", ("key",), ("key", "secret", "more"), ["key", "secret"], None])
def test_a_retired_key_is_a_pair(pair: Any) -> None:
    """A string of two letters is no pair, and nothing of it is shown."""
    with pytest.raises(ConfigurationError, match=r"retired_keys must be \(key, secret\) pairs"):
        all_signers(Signer("key", "secret"), [pair])


def test_a_retired_key_is_checked_like_the_current_one() -> None:
    """An empty secret is refused."""
    with pytest.raises(ConfigurationError, match="secret"):
        all_signers(Signer("key", "secret"), [("old", "")])


def test_a_journal_may_be_left_out_for_a_loopback_host_only() -> None:
    """Against the sandbox a journal in memory is made; against AlphaPo it has to be asked for."""
    assert isinstance(the_journal(None, "http://127.0.0.1:8080"), MemoryJournal)
    with pytest.raises(ConfigurationError, match=r"^Set ALPHAPO_JOURNAL=payouts\.db \(or journal=\"payouts\.db\"\)"):
        the_journal(None, PRODUCTION)


def test_a_journal_is_taken_by_name_or_as_it_is() -> None:
    """The name "memory" makes one; one that was opened is used itself."""
    journal = MemoryJournal()

    assert isinstance(the_journal("memory", PRODUCTION), MemoryJournal)
    assert the_journal(journal, PRODUCTION) is journal


@pytest.mark.parametrize("journal", [object(), 7, {"update": None}])
def test_an_object_without_the_verbs_is_no_journal(journal: Any) -> None:
    """What cannot be written to is refused at once, not at the first withdrawal."""
    with pytest.raises(ConfigurationError, match="journal must be"):
        the_journal(journal, PRODUCTION)


def test_an_unknown_journal_is_refused_without_its_password() -> None:
    """The name of a journal may hold a password."""
    with pytest.raises(ConfigurationError) as caught:
        the_journal("nosuch://user:hunter2@host/payouts", PRODUCTION)

    assert "hunter2" not in str(caught.value)


# ── the environment ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_environment_names_every_argument() -> None:
    """Each variable becomes its argument; other variables are nobody's business."""
    result = from_environment(
        {
            **KEYED,
            "ALPHAPO_BASE_URL": "http://127.0.0.1:1",
            "ALPHAPO_JOURNAL": "memory",
            "ALPHAPO_ACCOUNT": "ops",
            "ALPHAPO_OTHER": "x",
        }
    )

    assert result == {
        "key": "made-up-key",
        "secret": "made-up-secret",
        "base_url": "http://127.0.0.1:1",
        "journal": "memory",
        "account": "ops",
    }


def test_what_is_not_set_is_left_to_the_defaults() -> None:
    """Key and secret are all that is needed."""
    assert from_environment(KEYED) == {"key": "made-up-key", "secret": "made-up-secret"}


VARIABLES = [
    "ALPHAPO_KEY",
    "ALPHAPO_SECRET",
    "ALPHAPO_SECRET_FILE",
    "ALPHAPO_RETIRED_KEYS_FILE",
    "ALPHAPO_BASE_URL",
    "ALPHAPO_JOURNAL",
    "ALPHAPO_ACCOUNT",
]


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_variable_that_is_set_and_empty_is_refused(variable: str) -> None:
    """It may have been meant: the default is AlphaPo's production host."""
    with pytest.raises(
        ConfigurationError, match=rf"^{variable}: set, but empty\. Fill it, or unset it\. Nothing was sent\.$"
    ):
        from_environment({**KEYED, variable: ""})


def test_all_empty_variables_are_named_at_once() -> None:
    """A manifest whose values are missing is corrected once."""
    with pytest.raises(ConfigurationError, match=r"^ALPHAPO_BASE_URL, ALPHAPO_ACCOUNT: set, but empty"):
        from_environment({**KEYED, "ALPHAPO_ACCOUNT": "", "ALPHAPO_BASE_URL": ""})


def test_a_missing_key_is_named() -> None:
    """The message says which variable to set."""
    with pytest.raises(ConfigurationError, match="ALPHAPO_KEY is not set"):
        from_environment({"ALPHAPO_SECRET": "s"})


def test_a_missing_secret_is_named() -> None:
    """The message says which two variables may hold it."""
    with pytest.raises(ConfigurationError, match="ALPHAPO_SECRET is not set, and neither is ALPHAPO_SECRET_FILE"):
        from_environment({"ALPHAPO_KEY": "k"})


def test_what_asks_nothing_needs_no_key() -> None:
    """The other variables count, and it is known what is missing."""
    assert from_environment({"ALPHAPO_ACCOUNT": "ops"}, needs_key=False) == {"account": "ops"}
    assert missing_credentials(KEYED) == ""
    assert missing_credentials({"ALPHAPO_KEY": "k"}).startswith("ALPHAPO_SECRET is not set")


def test_what_is_given_wins_over_the_environment_and_is_not_asked_of_it() -> None:
    """A variable that is wrong does no harm where its setting is given."""
    given = {"key": "k", "secret": "s", "journal": "memory", "base_url": "http://127.0.0.1:1", "retired_keys": ()}
    environment = {
        "ALPHAPO_JOURNAL": "payouts.db\n",
        "ALPHAPO_BASE_URL": " ",
        "ALPHAPO_RETIRED_KEYS_FILE": "/nowhere",
        "ALPHAPO_ACCOUNT": "ops",
    }
    assert from_environment(environment, given) == {**given, "account": "ops"}


def test_whoever_has_set_nothing_is_told_of_all_of_it_at_once() -> None:
    """A newcomer does not run into the second missing variable after mending the first."""
    with pytest.raises(
        ConfigurationError, match=r"ALPHAPO_KEY is not set.* ALPHAPO_SECRET is not set.* Nothing was sent\.$"
    ):
        from_environment({})


def test_the_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    """The line end that editors add is no part of it; a secret in the environment goes before."""
    file = tmp_path / "secret"
    file.write_text("from-the-file\n", encoding="utf-8")
    environment = {"ALPHAPO_KEY": "k", "ALPHAPO_SECRET_FILE": str(file)}

    assert from_environment(environment)["secret"] == "from-the-file"
    assert from_environment({**environment, "ALPHAPO_SECRET": "direct"})["secret"] == "direct"


@pytest.mark.parametrize("content", [None, b"\xff\xfehunter2"])
def test_a_secret_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """Missing or not text: neither its name, which may be the secret itself, nor its content is told."""
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        from_environment({"ALPHAPO_KEY": "k", "ALPHAPO_SECRET_FILE": str(file)})

    assert str(file) not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("retired", [5, None, ["key"], [("key",)]])
def test_wrong_retired_keys_are_refused(retired: Any) -> None:
    """They are pairs, in something that can be gone through."""
    with pytest.raises(ConfigurationError, match="retired_keys must be"):
        all_signers(Signer("made-up-key", "made-up-secret"), retired)


# ── every setting alike ──────────────────────────────────────────────────────────────────────────────────────────────

_SPOILT = {
    "line end": ("{}\n", "holds the end of a line"),
    "blank": ("{} ", "has leading or trailing spaces"),
    "invisible": ("{}\u200b", "has the control or invisible character U+200B"),
    "quotes": ('"{}"', "stands in quotation marks"),
}
_RIGHT = {"key": "made-up-key", "secret": "made-up-secret", "journal": "made-up.db", "account": "ops"}
_RIGHT["base_url"] = "http://127.0.0.1:9"
_RIGHT["proxy"] = "http://127.0.0.1:9"


def _refusal(make: Any) -> str:
    """Return what the refusal says, which must come before anything is opened."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    return str(caught.value)


@pytest.mark.parametrize("fault", _SPOILT)
@pytest.mark.parametrize("name", _RIGHT)
def test_a_text_is_checked_alike_wherever_it_comes_in(monkeypatch: pytest.MonkeyPatch, name: str, fault: str) -> None:
    """As an argument, from the environment and on the command line, with the name of the setting and the reason."""
    pattern, reason = _SPOILT[fault]
    wrong = pattern.format(_RIGHT[name])
    texts = {other: text for other, text in _RIGHT.items() if other != "proxy"} | {name: wrong}
    if name == "proxy":
        monkeypatch.setenv("https_proxy", wrong)
        refusals = [_refusal(lambda: SessionManager(proxy=wrong)), _refusal(lambda: SessionManager(trust_env=True))]
        assert re.match("proxy .*HTTPS_PROXY ", " ".join(refusals), re.DOTALL)
    else:
        environment = {f"ALPHAPO_{other.upper()}": text for other, text in texts.items()}
        for variable, text in environment.items():
            monkeypatch.setenv(variable, text)
        result = CliRunner().invoke(alphapo, ["status", "payout-17"])
        assert result.exit_code == 2
        refusals = [_refusal(lambda: AlphapoClient(**texts)), _refusal(AlphapoClient.from_env), result.output]  # type: ignore[arg-type]
        assert f"ALPHAPO_{name.upper()} " in refusals[1]
        if name in ("journal", "account", "base_url"):
            monkeypatch.delenv(f"ALPHAPO_{name.upper()}")
            result = CliRunner().invoke(alphapo, ["status", "payout-17", f"--{name.replace('_', '-')}", wrong])
            refusals.append(result.output)
        if name in ("journal", "account"):
            result = CliRunner().invoke(alphapo, ["journal", "list", f"--{name}", wrong])
            refusals.append(result.output)
        if name == "journal":
            refusals.append(_refusal(lambda: open_journal(wrong)))
    for refusal in refusals:
        assert reason in " ".join(refusal.split())
        assert "Nothing was sent." in " ".join(refusal.split())
        assert "made-up-" not in refusal


@pytest.mark.parametrize("wrong", ["5", True, -1, float("nan"), float("inf"), None])
def test_a_number_is_checked_alike_wherever_it_comes_in(wrong: Any) -> None:
    """Text, nothing, less than nothing, no number and no end, each refused by the setting's name."""
    makers: dict[str, Any] = {
        "max_connections": lambda: SessionManager(max_connections=wrong),
        "connect_timeout": lambda: SessionManager(connect_timeout=wrong),
        "close_grace": lambda: AlphapoClient("k", "s", journal="memory", close_grace=wrong),
        "attempts": lambda: RetryPolicy(attempts=wrong),
        "deadline": lambda: RetryPolicy(deadline=wrong),
        "quiet": lambda: RetryPolicy(quiet=wrong),
    }
    if wrong is not None:
        makers["max_rate"] = lambda: AlphapoClient("k", "s", journal="memory", max_rate=wrong)
    for name, make in makers.items():
        assert re.match(rf"{name} must be .*, not .*\. Nothing was sent\.$", _refusal(make))


# ── functions that are handed in ─────────────────────────────────────────────────────────────────────────────────────


async def awaited(_one: object) -> None:
    """Take one argument, and be awaited."""


def called(_one: object) -> None:
    """Take one argument."""


async def streamed(_one: object) -> AsyncIterator[int]:
    """Yield, so that calling it does nothing."""
    yield 1


def yielded(_one: object) -> Iterator[int]:
    """Likewise."""
    yield 1


class Called:
    """An object that is called, with methods of both kinds."""

    def __call__(self, _one: object) -> None:
        """Take one argument."""

    async def awaited(self, _one: object) -> None:
        """Take one argument, and be awaited."""


class Awaited:
    """An object whose call is awaited."""

    async def __call__(self, _one: object) -> None:
        """Take one argument."""


async def two(_one: object, _two: object) -> None:
    """Take one argument too many; of a partial one is given."""


@pytest.mark.parametrize("hook", [awaited, Called().awaited, Awaited(), partial(two, 1), AsyncMock()])
def test_what_can_be_awaited_as_documented_passes_as_a_coroutine_function(hook: object) -> None:
    """Functions, methods, callable objects and partials alike; an ordinary one refuses them."""
    check_hook("handler", hook, is_async=True, arguments=1)
    with pytest.raises(
        ConfigurationError, match=r"^on_event must be an ordinary function \(def\) that takes one argument; this is a"
    ):
        check_hook("on_event", hook, is_async=False, arguments=1)


@pytest.mark.parametrize("hook", [called, Called(), print, [].append, lambda _one: None, partial(called), Mock()])
def test_what_can_be_called_as_documented_passes_as_an_ordinary_function(hook: object) -> None:
    """As a handler it would do its work, fail, and be called again at every delivery: it is refused there."""
    check_hook("on_event", hook, is_async=False, arguments=1)
    with pytest.raises(
        ConfigurationError, match=r"^handler must be a coroutine function .* this is an ordinary function"
    ):
        check_hook("handler", hook, is_async=True, arguments=1)


@pytest.mark.parametrize("hook", [streamed, yielded])
def test_a_generator_function_does_nothing_when_it_is_called(hook: object) -> None:
    """Neither where it is called nor where it is awaited."""
    for is_async in (False, True):
        with pytest.raises(
            ConfigurationError, match="this is a generator function, which does nothing when it is called"
        ):
            check_hook("handler", hook, is_async=is_async, arguments=1)


@pytest.mark.parametrize(
    ("hook", "arguments", "words"),
    [
        (
            two,
            1,
            "handler must be a coroutine function (async def) that takes one argument; this one does not: missing a required",
        ),
        (
            awaited,
            0,
            "handler must be a coroutine function (async def) that takes no argument; this one does not: missing a required",
        ),
        (partial(awaited, 1), 1, "this one does not: too many positional arguments."),
        (7, 1, "handler must be a coroutine function (async def) that takes one argument, not int."),
        (None, 1, "not NoneType."),
    ],
)
def test_what_cannot_be_called_with_what_it_gets_is_refused(hook: object, arguments: int, words: str) -> None:
    """With the reason, where it is handed in, and not when the first callback comes."""
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        check_hook("handler", hook, is_async=True, arguments=arguments)


def test_a_function_whose_signature_is_not_known_passes() -> None:
    """Some of those written in C have none."""
    check_hook("on_event", min, is_async=False, arguments=1)


# ── retired keys ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_retired_keys_are_read_from_a_file_one_pair_a_line(tmp_path: Path) -> None:
    """A byte order mark, empty lines, comments, tabs and blanks around are no part of a pair."""
    file = tmp_path / "retired"
    file.write_bytes("\ufeff# of 2025\nold-key old-secret\r\n\n  older-key\tolder-secret  \n".encode())
    environment = {"ALPHAPO_KEY": "k", "ALPHAPO_SECRET": "s", "ALPHAPO_RETIRED_KEYS_FILE": str(file)}
    assert from_environment(environment)["retired_keys"] == (("old-key", "old-secret"), ("older-key", "older-secret"))


@pytest.mark.parametrize("line", ["lonely-secret", "three words here", "old-key s\u00e9cret"])
def test_a_wrong_line_of_retired_keys_is_named_by_its_number_alone(tmp_path: Path, line: str) -> None:
    """It may be a secret itself."""
    file = tmp_path / "retired"
    file.write_text(f"# a comment\nold-key old-secret\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError) as result:
        read_retired_keys(file, "ALPHAPO_RETIRED_KEYS_FILE")
    assert str(result.value).startswith("ALPHAPO_RETIRED_KEYS_FILE, line 3: a line is a key, a blank and its secret")
    assert not [word for word in line.split() if word in str(result.value)]
    assert result.value.__traceback__ is not None
    frames = traceback.walk_tb(result.value.__traceback__)
    assert not [frame for frame, _ in frames if "old-secret" in repr(frame.f_locals.get("pairs"))]


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_of_retired_keys_that_cannot_be_read_is_not_shown(tmp_path: Path, content: bytes | None) -> None:
    """The name may be a key."""
    file = tmp_path / "not-a-file-but-a-key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"^--retired-keys-file names a file that cannot be read") as result:
        read_retired_keys(file, "--retired-keys-file")
    assert "not-a-file" not in str(result.value)
    assert result.value.__cause__ is result.value.__context__ is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"amount_format": "float"}, "amount_format"),
        ({"account": ""}, "account"),
        ({"policy": 5}, "policy must be a RetryPolicy, not int"),
        ({"session": "pool"}, "session must be a SessionManager, not str"),
        ({"on_event": "log"}, "on_event"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_named(wrong: dict[str, Any], says: str) -> None:
    """Settings of the right kind pass."""
    right = {"account": "shop", "policy": None, "session": None, "amount_format": "number", "on_event": print}
    check_client_settings(**right)  # type: ignore[arg-type]
    check_client_settings(**{**right, "on_event": None})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=says):
        check_client_settings(**{**right, **wrong})
