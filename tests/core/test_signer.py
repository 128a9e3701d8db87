import copy
import hashlib
import hmac
import pickle
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.signer import Signer

# The published vector: https://docs.alphapo.net/api-reference/authentication
SECRET = "AbCdEfG123456"
BODY = b'{"currency":"BTC","foreign_id":"123456"}'
SIGNATURE = (
    "03c25fcf7cd35e7d995e402cd5d51edd72d48e1471e865907967809a0c189ba5"
    "5b90815f20e2bb10f82c7a9e9d865546fda58989c2ae9e8e2ff7bc29195fa1ec"
)
KEY = "public-key-1"


@pytest.fixture
def signer() -> Signer:
    """Return a signer with the published secret."""
    return Signer(KEY, SECRET)


def test_the_published_vector_is_signed_as_published(signer: Signer) -> None:
    """AlphaPo's own example gives AlphaPo's own signature."""
    assert signer.sign(BODY) == SIGNATURE


def test_signing_twice_gives_the_same_signature(signer: Signer) -> None:
    """One body leaves no trace in the next, so that a retry is byte-identical, signature included."""
    assert [signer.sign(body) for body in (BODY, b"", BODY)] == [SIGNATURE, signer.sign(b""), SIGNATURE]


@settings(derandomize=True, deadline=None)
@given(body=st.binary(max_size=300), secret=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_a_signature_is_plain_hmac_sha512(body: bytes, secret: str) -> None:
    """Whatever body and secret, the signature is lower-case hexadecimal HMAC-SHA512 over exactly these bytes."""
    signer = Signer(KEY, secret)
    assert signer.sign(body) == hmac.new(secret.encode(), body, hashlib.sha512).hexdigest()
    assert signer.is_genuine(body, signer.sign(body))


def test_the_headers_are_the_three_required_ones(signer: Signer) -> None:
    """Content type, key and signature, and nothing else, go beside the body."""
    assert signer.headers(BODY) == {
        "Content-Type": "application/json",
        "X-Processing-Key": KEY,
        "X-Processing-Signature": SIGNATURE,
    }


@pytest.mark.parametrize(
    ("body", "signature"),
    [
        (BODY + b" ", SIGNATURE),
        (BODY, SIGNATURE[:-1]),
        (BODY, SIGNATURE + "0"),
        (BODY, "1" + SIGNATURE[1:]),
        (BODY, SIGNATURE.upper()),
        (BODY, ""),
        (BODY, "\uff10" * 128),
        (BODY, "\ud800"),
    ],
    ids=["other body", "cut", "longer", "one digit", "upper case", "empty", "full-width digits", "lone surrogate"],
)
def test_anything_but_the_signature_of_these_bytes_is_not_genuine(signer: Signer, body: bytes, signature: str) -> None:
    """A signature that differs anywhere, or is no text a header could hold, is refused without raising."""
    assert signer.is_genuine(BODY, SIGNATURE)
    assert not signer.is_genuine(body, signature)


def test_another_secret_makes_another_signature() -> None:
    """Two key pairs never sign alike."""
    assert Signer(KEY, "another").sign(BODY) != SIGNATURE


def test_the_fingerprint_names_the_key_without_showing_it(signer: Signer) -> None:
    """It is the same for the same public key whatever the secret, differs between keys, and is short."""
    assert signer.fingerprint == hashlib.sha256(KEY.encode()).hexdigest()[:16]
    assert signer.fingerprint == Signer(KEY, "rotated").fingerprint
    assert signer.fingerprint != Signer("public-key-2", SECRET).fingerprint


@pytest.mark.parametrize("show", [repr, str, lambda signer: f"{signer!s} {signer!r} {[signer]}"])
def test_no_text_of_a_signer_shows_key_or_secret(signer: Signer, show: Callable[[Signer], str]) -> None:
    """What reaches a log is the fingerprint alone."""
    shown = show(signer)
    assert signer.fingerprint in shown
    assert SECRET not in shown
    assert KEY not in shown


def test_a_signer_is_shown_by_its_fingerprint(signer: Signer) -> None:
    """In one plain word."""
    assert repr(signer) == f"Signer(fingerprint='{signer.fingerprint}')"


def test_a_signer_does_not_keep_the_secret_as_text(signer: Signer) -> None:
    """No attribute holds the secret, so that a crash reporter which dumps attributes shows none."""
    assert not hasattr(signer, "__dict__")
    assert all(SECRET not in repr(getattr(signer, name)) for name in Signer.__slots__)


@pytest.mark.parametrize("take_away", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_signer_is_never_pickled_or_copied(signer: Signer, take_away: Callable[[Signer], object]) -> None:
    """The secret does not leave the process in a job queue or a cache, and the refusal does not tell it."""
    with pytest.raises(TypeError, match="holds a secret") as caught:
        take_away(signer)
    assert str(caught.value) == (
        "A Signer holds a secret and is never pickled or copied; build another one from the key pair."
    )


@pytest.mark.parametrize("wrong", ["", " ", "\n", None, 5, b"bytes"])
@pytest.mark.parametrize("name", ["key", "secret"])
def test_a_missing_key_or_secret_is_refused(name: str, wrong: object) -> None:
    """Both must be text and must not be empty; the message says which is missing."""
    pair: dict[str, object] = {"key": KEY, "secret": SECRET} | {name: wrong}
    with pytest.raises(ConfigurationError, match=f"API {name} is missing or empty"):
        Signer(**pair)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [" s3cr3t", "s3cr3t\n", "s3\r\ncr3t", "s3cr3t\x00", "s3cré t", "s3\u200bcr3t"])
@pytest.mark.parametrize("name", ["key", "secret"])
def test_a_badly_pasted_key_or_secret_is_refused_without_showing_it(name: str, wrong: str) -> None:
    """Blanks around it, line ends and characters outside ASCII are refused before they can split a header."""
    pair = {"key": KEY, "secret": SECRET} | {name: wrong}
    with pytest.raises(ConfigurationError, match=f"API {name} (has|holds) ") as caught:
        Signer(**pair)
    assert wrong.strip() not in str(caught.value)
