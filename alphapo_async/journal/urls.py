"""The names of journals: what they mean, and how they are shown without the password that some hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.setting_checks import check_path, check_text, may_hold_password
from alphapo_async.core.texts import shown as shown_text

__all__ = [
    "JournalName",
    "check_failover",
    "check_schema",
    "check_url",
    "has_password",
    "is_postgres",
    "one_schema",
    "read_location",
    "read_name",
    "shown",
]

_SCHEMES: Final = ("postgresql", "postgres")
_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}", re.ASCII)


def is_postgres(name: str) -> bool:
    """Return whether the name is of a PostgreSQL database."""
    return name.partition("://")[0] in _SCHEMES and "://" in name


def has_password(name: str) -> bool:
    """Return whether the name holds a password; a name that cannot be read counts as one that does."""
    if not is_postgres(name):
        return False
    try:
        parts = urlsplit(name)
    except ValueError:
        return True
    names = {key.lower() for key, _ in parse_qsl(parts.query, keep_blank_values=True)}
    return (
        _is_cut(f"{parts.path}{parts.query}{parts.fragment}")
        or ":" in parts.netloc.rpartition("@")[0]
        or not names.isdisjoint({"password", "passfile", "sslpassword"})
    )


def shown(name: str) -> str:
    """Return the name as it may be shown: of a database its host, port and name, and the schema where the URL names it."""
    if not is_postgres(name):
        return name
    try:
        parts = urlsplit(name)
    except ValueError:
        return "postgresql://…"
    if _is_cut(f"{parts.path}{parts.query}{parts.fragment}"):
        return "postgresql://…"
    host = parts.netloc.rpartition("@")[2]
    schemas = [
        setting for name, setting in parse_qsl(parts.query) if name.lower() == "schema" and _SCHEMA.fullmatch(setting)
    ]
    return f"postgresql://{host}{unquote(parts.path)}{f'?schema={schemas[0]}' if schemas else ''}"


def _is_cut(rest: str) -> bool:
    """Return whether what follows the host holds the rest of a password with a /, ? or #: `12` of `12/secret` reads as its port."""
    return "@" in rest


class JournalName(NamedTuple):
    """What the name of a journal means."""

    kind: Literal["memory", "file", "database"]
    place: str
    """The path of a file, or the URL of a database."""
    any_filesystem: bool = False
    """The operator says that the file's file system is like a local disk."""


def read_name(name: str | Path) -> JournalName:
    """Return what the name of a journal means. A name that could be meant otherwise is refused: it would be another journal.

    Args:
        name: a path, `sqlite:///PATH`, `postgresql://…` or `memory`; a `Path` is always a file.

    Raises:
        ConfigurationError: it is no such name. It is not shown where it may hold a password.
    """
    if isinstance(name, Path):
        return JournalName("file", _checked_path(str(name.absolute())))
    text = check_path("journal", name, is_secret=may_hold_password(str(name)))
    if is_postgres(text):
        return JournalName("database", check_url(text))
    if text == "memory":
        return JournalName("memory", "")
    if text.strip(":").lower() in ("memory", "sqlite:///:memory"):
        raise _refused(text, 'reads like a journal that ends with the process, which is called "memory" here.')
    if text.startswith("sqlite:///"):
        return _file(text.removeprefix("sqlite:///"))
    if (found := _has_scheme(text)) or "://" in text:
        raise _refused(text, _ADVICE.get(found[1].lower() if found else "", _UNKNOWN))
    return _file(text)


def _file(text: str) -> JournalName:
    path = text.removesuffix(_ANY)
    return JournalName("file", _checked_path(path), any_filesystem=path != text)


_ANY: Final = "?filesystem=any"
_has_scheme: Final = re.compile(r"(sqlite|file|postgres)(?:ql|3)?(?:\+\w+)?:", re.IGNORECASE).match
_UNKNOWN: Final = (
    'is no journal: that is a path or sqlite:///PATH (a file), postgresql://USER@HOST:PORT/DATABASE (a database), "memory" (ends with the '
    "process), or what open_journal returns."
)
_ADVICE: Final = {
    "sqlite": "is no URL of a file: write the path alone, or sqlite:/// before it (four slashes where the path begins with one).",
    "file": "is no URL of a file: write the path alone, or sqlite:/// before it (four slashes where the path begins with one).",
    "postgres": "is no URL of a database: it begins with postgresql:// in lower case, without the name of a driver.",
}


def _checked_path(path: str) -> str:
    check_path("journal", path)
    if path.endswith("/") or path.rpartition("/")[2] in (".", ".."):
        raise _refused(path, "names a folder: name a file in it.")
    if path[0] in "~$" or "${" in path:
        raise _refused(path, "holds what only a shell replaces (~ or $): write the whole path.")
    if _has_settings(path):
        raise _refused(path, f"has settings after a ?, of which only {_ANY!r} means something.")
    return path


_has_settings: Final = re.compile(r"\?\w+=").search


def _refused(name: str, problem: str) -> ConfigurationError:
    value = "" if may_hold_password(name) or "://" in name else f" {shown_text(name)}"
    return ConfigurationError(f"journal{value} {problem} Nothing was sent.")


