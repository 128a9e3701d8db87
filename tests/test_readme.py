"""What the pages say is true: their programs run, and the commands, files and figures that they name are there."""

import asyncio
import contextlib
import functools
import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import pytest

from alphapo_async.cli.runbook import topics
from alphapo_async.contrib.pytest_plugin import RunningSandbox
from alphapo_async.core import errors
from alphapo_async.core.callbacks import LARGEST
from alphapo_async.core.models import WithdrawalRequest
from alphapo_async.sandbox import Dialect, Fault, Mischief, Sandbox, Script
from alphapo_async.sandbox.records import MAGIC_CANCELLED
from alphapo_async.session import LARGEST_REPLY
from tests.support import documents, postgres
from tests.support.documents import place_of, text_of
from tests.support.long import LONG
from tests.support.programs import programs, programs_of, write_programs

README = text_of("README.md")
GUIDE = text_of(documents.GUIDE)


FIRST, BACKEND, GATHERED, WORKER = programs("README.md")
BATCH, OUTBOX, TESTED, TESTED_BACKEND, STOOD_IN, SCRIPTED, LOOPS, *_OF_ENGINES = programs(
    documents.GUIDE
)  # those are run where the engines are, by tests/proof/durable_engines


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A local AlphaPo."""
    async with Sandbox("readme-key", "readme-secret") as running:
        yield running


def _environment(sandbox: Sandbox) -> dict[str, str]:
    usual = {name: value for name, value in os.environ.items() if not name.startswith(("ALPHAPO_", "COV"))}
    result = {"ALPHAPO_BASE_URL": sandbox.url, "ALPHAPO_KEY": sandbox.key, "ALPHAPO_SECRET": sandbox.secret}
    return {**usual, **result}


async def _ran(program: str, sandbox: Sandbox, *arguments: str, **more: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        program,
        *arguments,
        env={**_environment(sandbox), **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,  # where asyncio says, in debug mode, what took long
    )
    out, complaints = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, complaints.decode()
    return out.decode()


async def test_the_first_payment_is_made_once_however_often_it_is_run(sandbox: Sandbox) -> None:
    """In at most 12 lines, as printed, and without a setting besides those that the sandbox prints."""
    assert len(FIRST.splitlines()) <= 12

    first, again = await _ran(FIRST, sandbox), await _ran(FIRST, sandbox)

    (accepted,) = sandbox.ledger.all_accepted()
    assert f"id={accepted.id}" in first
    assert f"id={accepted.id}" in again


async def test_the_gathered_example_pays_a_hundred(sandbox: Sandbox) -> None:
    """The second way of use runs as it stands, and its totals are true."""
    said = await _ran(GATHERED, sandbox)

    assert "USDTT requested 2500.00 accepted 2500.00 unknown 0" in said
    assert len(sandbox.ledger.all_accepted()) == 100


async def test_the_batch_example_pays_a_thousand(sandbox: Sandbox) -> None:
    """From an async generator of mappings."""
    said = await _ran(BATCH, sandbox)

    assert said == "25000.00 accepted\n"
    assert len(sandbox.ledger.all_accepted()) == 1_000


async def test_the_worker_example_pays_its_queue(sandbox: Sandbox) -> None:
    """The third way of use runs as it stands."""
    said = await _ran(WORKER, sandbox)

    assert said.count("accepted as") == 10
    assert sandbox.ledger.paid_more_than_once() == []


async def test_the_example_in_a_transaction_pays_what_was_committed(sandbox: Sandbox) -> None:
    """With SQLAlchemy, in a database that holds both books."""
    name = postgres.schema()
    await postgres.execute(f"create database {name}")

    said = await _ran(OUTBOX, sandbox, ALPHAPO_JOURNAL=postgres.database(name))

    assert said == "invoice-17 accepted\n"
    assert len(sandbox.ledger.all_accepted()) == 1


async def test_a_loop_for_each_request_pays_each_name_once(sandbox: Sandbox, tmp_path: Path) -> None:
    """Ten names, each asked for twice, in four threads at once: one journal, and a client for each call."""
    names = [f"refund-{number}" for number in range(10)]

    said = await _ran(LOOPS, sandbox, *names, *names, ALPHAPO_JOURNAL=str(tmp_path / "payouts.db"))

    paid = said.split()
    assert paid[:10] == paid[10:]
    assert sorted(paid[:10]) == sorted(str(each.id) for each in sandbox.ledger.all_accepted())
    assert list((tmp_path / "payouts.db.workers").iterdir()) == []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_examples_of_tests_pass(tmp_path: Path) -> None:
    """As they stand in README and guide, with the settings that the guide shows, in files beside each other.

    Those of the backend, of at most 40 lines, import it anew each, and get a client that is not closed yet. The stand-ins are a client from
    `create_autospec`, and replies of aioresponses with the response class that it needs.
    """
    assert len(BACKEND.splitlines()) <= 40
    programs = {"app": BACKEND, "test_payout": TESTED, "test_stand_in": STOOD_IN, "test_replies": SCRIPTED}
    for name, program in {**programs, "test_backend": TESTED_BACKEND}.items():
        (tmp_path / f"{name}.py").write_text(program, encoding="utf-8")
    (settings,) = re.findall(r"```ini\n(\[pytest\]\n.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "pytest.ini").write_text(settings, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-v", "--strict-markers", "-p", "no:cacheprovider", "-p", "no:xdist"]
    # Starlette's test client warns of the HTTP client that it uses: that matters only where every warning is an error.
    usual = {name: value for name, value in os.environ.items() if name not in ("PYTHONWARNINGS", "PYTHONDEVMODE")}
    ran = subprocess.run(command, cwd=tmp_path, env=usual, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout
    passed = Counter(line.partition("::")[0] for line in ran.stdout.splitlines() if " PASSED" in line)
    assert passed == {"test_payout.py": 2, "test_stand_in.py": 2, "test_replies.py": 1, "test_backend.py": 3}


_PACKAGES = {
    "celery": "celery[redis]",
    "restate": "restate-sdk",
    "sqlalchemy": "sqlalchemy[asyncio]",
    "starlette": "fastapi",
    "starlette.testclient": "httpx2",
    "taskiq_redis": "taskiq-redis",
}
"""What brings a module, where its name differs from the package's."""


