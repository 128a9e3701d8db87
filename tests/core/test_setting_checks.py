"""Settings are checked alike: the value comes back, or the refusal names the setting and the reason."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.setting_checks import (
    check_count,
    check_number,
    check_path,
    check_seconds,
    check_text,
    check_web_address,
    may_hold_password,
)

HUGE = pytest.param(10**5_000, id="more digits than Python writes")
NOT_NUMBERS = ["1", None, True, [1], Decimal(1), 1j]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "account must be text, not NoneType."),
        (b"ops", "account must be text, not bytes."),
        ("", "account is empty."),
        ("ops\n", "account 'ops\\n' holds the end of a line: leave it out."),
        ("o\rps", "account 'o\\rps' holds the end of a line"),
        (" ops", "account ' ops' has leading or trailing spaces: leave them out."),
        ("ops\t", "account 'ops\\t' has leading or trailing spaces"),
        ("o\u200bps", "account 'o\\u200bps' has the control or invisible character U+200B."),
        ("'ops'", "account ''ops'' stands in quotation marks, which belong to it where no shell removes them"),
        ('"ops"', "stands in quotation marks"),
        ("ops\udcff", "has the control or invisible character U+DCFF."),
    ],
)
def test_a_text_that_may_be_meant_otherwise_is_refused_with_the_reason(value: object, words: str) -> None:
    """Line ends, blanks around, invisible characters and quotation marks; a secret is not shown."""
    with pytest.raises(ConfigurationError) as caught:
        check_text("account", value)
    assert words in str(caught.value)
    assert str(caught.value).endswith(" Nothing was sent.")
    with pytest.raises(ConfigurationError) as caught:
        check_text("account", value, is_secret=True)
    assert "ps" not in str(caught.value)


@pytest.mark.parametrize("value", ["ops", "north west", "o'ps'", "zürich", "x" * 4_000])
def test_another_text_comes_back(value: str) -> None:
    """As it was given."""
    assert check_text("account", value) == check_path("account", value) == value


def test_the_name_of_a_file_may_hold_any_byte() -> None:
    """Python gives bytes that are no text as lone surrogates; everything else is as for any text."""
    assert check_path("journal", "pay\udcff.db") == "pay\udcff.db"
    for wrong in ("pay\udcff.db\n", "", None):
        with pytest.raises(ConfigurationError, match=r"^journal "):
            check_path("journal", wrong)  # type: ignore[arg-type]


@given(st.one_of(st.floats(), st.integers()))
def test_a_number_is_finite_and_not_negative(value: float) -> None:
    """Whole or not, it comes back as a float."""
    try:
        number = check_number("max_rate", value, "withdrawals per second", may_be_zero=False)
    except ConfigurationError:
        assert not 0 < value < 1.8e308
    else:
        assert type(number) is float
        assert number == float(value)


@pytest.mark.parametrize("value", [*NOT_NUMBERS, -1, -0.1, float("inf"), float("nan"), 10**400, HUGE])
def test_what_is_no_number_is_refused_with_its_value(value: object) -> None:
    """A number of too many digits is described."""
    with pytest.raises(
        ConfigurationError, match=r"^close_grace must be seconds, 0 or more, not .+\. Nothing was sent\.$"
    ):
        check_seconds("close_grace", value)
    assert check_seconds("close_grace", 0) == 0.0
    with pytest.raises(ConfigurationError, match=r"^deadline must be seconds, more than 0, not 0\."):
        check_seconds("deadline", 0, may_be_zero=False)


@pytest.mark.parametrize("value", [*NOT_NUMBERS, 0, -1, 1.0])
def test_a_count_is_a_whole_number_from_1(value: object) -> None:
    """Nothing else is taken for one."""
    with pytest.raises(ConfigurationError, match=r"^concurrency must be a whole number from 1, not .{1,70}\. Nothing"):
        check_count("concurrency", value)
    assert check_count("concurrency", 64) == 64
    with pytest.raises(ConfigurationError, match="not a number of 16610 bits"):
        check_count("concurrency", -(10**5_000))


class Unwritable:
    """An object without a value to show."""

    def __repr__(self) -> str:
        """Fail."""
        raise ValueError


def test_what_cannot_be_shown_is_named_by_its_kind() -> None:
    """The refusal does not fail itself."""
    with pytest.raises(ConfigurationError, match="not Unwritable"):
        check_count("concurrency", Unwritable())


def test_a_web_address_is_scheme_host_and_port() -> None:
    """Its parts come back."""
    parts = check_web_address("base_url", "https://app.alphapo.net:8443/x", "https://app.alphapo.net")
    assert (parts.scheme, parts.netloc, parts.path) == ("https", "app.alphapo.net:8443", "/x")
    for host in ("localhost", "my_host", "127.0.0.1", "[::1]", "[fe80::1%25eth0]", "host.example."):
        check_web_address("base_url", f"http://{host}:1", "")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("app.alphapo.net", "base_url 'app.alphapo.net' has no scheme"),
        ("ftp://app.alphapo.net", "has the scheme 'ftp'"),
        ("https://app alphapo.net", "has a blank or a backslash inside"),
        ("https://app.alphapo.net\\x", "has a blank or a backslash inside"),
        ("https://app.alphapo.net?x", "has a ? or #"),
        ("https://app.alphapo.net#x", "has a ? or #"),
        ("https://app.alphapo.net:x", "has a port that is no number"),
        ("https://app.alphapo.net:99999", "has a port that is no number"),
        ("https://app.alphapo.net:0", "has the port 0"),
        ("https://[::1", "or no host"),
        ("https://", "has no host"),
        ("https://:443", "has no host"),
        ("https://app..net", "has no host, or one that is none"),
        (f"https://{'a' * 64}.net", "or one that is none"),
        ("https://\u0430pp.alphapo.net", "other letters in their xn-- form"),
        ("https://app.alphapo.net\n", "holds the end of a line"),
    ],
)
def test_what_is_no_web_address_is_refused_with_the_reason(value: str, words: str) -> None:
    """The refusal shows a right one."""
    with pytest.raises(ConfigurationError) as caught:
        check_web_address("base_url", value, "https://right.example")
    assert words in str(caught.value)


def test_what_may_hold_a_password_is_not_shown() -> None:
    """Credentials stand before an @, and a setting may be called so."""
    assert may_hold_password("http://user:hunter2@proxy")
    assert may_hold_password("postgresql:///x?PassWord=hunter2")
    assert not may_hold_password("https://app.alphapo.net")
    with pytest.raises(ConfigurationError) as caught:
        check_web_address("proxy", "socks5://user:hunter2@proxy", "http://right.example")
    assert "hunter2" not in str(caught.value)
