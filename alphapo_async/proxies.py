"""Proxies: which one requests go through, checked when the session is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.setting_checks import check_web_address

__all__ = ["check_proxy", "proxies_of_environment", "proxy_for"]

_EXAMPLE: Final = "http://proxy.example:3128"
_SCHEMES: Final = ("https", "http")


def check_proxy(name: str, url: object) -> str:
    """Return the URL of an HTTP proxy: `http://`, or `https://` for a proxy that is itself reached over TLS.

    Args:
        name: of the setting.
        url: with user and password where the proxy asks for them; it is not shown then.

    Raises:
        ConfigurationError: it is no such URL.
    """
    parts = check_web_address(name, url, _EXAMPLE)
    if parts.path not in ("", "/"):
        raise ConfigurationError(
            f"{name} has a path, which a proxy has not; in a password write %2F for /. It must be like {_EXAMPLE!r}. Nothing was sent."
        )
    return parts.geturl()


def proxies_of_environment() -> Mapping[str, str]:
    """Return the proxies that the environment names now, by the scheme of the URLs that go through them; "no" names those that do not.

    `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` are read, also in lower case, which goes first.

    Raises:
        ConfigurationError: one of the URLs is none.
    """
    found = getproxies_environment()
    proxies = {"no": found["no"]} if "no" in found else {}
    for scheme in _SCHEMES:
        for name in (scheme, "all"):
            if name in found and scheme not in proxies:
                proxies[scheme] = check_proxy(f"{name.upper()}_PROXY", found[name])
    return proxies


def proxy_for(url: str, proxies: Mapping[str, str]) -> str | None:
    """Return the proxy through which this URL is reached; None if it is reached directly."""
    parts = urlsplit(url)
    if proxy_bypass_environment(parts.hostname or "", proxies):
        return None
    return proxies.get(parts.scheme)