@pytest.mark.parametrize("topic", [topic for topic, text in topics(GUIDE).items() if "```python" in text])
def test_each_topic_names_the_packages_of_its_programs(topic: str) -> None:
    """In a pip line of that topic."""
    text = topics(GUIDE)[topic]
    installed = " ".join(re.findall(r"pip install ([^`\n]+)", text))
    modules = set(re.findall(r"^(?:from|import) ([\w.]+)", "".join(programs_of(text)), re.MULTILINE))
    needed = {*modules, *(module.partition(".")[0] for module in modules)} - {"alphapo_async", "aiohttp"}
    packages = {_PACKAGES.get(name, name) for name in needed if "." not in name or name in _PACKAGES}
    assert sorted(packages - sys.stdlib_module_names - set(re.findall(r"[\w\[\]-]+", installed))) == []


def _cells() -> list[tuple[str, str]]:
    """Return what there is to see, and each way to see it, as the guide's table of tests has them."""
    table = re.findall(r"^\| (.+?) \| (.*?) ?\| .+ \|$", topics(GUIDE)["testing"], re.MULTILINE)
    return [(seen, code) for seen, marker in table[2:] for code in re.findall(r"`([^`]+)`", marker) or [""]]


CELLS = [(seen, code) for seen, code in _cells() if code not in ("throttle_seconds=0", "settle_after")]


