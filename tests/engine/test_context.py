"""What a client was made with."""

import pytest

from alphapo_async.engine.context import host_of


@pytest.mark.parametrize(
    ("base_url", "host"),
    [
        ("https://app.alphapo.net", "app.alphapo.net"),
        ("http://127.0.0.1:8080", "loopback"),
        ("http://[::1]:8080", "loopback"),
        ("http://localhost", "loopback"),
        ("https://10.0.0.7", "10.0.0.7"),
    ],
)
def test_an_account_is_bound_to_the_host_s_name(base_url: str, host: str) -> None:
    """Whatever the port; this machine's own names are one."""
    assert host_of(base_url) == host
