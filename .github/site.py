"""Build the documentation site: `python .github/site.py [FOLDER]`, or `nox -s docs`.

Nothing is written twice: the pages are made of the README, the operations guide, the docstrings of the public names, the help of the
commands and the changelog. Zensical turns them into a site, and ends with an error for every warning and broken link.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

import alphapo_async
from alphapo_async.cli import alphapo
from alphapo_async.cli.runbook import guide, topics

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ("flow.svg", "demo.svg")
WIDTH = 100
API = {
    "Client": ["AlphapoClient", "RetryPolicy", "SessionManager", "Signer", "open_journal", "derive_foreign_id"],
    "Requests and results": [
        *("WithdrawalRequest", "Withdrawal", "Transaction", "BatchResult", "Callback"),
        *("Totals", "Health", "Currency", "Quote", "Event"),
    ],
    "Errors": [name for name in alphapo_async.__all__ if name.endswith(("Error", "Unavailable", "Request", "Busy"))]
    + [
        "WithdrawalFailed",
        "WithdrawalNotSent",
        "WithdrawalRejected",
        "WithdrawalUnknown",
        "ForeignIdConflict",
        "Existing",
    ],
}
API["Errors"].remove("WithdrawalRequest")
BASES = "    options:\n      inherited_members: true\n"
"""The fields that every error of a withdrawal has stand with their base."""
CONTRIB = ("asgi", "aiohttp_web", "engines", "health", "opentelemetry", "otlp", "prometheus", "pytest_plugin")
LINKS = {
    "alphapo_async/OPERATIONS.md": "guide/index.md",
    ".github/SECURITY.md": "security.md",
    ".github/CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    **{f".github/{name}": name for name in PICTURES},
}
"""Where a file of the project is on the site."""
STYLE = """
p:has(> img[src$=".svg"]) { overflow-x: auto }
img[src$=".svg"] { min-width: 760px }
"""
"""A picture that is wider than a telephone is not made too small to read: it scrolls by itself."""
CONFIG = """
[project]
site_name = "alphapo-async"
site_description = "An asyncio client for AlphaPo crypto withdrawals"
docs_dir = "pages"
site_dir = "site"
use_directory_urls = false
extra_css = ["pictures.css"]
nav = {nav}

[project.theme]
font = false
features = ["navigation.top", "content.code.copy"]

[project.plugins.mkdocstrings.handlers.python]
paths = [{root!r}]

[project.plugins.mkdocstrings.handlers.python.options]
show_source = false
show_root_heading = true
show_root_full_path = false
show_bases = false
members_order = "source"
show_attribute_values = false
separate_signature = true
show_signature_annotations = true
signature_crossrefs = true
merge_init_into_class = false
filters = ["!^_"]
heading_level = 2
"""


def pages() -> Iterator[tuple[str, str, str]]:
    """Yield the path, the title in the navigation, and the Markdown of each page."""
    yield "index.md", "Start", _linked(_text("README.md"))
    parts = topics(guide())
    titles = {topic: text.partition("\n")[0].partition(": ")[2] for topic, text in parts.items()}
    listed = "\n".join(f"- [{topic}]({topic}.md): {title}" for topic, title in titles.items() if topic != "glossary")
    intro = "`alphapo runbook` prints this guide, `alphapo runbook TOPIC` one part of it."
    yield (
        "guide/index.md",
        "Guide/All topics",
        f"# Guide\n\n{intro}\n\n{listed}\n\nIts words: [glossary](../glossary.md).\n",
    )
    for topic, text in parts.items():
        path, above = (f"{topic}.md", "guide/") if topic == "glossary" else (f"guide/{topic}.md", "")
        heading = f"# {titles[topic][0].upper()}{titles[topic][1:]}"
        title = "Glossary" if topic == "glossary" else f"Guide/{topic.replace('-', ' ')}"
        yield path, title, _with_topics(f"{heading}\n{text.partition(chr(10))[2]}", parts, above)
    for title, names in API.items():
        blocks = "\n".join(f"::: alphapo_async.{name}\n{BASES if name == 'WithdrawalError' else ''}" for name in names)
        yield f"api/{_slug(title)}.md", f"API/{title}", f"# {title}\n\n{blocks}"
    blocks = "\n".join(f"::: alphapo_async.contrib.{name}\n" for name in CONTRIB)
    yield "api/contrib.md", "API/Integrations", f"# Integrations\n\n{blocks}"
    yield "cli.md", "Command line", "# Command line\n\n" + "\n".join(_commands(alphapo, "alphapo", None))
    yield "changelog.md", "Changelog", _text("CHANGELOG.md")
    yield "security.md", "Security", _linked(_text(".github/SECURITY.md"))
    yield "contributing.md", "Contributing", _linked(_text(".github/CONTRIBUTING.md"))


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _slug(title: str) -> str:
    return title.lower().replace(" ", "-")


def _linked(text: str) -> str:
    """Return a page whose links lead to pages of the site."""
    return re.sub(r"\]\(([^)#\s]+)", lambda found: f"]({LINKS.get(found[1], found[1])}", text)


def _with_topics(text: str, parts: dict[str, str], above: str) -> str:
    """Return a part of the guide in which the command for another part is a link to it."""

    def link(found: re.Match[str]) -> str:
        topic = found[1]
        if topic not in parts:
            return found[0]
        return f"[{found[0]}]({'../glossary.md' if topic == 'glossary' else f'{above}{topic}.md'})"

    return re.sub(r"`alphapo runbook ([\w-]+)`", link, text)


def _commands(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    """Yield the help of a command and of those below it, as a terminal shows it."""
    context = click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH)
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            yield from _commands(command.commands[below], below, context)


def _navigation(titles: dict[str, str]) -> str:
    """Return the navigation as Zensical reads it, from the titles of the pages with their sections before a slash."""
    sections: dict[str, list[str]] = {}
    for path, title in titles.items():
        section, _, name = title.rpartition("/")
        sections.setdefault(section or name, []).append(f'{{ "{name}" = "{path}" }}')
    entries = [
        each[0] if len(each) == 1 else f'{{ "{section}" = [{", ".join(each)}] }}' for section, each in sections.items()
    ]
    return f"[{', '.join(entries)}]"


def write(folder: Path) -> Path:
    """Write the pages and the settings into a folder, and return the settings' path."""
    shutil.rmtree(folder, ignore_errors=True)
    titles = {}
    for path, title, text in pages():
        titles[path] = title
        target = folder / "pages" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    for name in PICTURES:
        shutil.copy(ROOT / ".github" / name, folder / "pages" / name)
    (folder / "pages" / "pictures.css").write_text(STYLE, encoding="utf-8")
    settings = folder / "zensical.toml"
    settings.write_text(CONFIG.format(nav=_navigation(titles), root=str(ROOT)), encoding="utf-8")
    return settings


def main() -> int:
    """Write, and build."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs"
    settings = write(folder)
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "--config-file", str(settings)]
    built = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    sys.stdout.write(built.stdout)
    return built.returncode or int(
        "griffe:" in built.stdout
    )  # docstrings that do not fit their code stop nothing in Zensical


if __name__ == "__main__":
    sys.exit(main())