@pytest.mark.parametrize(
    ("seen", "code"),
    [pytest.param(*one, marks=[LONG] if number % 2 else []) for number, one in enumerate(CELLS)],
    ids=lambda text: text[:40],
)
async def test_the_table_of_tests_says_what_comes(seen: str, code: str) -> None:
    """Every marker and every address in it leads to what stands beside it."""
    if code.startswith("withdraw("):
        return  # how the others in its row are called
    settings: dict[str, Any] = {"settle_after": 0.1, "throttle_seconds": 0.05}
    address = "bc1qmadeup"
    if "=" in code:
        settings |= eval(f"dict({code})", {"Dialect": Dialect})  # noqa: S307 - our own guide
    elif code.startswith('"'):
        settings["faults"] = code.strip('"')
    else:
        address = code or address
    expected = re.search(r"`(\w+)`", seen)
    deadline = 0.5 if "under way" in seen else 8.0
    with RunningSandbox(**settings) as running:
        async with running.client(close_grace=0.2) as client:
            usual = {"currency": "BTC", "amount": "0.5", "end_user_reference": "user", "foreign_id": "f"}
            request = WithdrawalRequest(address=address, **usual)  # type: ignore[arg-type]
            if expected is None:
                assert (await client.withdraw(request, deadline=deadline)).id == running.ledger.all_accepted()[0].id
            else:
                with pytest.raises(getattr(errors, expected[1])):
                    await client.withdraw(request, deadline=deadline)
        if "failed later" in seen:
            await asyncio.sleep(0.2)
            assert not running.ledger.all_accepted()[0].moved_money


def test_the_table_of_tests_has_every_outcome() -> None:
    """And the named faults that are made for them."""
    result = " ".join(seen for seen, _ in CELLS)
    missing = {kind.__name__ for kind in errors.WithdrawalError.__subclasses__() if kind.__name__ not in result}
    assert missing == {"ForeignIdConflict"}  # which is the caller's doing, not AlphaPo's
    assert len(CELLS) > 20


async def test_the_backend_example_pays_and_hears_what_became_of_it() -> None:
    """The first way of use runs as it stands, with callbacks that come twice, late, forged and among deposits.

    A payout asked for twice is paid once, another under its name says what to do, and the handler hears of the end once.
    """
    port = _free_port()
    mischief = Mischief(duplicates=True, reordering=True, forgeries=True, deposits=True)
    callback_url = f"http://127.0.0.1:{port}/alphapo/"
    async with (
        Sandbox(
            "readme-key", "readme-secret", callback_url=callback_url, mischief=mischief, settle_after=0.3
        ) as sandbox,
        _serving(sandbox, port) as (ask, said),
    ):
        asked = {"foreign_id": "payout-1", "address": "bc1qmadeup", "amount": "0.5"}
        first, again, other = await ask(asked), await ask(asked), await ask({**asked, "amount": "7"})
        await _all_delivered(sandbox)

    assert [status for status, _ in (first, again, other)] == [201, 201, 409]
    assert first[1] == again[1]
    assert other[1]["outcome"] == "conflict"
    assert len(sandbox.ledger.accepted("payout-1")) == 1
    assert {(each.what, each.answer) for each in sandbox.deliveries} == {
        ("withdrawal", 200),
        ("deposit", 200),
        ("forgery", 403),
    }
    # In debug mode asyncio says what took long.
    lines = [line for text in said for line in text.splitlines() if not line.startswith("WARNING:asyncio:")]
    assert [line for line in lines if "callback refused" not in line] == ["payout-1 confirmed"]


