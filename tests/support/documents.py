"""The pages that people read, and what they name: commands, modules, sessions, topics and files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import click

from alphapo_async.cli import alphapo

ROOT = Path(__file__).resolve().parent.parent.parent
GUIDE = "alphapo_async/OPERATIONS.md"
PAGES = ("README.md", GUIDE, ".github/CONTRIBUTING.md", ".github/SECURITY.md", "benchmarks/README.md")


def place_of(name: str) -> Path:
    """Return where a file of the project is; those of the package are where it is installed."""
    package, _, rest = name.partition("/")
    return Path(str(files(package))) / rest if package == "alphapo_async" else ROOT / name


def text_of(name: str) -> str:
    """Return a page."""
    return place_of(name).read_text(encoding="utf-8")


def _code(text: str) -> Iterator[str]:
    """Yield what is shown as code, but for Python programs: spans, and lines that are set in."""
    text = re.sub(r"```python\n.*?```", "", text, flags=re.DOTALL)
    yield from re.findall(r"^ {4}(\S.*)", text, re.MULTILINE)
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^ {4}\S.*", "", text, flags=re.MULTILINE))


def _found(pattern: str, text: str) -> list[str]:
    parts = (part for code in _code(text) for part in re.split(r"&&|\|\||;", code))
    return sorted({found.strip() for part in parts for found in re.findall(pattern, part)})


def commands(text: str) -> list[str]:
    """Return every command of ours that a page names, with its arguments."""
    return _found(r"(?:^|[\s/])(alphapo (?:-|[a-z]).*)", text)


def modules(text: str) -> list[str]:
    """Return every module that a page has Python run."""
    return _found(r"python3? -m ((?:alphapo_async|tests|benchmarks)[\w.]*)", text)


def sessions(text: str) -> list[str]:
    """Return every session of nox that a page names."""
    return _found(r"nox -s ([\w-]+)", text)


def links(text: str) -> list[str]:
    """Return the files that a page links to or shows, as it names them."""
    return sorted({link for link in re.findall(r"\]\(([^)#\s]+)", text) if not link.startswith(("http", "mailto:"))})


def problem_of(command: str) -> str | None:
    """Return what is wrong with a command: one that there is not, or an option that it does not take."""
    words = shlex.split(command.replace("…", "x"), comments=True)[1:]
    at: click.Command = alphapo
    while isinstance(at, click.Group) and words and words[0] in at.commands:
        at = at.commands[words.pop(0)]
    if isinstance(at, click.Group) and any(not word.startswith("-") for word in words):
        return f"{words[0]!r} is no command of {at.name}"
    known = {"-h", "--help"}.union(*({*one.opts, *one.secondary_opts} for one in at.params))
    strange = {word.partition("=")[0] for word in words if word.startswith("-")} - known
    return f"{at.name} does not take {strange}" if strange else None


def is_module(name: str) -> bool:
    """Tell whether Python can run it."""
    found = find_spec(name)
    if found is None:
        return False
    return found.submodule_search_locations is None or find_spec(f"{name}.__main__") is not None
