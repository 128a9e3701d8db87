"""Proxies: a URL of one that cannot work is refused when the session is made."""

from __future__ import annotations

from typing import Any

import pytest

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.proxies import check_proxy, proxies_of_environment, proxy_for

NAMES = ("https_proxy", "http_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an environment that names no proxy."""
    for name in (*NAMES, *map(str.upper, NAMES), "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:3128",
        "http://proxy.example",
        "https://proxy.example:3129/",
        "http://[::1]:3128",
        "http://user:pa%2Fss@proxy.example:3128",
    ],
)
def test_the_url_of_a_proxy_is_kept(url: str) -> None:
    """With and without TLS of its own, port and credentials."""
    assert check_proxy("proxy", url) == url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("127.0.0.1:3128", "proxy '127.0.0.1:3128' has no scheme: http:// or https:// comes first."),
        ("proxy.example", "has no scheme"),
        ("socks5://proxy.example", "has the scheme 'socks5': only http and https work."),
        ("http://proxy.example:port", "has a port that is no number from 1 to 65535"),
        ("http://proxy.example:99999", "has a port that is no number from 1 to 65535"),
        ("http://proxy.example:0", "has the port 0."),
        ("http://", "has no host"),
        ("http://:3128", "has no host"),
        ("http://pro xy", "has a blank"),
        (" http://proxy.example", "has leading or trailing spaces"),
        ("http://proxy.example\n", "holds the end of a line"),
        ("http://proxy.example/path", "has a path, which a proxy has not"),
        ("http://proxy.example?x", "has a ? or #"),
        ("http://user:hunter#2@proxy.example", "has a ? or #, which stands for nothing here; in a password write"),
        ("http://user:hunter/2@proxy.example", "has a port that is no number"),
        ("http://user:12/hunter2@proxy.example", "has a path, which a proxy has not; in a password write %2F for /."),
        ("", "proxy is empty."),
        (7, "proxy must be text, not int."),
    ],
)
def test_a_url_that_cannot_work_is_refused_with_the_reason(url: Any, reason: str) -> None:
    """A proxy that is not used would end as withdrawals that are not sent; what may hold a password is not shown."""
    with pytest.raises(ConfigurationError) as caught:
        check_proxy("proxy", url)
    assert reason in str(caught.value)
    assert "hunter" not in str(caught.value)
    assert str(caught.value).endswith("Nothing was sent.")


def test_the_environment_names_the_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ALL_PROXY` counts where the scheme has none of its own, and `NO_PROXY` names hosts that are reached directly."""
    assert proxies_of_environment() == {}
    monkeypatch.setenv("HTTPS_PROXY", "http://one.example:1")
    monkeypatch.setenv("ALL_PROXY", "https://all.example:2")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1, .inside.example")
    proxies = proxies_of_environment()
    assert proxies == {
        "https": "http://one.example:1",
        "http": "https://all.example:2",
        "no": "127.0.0.1, .inside.example",
    }
    assert proxy_for("https://app.alphapo.net", proxies) == "http://one.example:1"
    assert proxy_for("http://app.alphapo.net", proxies) == "https://all.example:2"
    assert proxy_for("https://127.0.0.1:8080", proxies) is None
    assert proxy_for("https://far.inside.example", proxies) is None
    assert proxy_for("https://app.alphapo.net", {}) is None
    assert proxy_for("nonsense", proxies) is None


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A proxy without a scheme, as many programs write it."""
    monkeypatch.setenv(name, "127.0.0.1:3128")
    with pytest.raises(ConfigurationError, match=f"^{name.upper()} '127.0.0.1:3128' has no scheme"):
        proxies_of_environment()