async def test_the_backend_example_answers_as_the_table_says(tmp_path: Path) -> None:
    """Every outcome has the HTTP status that stands in its row."""
    every = {"look-up": [Fault.HTML_502_BEFORE]}
    faults = Script(
        {
            "refused": {"withdrawal": [Fault.INSUFFICIENT]},
            "lost": {"withdrawal": [Fault.RESET_AFTER], **every},
            "throttled": {"withdrawal": [Fault.THROTTLE]},
            "key": {"withdrawal": [Fault.KEY_REFUSED]},
        },
        then="repeat last",
    )
    journal, port = tmp_path / "payouts.db", _free_port()
    names = ("paid", "refused", "ended", "key")
    usual = {"address": "bc1qmadeup", "amount": "0.5"}
    async with (
        Sandbox("readme-key", "readme-secret", faults=faults, settle_after=0.0) as sandbox,
        _serving(sandbox, port, ALPHAPO_JOURNAL=str(journal)) as (ask, _),
    ):
        addresses = {"ended": MAGIC_CANCELLED}
        result = {
            name: await ask({**usual, "foreign_id": name, "address": addresses.get(name, "bc1qmadeup")})
            for name in names
        }
        # Throttling holds back the others: it comes last, while the lost one uses up its deadline.
        lost = asyncio.ensure_future(ask({**usual, "foreign_id": "lost"}))
        while not sandbox.ledger.requests("lost"):  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.01)
        result["throttled"] = await ask({**usual, "foreign_id": "throttled"})
        result["lost"] = await lost
        while result["ended"][0] == HTTPStatus.CREATED:  # until `work` has heard how it ended
            await asyncio.sleep(0.1)
            result["ended"] = await ask({**usual, "foreign_id": "ended", "address": MAGIC_CANCELLED})
        result["another"] = await ask({**usual, "foreign_id": "paid", "amount": "7"})
        result["wrong"] = await ask({**usual, "foreign_id": "wrong", "amount": "-0.5"})
        with contextlib.closing(sqlite3.connect(journal, isolation_level=None)) as connection:
            connection.execute("drop table withdrawals")
        result["journal"] = await ask({**usual, "foreign_id": "journal"})

    assert {name: (status, said["outcome"]) for name, (status, said) in result.items()} == {
        "paid": (201, "accepted"),
        "refused": (_in_table("WithdrawalRejected"), "rejected"),
        "ended": (_in_table("WithdrawalFailed"), "failed"),
        "key": (_in_table("AuthenticationError"), "key_refused"),
        "lost": (_in_table("WithdrawalUnknown"), "unknown"),
        "throttled": (_in_table("WithdrawalNotSent"), "not_sent"),
        "another": (_in_table("ForeignIdConflict"), "conflict"),
        "wrong": (_in_table("InvalidRequest"), "invalid"),
        "journal": (_in_table("JournalError"), "unknown"),
    }


def _in_table(error: str) -> int:
    """Return the HTTP status in the row of an error."""
    (status,) = re.findall(rf"^\| `{error}`[^|]*\|[^|]*\| (\d+)", README, re.MULTILINE)
    return int(status)


_Ask: TypeAlias = Callable[[dict[str, Any]], Awaitable[tuple[int, Any]]]


@contextlib.asynccontextmanager
async def _serving(sandbox: Sandbox, port: int, **more: str) -> AsyncGenerator[tuple[_Ask, list[str]], None]:
    """Run the backend; give what asks it for a payout, and a list that holds at the end what it said."""
    serve = f"{BACKEND}\nimport sys, uvicorn\nuvicorn.run(app, host='127.0.0.1', port={port}, log_level='error')\n"
    said: list[str] = []
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-u", "-c", serve),
        env={**_environment(sandbox), **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        async with aiohttp.ClientSession() as session:
            yield functools.partial(_posted, session, port), said
    finally:
        process.terminate()
        out, _ = await process.communicate()
        said.append(out.decode())


async def _all_delivered(sandbox: Sandbox) -> None:
    """Wait until every status of withdrawal and deposit has come three times."""
    async with asyncio.timeout(30):
        while sum(each.what != "forgery" for each in sandbox.deliveries) < 2 * 2 * 3:  # noqa: ASYNC110 - the sandbox only writes them down
            await asyncio.sleep(0.05)


async def _posted(session: aiohttp.ClientSession, port: int, asked: dict[str, Any]) -> tuple[int, Any]:
    for _ in range(1_000):  # a busy machine takes long to start it
        try:
            async with session.post(f"http://127.0.0.1:{port}/payouts", json=asked) as reply:
                return reply.status, await reply.json()
        except aiohttp.ClientConnectorError:
            await asyncio.sleep(0.05)  # it is still starting
    raise AssertionError("the backend did not start")


def test_ci_runs_the_readmes_test_command() -> None:
    """The command that CI runs is the command that the README shows."""
    shown = [line.strip() for line in README.splitlines() if line.startswith("    python3 -m venv")]
    script = text_of(".ci/run")
    ran = script.split("# README: begin\n")[1].split("\n# README: end")[0]

    assert len(shown) == 2
    assert ran == shown[1]


def test_the_outcome_table_names_every_error_of_a_withdrawal() -> None:
    """No error that `withdraw` can raise is missing from the table."""
    result = errors.WithdrawalError.__subclasses__()

    assert len(result) == 6
    for kind in [*result, errors.JournalError, errors.InvalidRequest, errors.ConfigurationError]:
        assert f"`{kind.__name__}`" in README


def test_the_readme_is_short() -> None:
    """Whoever wants more finds it in the guide."""
    assert len(README.splitlines()) < 230


def _lines_of(*names: str) -> int:
    """Return the lines of files, and of every program and query in folders."""
    places = [place_of(name) for name in names]
    paths = [path for place in places for path in (sorted(place.rglob("*")) if place.is_dir() else [place])]
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths if path.suffix in (".py", ".sql"))


