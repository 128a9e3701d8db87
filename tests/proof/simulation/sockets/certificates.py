"""A certificate authority of our own, and the contexts of those who use it well or badly. Nothing of it outlives the process."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from functools import cache
from typing import Literal, TypeAlias

import trustme

__all__ = ["Identity", "client_side", "server_side"]

Identity: TypeAlias = Literal[
    "good", "another host", "expired", "unknown authority", "too old", "asks for a certificate"
]
"""Who the far end says it is, and how."""

_NAMES = ("127.0.0.1", "localhost")


@cache
def _authority() -> trustme.CA:
    return trustme.CA()


@cache
def client_side() -> ssl.SSLContext:
    """Return a context that trusts our authority and asks for TLS 1.3."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _authority().configure_trust(context)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


@cache
def server_side(identity: Identity) -> ssl.SSLContext:
    """Return the context of a far end with this identity."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _certificate(identity).configure_cert(context)
    if identity == "too old":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if identity == "asks for a certificate":
        context.verify_mode = ssl.CERT_REQUIRED
        _authority().configure_trust(context)
    return context


def _certificate(identity: Identity) -> trustme.LeafCert:
    if identity == "another host":
        return _authority().issue_cert("another.example")
    if identity == "unknown authority":
        return trustme.CA().issue_cert(*_NAMES)
    if identity == "expired":
        began, ended = datetime(2001, 1, 1, tzinfo=UTC), datetime(2001, 2, 1, tzinfo=UTC)
        return _authority().issue_cert(*_NAMES, not_before=began, not_after=ended)
    return _authority().issue_cert(*_NAMES)
