"""Turns a body into a signed request, and checks whether a signature is genuine.

AlphaPo signs with HMAC-SHA512 over the exact bytes of the body, hexadecimal, lower case; no time, path or header is
part of it (https://docs.alphapo.net/api-reference/authentication). So the bytes are encoded once, and these bytes are
signed, journaled and sent.
"""

from __future__ import annotations

import hashlib
import hmac

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.frames import hides_arguments
from alphapo_async.core.setting_checks import check_text

__all__ = ["Signer"]

_FINGERPRINT_DIGITS = 16


class Signer:
    """Signs bodies with one key pair and checks signatures made with it.

    Args:
        key: the public API key, sent as `X-Processing-Key`.
        secret: the secret key; it stays in memory and is shown by nothing.

    Raises:
        ConfigurationError: the key or the secret is missing, empty, or cannot stand in a header.
    """

    __slots__ = ("_keyed", "fingerprint", "key")

    key: str
    """The public API key."""
    fingerprint: str
    """Names the key in journals and messages without showing it: 16 hexadecimal digits of its SHA-256."""

    @hides_arguments
    def __init__(self, key: str, secret: str) -> None:
        _check("key", key)
        _check("secret", secret)
        self.key = key
        self.fingerprint = hashlib.sha256(key.encode()).hexdigest()[:_FINGERPRINT_DIGITS]
        # Keyed once and copied for each body: the two key blocks of HMAC are hashed a single time. Python's HMAC wraps what OpenSSL gives,
        # which has the same methods, and is copied without the wrapper where it can be had.
        keyed = hmac.new(secret.encode(), digestmod=hashlib.sha512)
        self._keyed: hmac.HMAC = getattr(keyed, "_hmac", None) or keyed

    def sign(self, body: bytes) -> str:
        """Return the signature of exactly these bytes: 128 lower-case hexadecimal digits."""
        mac = self._keyed.copy()
        mac.update(body)
        return mac.hexdigest()

    def headers(self, body: bytes) -> dict[str, str]:
        """Return the headers that AlphaPo requires beside these bytes.

        Source: https://docs.alphapo.net/api-reference/authentication
        """
        return {
            "Content-Type": "application/json",
            "X-Processing-Key": self.key,
            "X-Processing-Signature": self.sign(body),
        }

    def is_genuine(self, body: bytes, signature: str) -> bool:
        """Tell whether the signature belongs to these bytes, in a time that does not depend on where it differs."""
        return hmac.compare_digest(self.sign(body).encode(), signature.encode("utf-8", "replace"))

    def __repr__(self) -> str:
        return f"Signer(fingerprint={getattr(self, 'fingerprint', None)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("A Signer holds a secret and is never pickled or copied; build another one from the key pair.")


def _check(name: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(
            f"The API {name} is missing or empty. Both are shown in the AlphaPo dashboard under API keys. Nothing was sent."
        )
    check_text(f"The API {name}", value, is_secret=True)
    if not value.isascii():
        raise ConfigurationError(
            f"The API {name} has a character outside ASCII: was it pasted wrong? Nothing was sent."
        )