def _is_about(counted: str, lines: int) -> bool:
    """Return whether a figure of a page is right to a tenth."""
    return abs(lines / int(counted.replace(",", "")) - 1) < 0.1


def test_the_readme_counts_the_lines_that_handle_money() -> None:
    """To a tenth, the journal, the client, the package and its tests included."""
    ((counted, listed),) = re.findall(
        r"Five files handle money, with about ([\d,]+) lines: (.*?)\nA review", README, re.DOTALL
    )
    names = re.findall(r"`(alphapo_async/[\w/]+\.py)`", listed)
    assert len(names) == 5
    assert _is_about(counted, _lines_of(*names))
    ((journal, client, package, tests),) = re.findall(
        r"about ([\d,]+) lines with its SQL in `alphapo_async/journal/`, and the ([\d,]+) of `alphapo_async/client.py`"
        r".* about ([\d,]+) lines, its tests ([\d,]+)\.",
        README,
    )
    assert _is_about(journal, _lines_of("alphapo_async/journal"))
    assert _is_about(client, _lines_of("alphapo_async/client.py"))
    assert _is_about(package, _lines_of("alphapo_async/"))
    assert _is_about(tests, _lines_of("tests"))


def test_the_readme_compares_the_cpu_as_the_benchmarks_do() -> None:
    """With 100 in flight and with one, to a digit behind the point."""
    hundred_shown, one_shown = r"([\d.]+) .*?, ([\d.]+) in a file, ([\d.]+) in .*?", r"([\d.]+), ([\d.]+) and ([\d.]+):"
    (shown,) = re.findall(f"with 100 in flight {hundred_shown}; one at a time {one_shown}", README)
    figures = text_of("benchmarks/README.md")
    hundred = re.findall(r"^\| ours: `withdraw`, .+? \| ([\d.]+) \|", figures, re.MULTILINE)
    (one,) = re.findall(r"^\| 1 \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", figures, re.MULTILINE)
    assert [float(figure) for figure in shown] == [round(float(figure) + 1e-9, 1) for figure in (*hundred, *one)]


async def test_a_journal_is_read_without_the_library(tmp_path: Path) -> None:
    """With the query that the page on contributing shows."""
    (query,) = re.findall(r"```sql\n(.*?)```", text_of(".github/CONTRIBUTING.md"), re.DOTALL)
    request = WithdrawalRequest(foreign_id="f", currency="BTC", address="bc1q", amount="0.1", end_user_reference="u")
    path = tmp_path / "payouts.db"
    with RunningSandbox() as running:
        async with running.client(journal=str(path)) as client:
            paid = await client.withdraw(request)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = connection.execute(query).fetchall()
    assert {line[:6] for line in found} == {("f", "accepted", "0.1", "BTC", str(paid.id), paid.status)}
    assert "attempt" in [line[7] for line in found]


