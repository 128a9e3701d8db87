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

STRICT = {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error", "TESTS_STRICT": "1"}
"""What `-X dev -W error` says, for worker processes and the programs that tests start, too; a test sees to it that it holds."""
ALL_BUT_THE_LONG = ("--ignore=tests/proof",)
"""What hangs on Python and its packages; the proofs and the changed sources hang on our own code alone."""
NOT_ON_UVLOOP = ("hangs_up_on_accepting", "closed_while_a_name_is_looked_up")
"""Two tests hold asyncio's own way of connecting: uvloop tells of a connection that broke off at once before anything is written, and
looks names up in threads of its own."""
EXTRAS = ("addresses", "cli", "postgres", "otel", "uvloop")


@nox.session(python=PYTHONS or [f"{sys.version_info.major}.{sys.version_info.minor}"])
def tests(session: nox.Session) -> None:
    """Run the tests, every warning an error, asyncio in debug mode."""
    session.install("-q", "-e", ".[dev]")
    patience = ("-o", "timeout=600", "-o", "faulthandler_timeout=900")  # debug mode takes its time
    session.run("python", "-m", "pytest", "-q", *patience, *session.posargs, env=STRICT)


@nox.session
def proofs(session: nox.Session) -> None:
    """Run the proofs for longer than a test run does: deeper, with all cases, over more seeds."""
    session.install("-q", "-e", ".[dev]")
    session.run("python", "-m", "tests.proof.simulation", "--seeds", "400")
    session.run(
        "python", "-m", "tests.proof.simulation", "--seeds", "200", "--each", "12"
    )  # worlds as small as the tests'
    session.run("python", "-m", "tests.proof.test_matrix")
    session.run("python", "-m", "tests.proof.test_row_model")


@nox.session
def soak(session: nox.Session) -> None:
    """Run new seeds of the simulation: `nox -s soak -- --hours 5`. The next such run continues behind them."""
    session.install("-q", "-e", ".[dev]")
    session.run("python", "-m", "tests.proof.simulation", *(session.posargs or ("--hours", "5")))


@nox.session
def chaos(session: nox.Session) -> None:
    """Run processes of ours against every server that this machine has, and have the servers fail."""
    session.install("-q", "-e", ".[dev,chaos]")
    session.run("python", "-m", "tests.proof.chaos", *session.posargs)


@nox.session
def spec(session: nox.Session) -> None:
    """Check the specification in TLA+ with TLC, its planted mistakes, and traces of the simulator (needs Java)."""
    session.install("-q", "-e", ".[dev,spec]")
    session.run("python", "-m", "tests.proof.spec", *session.posargs)


@nox.session
def uvloop(session: nox.Session) -> None:
    """Run the tests of whatever waits or talks on uvloop's event loop."""
    session.install("-q", "-e", ".[dev]")
    looped = [str(path) for path in Path("tests").glob("test_*.py")]
    others = [f"tests/{name}" for name in ("cli", "contrib", "journal", "sandbox")]
    left = ("-k", " and ".join(f"not {name}" for name in NOT_ON_UVLOOP))
    session.run(
        "python", "-m", "pytest", "-q", *left, *(session.posargs or looped + others), env={"TESTS_LOOP": "uvloop"}
    )


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel, or take a named one: run the demo and the first payment in an empty environment, then the tests."""
    session.install("-q", "build")
    with tempfile.TemporaryDirectory() as folder:
        built = [Path(name).resolve() for name in session.posargs]
        if not built:
            session.run("python", "-m", "build", "--wheel", "--outdir", folder, silent=True)
            built = list(Path(folder).glob("*.whl"))
        _try_out(session, built[0], Path(folder) / "empty")
        session.install("-q", f"alphapo-async[dev] @ {built[0].as_uri()}")
        _test_installed(session, Path(folder) / "apart")


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the tests with the oldest versions that `pyproject.toml` allows, of the extras, too."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(one for name in EXTRAS for one in project["optional-dependencies"][name])]
    session.install("-q", ".[dev]", *(re.sub(r">=([\w.]+)", r"==\1", one) for one in wanted))
    with tempfile.TemporaryDirectory() as folder:
        _test_installed(session, Path(folder) / "apart")


@nox.session
def newest(session: nox.Session) -> None:
    """Run the tests with the newest versions, pre-releases included."""
    session.install("-q", ".[dev]")
    session.install("-q", "--upgrade", "--pre", "aiohttp", "msgspec", "tenacity")
    with tempfile.TemporaryDirectory() as folder:
        _test_installed(session, Path(folder) / "apart")


@nox.session
def aiohttp_main(session: nox.Session) -> None:
    """Run the tests with aiohttp as it stands in its repository: `wire` knows its inside."""
    session.install("-q", ".[dev]")
    source = "aiohttp @ git+https://github.com/aio-libs/aiohttp"
    session.install("-q", "--upgrade", source, env={"AIOHTTP_NO_EXTENSIONS": "1"})
    with tempfile.TemporaryDirectory() as folder:
        _test_installed(session, Path(folder) / "apart")


def _try_out(session: nox.Session, built: Path, folder: Path) -> None:
    """Do what a new user does, with the wheel and the extra `cli` alone, and not with the source."""
    session.run("python", "-m", "venv", str(folder))
    python = str(folder / "bin" / "python")
    session.run(python, "-m", "pip", "install", "-q", f"alphapo-async[cli] @ {built.as_uri()}", external=True)
    session.run(python, "-I", "-m", "alphapo_async", "demo", external=True)
    session.run(python, "-I", "tests/support/first_payment.py", "README.md", external=True)


def _test_installed(session: nox.Session, apart: Path) -> None:
    """Run the tests from a folder without the package, so that only the installed one can be meant; a test sees to it that it is."""
    unneeded = shutil.ignore_patterns("__pycache__", "results", ".hypothesis")
    for name in ("tests", "benchmarks", ".ci", ".github"):
        shutil.copytree(name, apart / name, ignore=unneeded)
    for name in ("pyproject.toml", "noxfile.py", "README.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(name, apart / name)
    session.chdir(apart)
    session.run("python", "-m", "pytest", "-q", *ALL_BUT_THE_LONG, "tests", env={"TESTS_INSTALLED": "1"})


@nox.session
def audit(session: nox.Session) -> None:
    """Look for known weaknesses in what the package needs, with every extra that it runs with, and in the workflows."""
    session.install("-q", f".[{','.join(EXTRAS)}]", "pip-audit", "zizmor>=1.32")
    session.run("zizmor", "--offline", ".github")
    session.run("pip-audit", "--skip-editable")


@nox.session
def engines(session: nox.Session) -> None:
    """Run the operations guide's programs for engines, queues and Django; then kill the workers of every engine that is here."""
    session.install("-q", "-e", ".[dev,engines]")
    session.run("python", "-m", "pytest", "-q", "-n0", "tests/proof/durable_engines")
    session.run("python", "-m", "tests.proof.durable_engines", *session.posargs)


@nox.session
def types(session: nox.Session) -> None:
    """Have both type checkers read the package, and users' code as it is written against it."""
    session.install("-q", "-e", ".[dev,bench,engines]", "pyright", "django-stubs", "celery-types")
    session.run("mypy")
    session.run("pyright", "alphapo_async", "benchmarks", "tests/typing")
    with tempfile.TemporaryDirectory() as folder:  # the programs of README and guide
        session.run("python", "-m", "tests.support.programs", folder)
        session.run("mypy", "--strict", "--config-file", "pyproject.toml", *map(str, Path(folder).glob("*.py")))
        session.run("pyright", folder)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site in `build/docs/site`; every warning and every broken link is an error."""
    session.install("-q", "-e", ".[cli]", "zensical>=0.0.73", "mkdocstrings-python>=2")
    session.run("python", ".github/site.py", *session.posargs)
