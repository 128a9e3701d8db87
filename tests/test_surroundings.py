"""The tests run as whoever started them wanted: in a worker process, too, where a flag of the first process does not reach."""

from __future__ import annotations

import asyncio
import json
import os
import re
import runpy
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import distribution, entry_points
from importlib.resources import files
from pathlib import Path

import pytest

import alphapo_async
from alphapo_async.cli.runbook import guide, topics
from alphapo_async.sandbox import Sandbox
from tests.support.documents import place_of, text_of


def wanted(name: str, value: str) -> pytest.MarkDecorator:
    """Skip a test unless the environment says so."""
    return pytest.mark.skipif(os.environ.get(name) != value, reason=f"not started with {name}={value}")


@wanted("TESTS_STRICT", "1")
def test_every_warning_is_an_error_and_asyncio_is_in_debug_mode() -> None:
    """As Python is told by `-W error -X dev`, and by PYTHONWARNINGS and PYTHONDEVMODE."""
    assert sys.flags.dev_mode
    assert sys.warnoptions[-1] == "error"

    async def is_debugged() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert asyncio.run(is_debugged())


@wanted("TESTS_LOOP", "uvloop")
async def test_the_event_loop_is_uvloops() -> None:
    """The one that pytest makes, and the one that a program makes by itself."""

    async def kind() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert await kind() == "uvloop"
    assert await asyncio.to_thread(asyncio.run, kind()) == "uvloop"


@wanted("TESTS_INSTALLED", "1")
def test_it_is_the_installed_package_that_is_tested() -> None:
    """Not the source beside the tests; with its guide, the demo's rows, its types, its command and its plugin."""
    site = Path(sysconfig.get_path("purelib"))
    assert Path(alphapo_async.__file__).is_relative_to(site)
    for name in ("OPERATIONS.md", "py.typed", "cli/demo.csv"):
        assert (files("alphapo_async") / name).read_bytes() or name == "py.typed"
    result = {str(file) for file in distribution("alphapo-async").files or ()}
    assert {"alphapo_async/OPERATIONS.md", "alphapo_async/cli/demo.csv", "alphapo_async/py.typed"} <= result
    assert not any(file.startswith(("tests/", "benchmarks/")) for file in result)
    (command,) = entry_points(group="console_scripts", name="alphapo")
    assert command.value == "alphapo_async.__main__:main"
    assert (Path(sysconfig.get_path("scripts")) / "alphapo").exists()
    (plugin,) = entry_points(group="pytest11", name="alphapo")
    assert plugin.load().alphapo_sandbox


@pytest.mark.parametrize("name", ["fcntl", "termios"])
async def test_without_the_modules_of_unix_the_library_pays(name: str) -> None:
    """On Windows, too, with a journal in memory; PostgreSQL's needs no more."""
    program = f"""
import asyncio, sys
sys.modules[{name!r}] = None
from alphapo_async import AlphapoClient, WithdrawalRequest
import alphapo_async.journal.postgres.journal

async def main():
    async with AlphapoClient.from_env(journal="memory") as client:
        request = WithdrawalRequest(
            foreign_id="payout-17", currency="BTC", address="bc1q", amount="0.5", end_user_reference="user-42"
        )
        print((await client.withdraw(request)).foreign_id)

asyncio.run(main())
"""
    async with Sandbox() as sandbox:
        result = {"ALPHAPO_BASE_URL": sandbox.url, "ALPHAPO_KEY": sandbox.key, "ALPHAPO_SECRET": sandbox.secret}
        command = (sys.executable, "-c", program)
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **result}, stdout=subprocess.PIPE)
        said, _ = await process.communicate()
    assert (process.returncode, said.split()) == (0, [b"payout-17"])


def test_every_python_that_is_named_is_checked() -> None:
    """The classifiers, the matrix of the checks and nox's sessions name the same ones; the oldest is the one that is required."""
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    named = [one.rpartition(" ")[2] for one in project["classifiers"] if "Python :: 3." in one]
    checks = text_of(".github/workflows/checks.yml")
    assert f"python: {json.dumps(named)}" in checks
    assert "({})".format(", ".join(f'"{one}"' for one in named)) in text_of("noxfile.py")
    assert project["requires-python"] == f">={named[0]}"


def test_a_release_passes_all_checks_and_every_session_runs_in_them() -> None:
    """Nothing is published that was not checked; what nox knows is not for one machine alone."""
    assert "needs: [checks, test]" in text_of(".github/workflows/release.yml")
    sessions = re.findall(r"^def (\w+)\(session", text_of("noxfile.py"), re.MULTILINE)
    (matrix,) = re.findall(r"session: \[(.*)\]", text_of(".github/workflows/checks.yml"))
    workflows = " ".join(path.read_text(encoding="utf-8") for path in place_of(".github/workflows").glob("*.yml"))
    named = {one.partition("-")[0] for one in matrix.split(", ")} | set(re.findall(r"nox -s (\w+)", workflows))
    assert named == {one for one in sessions if not one.startswith("_")}


def test_every_action_is_pinned_by_its_hash() -> None:
    """A tag can be moved by the owner of the action's repository; the comment names the release, which dependabot raises."""
    used = [
        line.strip()
        for path in place_of(".github/workflows").glob("*.yml")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "uses: " in line and "uses: ./" not in line
    ]
    assert len(used) > 10
    assert [line for line in used if not re.search(r"uses: [\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line)] == []


def test_the_supported_version_is_this_one() -> None:
    """The security policy names the newest minor release."""
    minor = ".".join(alphapo_async.__version__.split(".")[:2])
    assert f"| newest release (now {minor}) | yes |" in text_of(".github/SECURITY.md")


def test_the_documentation_site_has_every_public_name_topic_and_command(tmp_path: Path) -> None:
    """Its pages are made of what there is, and each leads to no other file than one of the site."""
    site = runpy.run_path(str(place_of(".github/site.py")))
    listed = [name for names in site["API"].values() for name in names]
    settings = site["write"](tmp_path)
    pages = {path.relative_to(tmp_path / "pages"): path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.md")}

    assert sorted(listed) == alphapo_async.__all__
    modules = {path.stem for path in place_of("alphapo_async/contrib").glob("[!_]*.py")}
    assert modules - {"answers"} == set(site["CONTRIB"])  # the HTTP answers that both frameworks share
    assert all(Path("guide") / f"{topic}.md" in pages for topic in topics(guide()) if topic != "glossary")
    assert "## alphapo journal show" in pages[Path("cli.md")]
    assert '"guide/outage.md"' in settings.read_text(encoding="utf-8")
    style = (tmp_path / "pages" / "pictures.css").read_text(encoding="utf-8")
    assert "overflow-x: auto" in style  # a picture that is too wide for a telephone scrolls
    assert '"pictures.css"' in settings.read_text(encoding="utf-8")
    assert [path for path, text in pages.items() if "OPERATIONS.md)" in text] == []
