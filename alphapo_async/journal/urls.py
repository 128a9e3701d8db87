"""The names of journals: what they mean, and how they are shown without the password that some hold."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from alphapo_async.core.errors import ConfigurationError

__all__ = ["check_schema", "check_url", "has_password", "is_postgres", "read_location", "shown"]

_SCHEMES: Final = ("postgresql", "postgres")
_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}", re.ASCII)


def is_postgres(name: str) -> bool:
    """Tell whether it names a PostgreSQL database."""
    return name.partition("://")[0] in _SCHEMES and "://" in name


def has_password(name: str) -> bool:
    """Tell whether a password stands in it; of what cannot be read that is assumed."""
    if not is_postgres(name):
        return False
    try:
        parts = urlsplit(name)
    except ValueError:
        return True
    names = {key.lower() for key, _ in parse_qsl(parts.query, keep_blank_values=True)}
    return ":" in parts.netloc.rpartition("@")[0] or not names.isdisjoint({"password", "passfile", "sslpassword"})


def shown(name: str) -> str:
    """Return the name as it may be shown: of a database its host, port and name alone."""
    if not is_postgres(name):
        return name
    try:
        parts = urlsplit(name)
    except ValueError:
        return "postgresql://…"
    host = parts.netloc.rpartition("@")[2]
    return f"postgresql://{host}{unquote(parts.path)}"


def check_url(url: str) -> str:
    """Return the URL of a database; it may name several hosts, of which a client uses the one that fits.

    Raises:
        ConfigurationError: it is none. It is not shown, since it may hold a password.
    """
    try:
        for host in urlsplit(url).netloc.rpartition("@")[2].split(","):
            urlsplit(f"//{host}").port  # noqa: B018 - raises where it is no number
    except ValueError:
        pass
    else:
        if is_postgres(url):
            return url
    raise ConfigurationError(
        "The URL of a journal in PostgreSQL is postgresql://USER@HOST:PORT/DATABASE; this one is not. What was given is not shown."
    )


class Location(NamedTuple):
    """Where a journal in PostgreSQL is, and what its operator says of it."""

    url: str
    """As asyncpg takes it."""
    is_lossless: bool
    """Failovers lose nothing: commits wait for a standby, always."""


def read_location(url: str) -> Location:
    """Return a checked URL without this library's own setting, and what that says.

    Raises:
        ConfigurationError: `failover` is neither left out nor `lossless`.
    """
    parts = urlsplit(url)
    settings = parse_qsl(parts.query, keep_blank_values=True)
    said = [value for name, value in settings if name == "failover"]
    if not said:
        return Location(url, is_lossless=False)
    if said != ["lossless"]:
        raise ConfigurationError(
            f"failover={said[-1]!r} in the journal's URL means nothing. Leave it out, or say failover=lossless if commits of this "
            "cluster always wait for a standby."
        )
    others = [part for part in parts.query.split("&") if part.partition("=")[0] != "failover"]
    return Location(parts._replace(query="&".join(others)).geturl(), is_lossless=True)


def check_schema(schema: str) -> str:
    """Return the name of a database schema, which stands in statements as it is.

    Raises:
        ConfigurationError: not a plain name.
    """
    if not isinstance(schema, str) or not _SCHEMA.fullmatch(schema):
        raise ConfigurationError("schema must be lower-case letters, digits and _, and not begin with a digit.")
    return schema