def check_url(url: str) -> str:
    """Return the URL of a database; it may name several hosts, of which a client uses one that fits.

    Raises:
        ConfigurationError: it is none. It is not shown, since it may hold a password.
    """
    check_text("journal", url, is_secret=True)
    problem = "is no URL of a database"
    if is_postgres(url):
        problem = _problem_of_url(url)
    if not problem:
        return url
    raise ConfigurationError(
        f"journal {problem}: it must be like postgresql://USER@HOST:PORT/DATABASE. What was given is not shown. Nothing was sent."
    )


_SETTINGS: Final = {
    # asyncpg's
    "host",
    "port",
    "dbname",
    "database",
    "user",
    "password",
    "passfile",
    "service",
    "sslmode",
    "sslcert",
    "sslkey",
    "sslrootcert",
    "sslcrl",
    "sslpassword",
    "sslnegotiation",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "target_session_attrs",
    "krbsrvname",
    "gsslib",
    # the server's
    "application_name",
    "client_encoding",
    "idle_in_transaction_session_timeout",
    "lock_timeout",
    "options",
    "search_path",
    "statement_timeout",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_user_timeout",
    "timezone",
    # ours
    "failover",
    "schema",
}
"""Settings that a URL may have. The driver would hand any other to the server, which refuses what it does not know."""


_SIGNS: Final = {
    " ": "has a blank inside",
    "#": "has a #, which stands for nothing here (in a password write %23)",
}


def _problem_of_url(url: str) -> str:
    for sign, problem in _SIGNS.items():
        if sign in url:
            return problem
    try:
        parts = urlsplit(url)
        for host in parts.netloc.rpartition("@")[2].split(","):
            if urlsplit(f"//{host}").port == 0:
                return "has the port 0"
    except ValueError:
        return "has a port that is no number from 1 to 65535, or a host that is none (in a password write %2F for / and %3F for ?)"
    if _is_cut(parts.path):
        return "has an @ after a / (in a password write %2F for /, in the name of a database %40 for @)"
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    if not (unknown := [name for name in names if name.lower() not in _SETTINGS]):
        return ""
    value = "" if "@" in parts.query else f" ({', '.join(unknown)})"  # a password may hold a ?
    return (
        f"has settings that do not work here{value}; leave them out: time-outs, keepalives and poolers need none, and settings of "
        "the server can be given to its user (alter role ... set)"
    )


class Location(NamedTuple):
    """Where a journal in PostgreSQL is, and what its operator declares of it."""

    url: str
    """As asyncpg takes it."""
    schema: str | None
    """Of the tables; None where the URL does not name it."""
    is_lossless: bool
    """Failovers lose nothing: commits wait for a standby, always."""


def read_location(url: str) -> Location:
    """Return a checked URL without this library's own settings, and their values.

    Raises:
        ConfigurationError: `failover` is neither left out nor `lossless`, or `schema` is no plain name or given twice.
    """
    parts = urlsplit(url)
    ours: dict[str, list[str]] = {"failover": [], "schema": []}
    for name, setting in parse_qsl(parts.query, keep_blank_values=True):
        ours.get(name.lower(), []).append(setting)
    if len(ours["schema"]) > 1:
        raise ConfigurationError("schema stands twice in the journal's URL. Leave one out. Nothing was sent.")
    others = "&".join(part for part in parts.query.split("&") if part.partition("=")[0].lower() not in ours)
    is_lossless = [check_failover(setting) for setting in ours["failover"]]
    return Location(
        parts._replace(query=others).geturl() if any(ours.values()) else url,
        check_schema(ours["schema"][0]) if ours["schema"] else None,
        is_lossless=any(is_lossless),
    )


def check_failover(failover: str | None) -> bool:
    """Return whether failovers of the cluster lose nothing, as its operator declares.

    Raises:
        ConfigurationError: it is neither left out nor `lossless`.
    """
    if failover not in (None, "lossless"):
        raise ConfigurationError(
            f"failover={failover!r} of the journal means nothing. Leave it out, or write failover=lossless if commits of this "
            "cluster always wait for a standby."
        )
    return failover is not None


def one_schema(given: str | None, in_url: str | None) -> str:
    """Return the schema of the tables, which the caller or the URL may name.

    Raises:
        ConfigurationError: both do, and differ; or it is no plain name.
    """
    if given is not None and in_url not in (None, given):
        raise ConfigurationError(
            f"schema is {given!r}, and {in_url!r} in the journal's URL. Name it in one place. Nothing was sent."
        )
    return check_schema(given or in_url or "alphapo")


def check_schema(schema: str) -> str:
    """Return the name of a database schema, which stands in statements as it is.

    Raises:
        ConfigurationError: not a plain name.
    """
    if not isinstance(schema, str) or not _SCHEMA.fullmatch(schema):
        raise ConfigurationError(
            f"schema must be lower-case letters, digits and _, and not begin with a digit, not {schema!r}. Nothing was sent."
        )
    return schema