_NEEDS_AN_ENGINE = re.compile(
    r"^(?:from|import) (?:celery|dbos|django|procrastinate|restate|taskiq|temporalio)\b", re.MULTILINE
)


@LONG
def test_the_programs_pass_the_type_checker(tmp_path: Path) -> None:
    """Mypy strict, as users run it; `nox -s types` has pyright read them, too, and those of engines with their types."""
    written = write_programs(tmp_path)
    paths = [path for path in written if not _NEEDS_AN_ENGINE.search(path.read_text(encoding="utf-8"))]
    assert len(paths) == len(written) - len(_OF_ENGINES)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file",
        str(documents.ROOT / "pyproject.toml"),
        *map(str, paths),
    ]
    checked = subprocess.run(command, cwd=documents.ROOT, capture_output=True, text=True, check=False)
    assert f"Success: no issues found in {len(paths)} source files" in checked.stdout


def test_every_file_that_the_readme_names_exists() -> None:
    """Pages and programs, by their names."""
    named = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]+)`", README))
    named -= {name for name in named if name.startswith(("alphapo.", "/"))}
    assert len(named) > 1
    assert sorted(name for name in named if not place_of(name).exists()) == []


@pytest.mark.parametrize("page", documents.PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    """Beside the page, as a browser follows it."""
    folder = place_of(page).parent
    broken = [link for link in documents.links(text_of(page)) if not _is_there(folder, link)]
    assert broken == []


def _is_there(folder: Path, link: str) -> bool:
    return (folder / link).exists() or place_of(link).exists()


@pytest.mark.parametrize(
    ("page", "command"), [(page, command) for page in documents.PAGES for command in documents.commands(text_of(page))]
)
def test_every_command_of_a_page_exists(page: str, command: str) -> None:
    """With the options that it is given; and a part of the guide with the name that is asked for."""
    assert documents.problem_of(command) is None
    words = command.split()
    if words[1] == "runbook" and len(words) == 3:
        assert words[2] == "TOPIC" or words[2].strip("[]") in {*topics(GUIDE), "TOPIC"}


@pytest.mark.parametrize("page", documents.PAGES)
def test_every_module_and_session_of_a_page_exists(page: str) -> None:
    """What `python -m` and `nox -s` are told."""
    known = set(re.findall(r"^def (\w+)\(session", text_of("noxfile.py"), re.MULTILINE))
    assert "wheel" in known
    assert [name for name in documents.modules(text_of(page)) if not documents.is_module(name)] == []
    assert [name for name in documents.sessions(text_of(page)) if name.partition("-")[0] not in known] == []


def test_the_pages_are_read_whole() -> None:
    """Commands and modules are found where they stand: in a line of text, and in a line by themselves."""
    assert {"alphapo demo", "alphapo batch payouts.csv", "alphapo --help"} <= set(documents.commands(README))
    assert len(documents.commands(GUIDE)) > 15
    assert "tests.proof.simulation" in documents.modules(README)
    assert len(documents.modules(text_of("benchmarks/README.md"))) > 8
    assert documents.problem_of("alphapo pay") == "'pay' is no command of alphapo"
    assert documents.problem_of("alphapo status f --loud") == "status does not take {'--loud'}"


def test_the_readme_and_the_capture_count_the_rows_that_there_are() -> None:
    """The demo pays them all."""
    rows = len(text_of("alphapo_async/cli/demo.csv").splitlines()) - 1
    assert f"See it pay {rows} rows" in README
    assert f"Paying&#160;{rows}&#160;made-up" in text_of(".github/demo.svg")


def test_the_threat_model_names_the_largest_reply_and_callback() -> None:
    """As the code has them."""
    result = f"({LARGEST_REPLY // 1024**2} MiB a reply, {LARGEST // 1024} KiB a callback)"
    assert result in text_of(".github/SECURITY.md")
