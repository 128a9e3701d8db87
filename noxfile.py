"""Sessions: `nox` runs the tests on every Python that is here, `nox -l` lists the rest."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

import nox

PYTHONS = [version for version in ("3.11", "3.12", "3.13", "3.14") if shutil.which(f"python{version}")]
nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "venv"


@nox.session(python=PYTHONS or [f"{sys.version_info.major}.{sys.version_info.minor}"])
def tests(session: nox.Session) -> None:
    """Run the tests, every warning an error, asyncio in debug mode."""
    session.install("-q", "-e", ".[dev]")
    session.run("python", "-W", "error", "-X", "dev", "-m", "pytest", "-q", *session.posargs)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel once and run the tests against it, not against the source; or against the wheel that is named."""
    session.install("-q", "build")
    with tempfile.TemporaryDirectory() as folder:
        built = [Path(name).resolve() for name in session.posargs]
        if not built:
            session.run("python", "-m", "build", "--wheel", "--outdir", folder, silent=True)
            built = list(Path(folder).glob("*.whl"))
        session.install("-q", f"alphapo-async[dev] @ {built[0].as_uri()}")
        apart = Path(folder) / "apart"
        for name in ("tests", "benchmarks"):
            shutil.copytree(name, apart / name)
        for name in ("pyproject.toml", "README.md", "CHANGELOG.md", ".ci"):
            source = Path(name)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, apart / name)
        session.chdir(apart)
        session.run(
            "python",
            "-m",
            "pytest",
            "-q",
            "tests/core",
            "tests/journal",
            "tests/test_client.py",
            "tests/test_session.py",
        )


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the tests with the oldest versions that `pyproject.toml` allows."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = [re.sub(r">=([\w.]+).*", r"==\1", wanted) for wanted in project["dependencies"]]
    session.install("-q", "-e", ".[dev]", *oldest)
    session.run(
        "python", "-m", "pytest", "-q", "tests/core", "tests/journal", "tests/test_client.py", "tests/test_session.py"
    )


@nox.session
def newest(session: nox.Session) -> None:
    """Run the tests with the newest versions, pre-releases included."""
    session.install("-q", "-e", ".[dev]")
    session.install("-q", "--upgrade", "--pre", "aiohttp", "msgspec", "tenacity")
    session.run(
        "python", "-m", "pytest", "-q", "tests/core", "tests/journal", "tests/test_client.py", "tests/test_session.py"
    )


@nox.session
def audit(session: nox.Session) -> None:
    """Look for known weaknesses in what the package needs."""
    session.install("-q", ".[cli,postgres]", "pip-audit")
    session.run("pip-audit", "--skip-editable")


@nox.session
def engines(session: nox.Session) -> None:
    """Run the operations guide's programs for durable engines, DBOS and Temporal."""
    session.install("-q", "-e", ".[dev,engines]")
    session.run("python", "-m", "pytest", "-q", "-n0", "tests/engines", *session.posargs)


@nox.session
def types(session: nox.Session) -> None:
    """Have both type checkers read the package, and users' code as it is written against it."""
    session.install("-q", "-e", ".[dev,bench]", "pyright")
    session.run("mypy")
    session.run("pyright", "alphapo_async", "benchmarks", "tests/typing")
