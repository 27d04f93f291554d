"""The checks that start programs of their own: a server that is asked, a measurement of coverage, a plug-in."""

import asyncio
import socket
import sys
from pathlib import Path

import pytest

from protocol.checks import Check, CheckCoverageNotLower, CheckHttpOk, CheckPlugin
from protocol.model import Finding
from sidecar.checks import CHECKS
from sidecar.checks.base import kind_of
from sidecar.checks.plugin import MOST_ASKED_BYTES, question
from sidecar.core.coverage import Coverage
from sidecar.core.diff import Change
from sidecar.errors import GitFailed
from sidecar.sandbox.cell import Cell, Level, Sandbox
from sidecar.sandbox.policy import Place, Rules
from tests.support.attempts import ATTEMPT, Bench

PYTHON = sys.executable
SERVER = """import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"all is well")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
RAW = """import socket, sys
ANSWERS = {b"/health?full": b"200 OK", b"/old": b"301 Moved\\r\\nLocation: /health", b"/nonsense": b"x"}
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    line, _ = server.accept()
    asked = line.recv(65536).split(b" ")
    if len(asked) > 1:
        answer = ANSWERS.get(asked[1], b"404 Not Found")
        line.sendall(answer if answer == b"x" else b"HTTP/1.1 " + answer + b"\\r\\n\\r\\n")
    line.close()
"""


async def check(bench: Bench, wanted: Check, timeout_s: float = 60.0) -> Finding:
    return await CHECKS[kind_of(wanted)](wanted, bench.ground(timeout_s))


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


async def test_a_server_is_started_asked_and_ended(bench: Bench, port: int) -> None:
    (bench.workspace / "server.py").write_text(SERVER)
    url = f"http://127.0.0.1:{port}/health"
    found = await check(bench, CheckHttpOk(command=f"{PYTHON} server.py {port}", url=url, text="is well"))

    assert (found.passed, found.detail) == (True, f"{url} answers 200")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port))


async def test_what_was_there_before_the_server_proves_nothing(bench: Bench) -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall is well")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        found = await check(bench, CheckHttpOk(command="echo begun; sleep 60", url=url, timeout_s=0.5))

    assert (found.passed, "is taken" in found.detail, "begun" in found.output) == (False, True, False)


@pytest.mark.parametrize(
    "path, more, detail",
    [
        ("/old", {"status": 301}, ""),
        ("/gone", {}, "answers 404, not 200"),
        ("/old", {}, "answers 301, not 200"),
        ("/health?full", {"text": "is bad"}, "answers 200 without 'is bad'"),
        ("/nonsense", {}, "does not answer"),
    ],
)
async def test_only_the_answer_that_is_wanted_counts(
    bench: Bench, port: int, path: str, more: dict[str, str], detail: str
) -> None:
    (bench.workspace / "server.py").write_text(RAW)
    url = f"http://127.0.0.1:{port}{path}"
    wanted = CheckHttpOk(command=f"{PYTHON} -I -S server.py {port}", url=url, timeout_s=2.5, **more)  # type: ignore[arg-type]  # fields by name
    found = await check(bench, wanted)

    assert found.passed is (not detail), found
    assert detail in found.detail


async def test_a_server_that_ends_or_never_answers_says_which(bench: Bench, port: int) -> None:
    url = f"http://localhost:{port}/"
    ended = await check(bench, CheckHttpOk(command="echo broken; exit 3", url=url))
    silent = await check(bench, CheckHttpOk(command="sleep 60", url=url, timeout_s=0.5))

    assert (ended.passed, silent.passed) == (False, False)
    assert ended.detail.startswith("the server ended with exit code 3 before it answered well")
    assert "broken" in ended.output
    assert f"{url} does not answer" in silent.detail


async def test_where_no_port_can_be_opened_nobody_is_asked(bench: Bench) -> None:
    ground = bench.ground()
    sandbox = Sandbox(bench.processes, bench.scratch, Rules(), Level.LANDLOCK)
    cell = Cell(sandbox, bench.processes, ATTEMPT, Place(bench.workspace, bench.scratch))
    object.__setattr__(ground, "cell", cell)
    found = await CHECKS["http_ok"](CheckHttpOk(command="true", url="http://localhost:1"), ground)

    assert (found.passed, "needs bubblewrap" in found.detail) == (False, True)


LCOV = "printf 'SF:a\\nLF:10\\nLH:{hit}\\nend_of_record\\n' > lcov.info"


@pytest.mark.parametrize(
    "hit, before, more, passed, detail",
    [
        (8, Coverage(80.0, 10), {}, True, "80.00 % of 10 lines, 80.00 % of 10 lines before the work"),
        (9, Coverage(80.0), {}, True, "90.00 % of 10 lines, 80.00 % before the work"),
        (7, Coverage(80.0), {}, False, "lower: 70.00 % of 10 lines, 80.00 % before the work"),
        (7, Coverage(80.0), {"may_drop": 10.0}, True, "70.00 %"),
        (7, None, {}, True, "70.00 % of 10 lines"),
    ],
)
async def test_coverage_may_not_fall(
    bench: Bench, hit: int, before: Coverage | None, more: dict[str, float], passed: bool, detail: str
) -> None:
    bench.coverage_before = before
    found = await check(bench, CheckCoverageNotLower(command=LCOV.format(hit=hit), report="lcov.info", **more))

    assert found.passed is passed
    assert found.detail.startswith(detail)


async def test_coverage_that_is_not_measured_is_none(bench: Bench) -> None:
    (bench.workspace / "lcov.info").write_text("LF:10\nLH:10\n")
    bench.coverage_before = Coverage(50.0)
    stale = await check(bench, CheckCoverageNotLower(command="true", report="lcov.info"))
    silent = await check(bench, CheckCoverageNotLower(command="echo fine"))
    failed = await check(bench, CheckCoverageNotLower(command="echo 'TOTAL 9 0 100%'; exit 1"))
    said = await check(bench, CheckCoverageNotLower(command="echo 'TOTAL 9 0 100%'"))

    assert stale.detail == "the command has not written 'lcov.info'"
    assert silent.detail == "it does not say how much of the code was run"
    assert (stale.passed, silent.passed, failed.passed, said.passed) == (False, False, False, True)


async def test_coverage_that_could_not_be_compared_or_is_counted_otherwise_leaves_a_doubt(bench: Bench) -> None:
    wanted = CheckCoverageNotLower(command="echo 'TOTAL 9 0 100%'", may_edit=("generated/**",))
    bench.coverage_before = TimeoutError
    cut = await check(bench, wanted)
    bench.coverage_before = Coverage(100.0)
    bench.change = (Change("a.py", ((3, "x = 1  # pragma: no cover"),)),)
    hidden = await check(bench, wanted)
    bench.change = (Change("generated/a.py", ((3, "x = 1  # pragma: no cover"),)),)
    allowed = await check(bench, wanted)

    assert [(found.passed, found.doubtful) for found in (cut, hidden, allowed)] == [
        (False, True),
        (False, True),
        (True, False),
    ]
    assert "what it measured before the work is not known" in cut.detail
    assert "code is left out of the count at a.py:3" in hidden.detail


PLUGIN = """#!/bin/sh
{python} -c '
import json, sys
asked = json.load(sys.stdin)
bad = [each["path"] for each in asked["changes"] if each["path"].endswith(asked["check"]["settings"]["suffix"])]
print("looking", file=sys.stderr)
print(json.dumps({{"passed": not bad, "detail": " ".join(bad)}}))
'
"""


def plugged(bench: Bench, script: str) -> None:
    program = Path(bench.scratch / "plugin")
    program.write_text(script)
    program.chmod(0o700)
    bench.plugins = {"suffixes": (str(program),)}


async def test_a_plug_in_is_told_the_change_and_its_word_counts(bench: Bench) -> None:
    plugged(bench, PLUGIN.format(python=PYTHON))
    bench.change = (Change("a.py", ((1, "x"),)), Change("b.exe", is_new=True, is_opaque=True))
    bad = await check(bench, CheckPlugin(plugin="suffixes", settings={"suffix": ".exe"}))
    good = await check(bench, CheckPlugin(plugin="suffixes", settings={"suffix": ".dll"}))

    assert (bad.passed, bad.detail, bad.output) == (False, "b.exe", 'looking\n{"passed": false, "detail": "b.exe"}\n')
    assert (good.passed, good.name) == (True, "plugin: suffixes")


@pytest.mark.parametrize(
    "script, doubtful, detail",
    [
        ('echo \'{"passed": true, "doubtful": true, "detail": "hm"}\'', True, "hm"),
        ("echo '{\"passed\": true}'; exit 1", False, "exit code 1"),
        ("echo fine", False, "plug-in 'suffixes' does not answer as it should"),
        ('echo \'{"passed": "yes"}\'', False, "plug-in 'suffixes' does not answer as it should"),
        ("echo '{\"passed\": true}' >&2", False, "plug-in 'suffixes' does not answer as it should"),
    ],
)
async def test_a_plug_in_that_does_not_say_that_all_is_well_lets_nothing_pass(
    bench: Bench, script: str, doubtful: bool, detail: str
) -> None:
    plugged(bench, f"#!/bin/sh\n{script}\n")
    found = await check(bench, CheckPlugin(plugin="suffixes"))

    assert (found.passed, found.doubtful) == (False, doubtful)
    assert detail in found.detail


async def test_a_plug_in_that_is_not_here_lets_nothing_pass(bench: Bench) -> None:
    async def broken() -> tuple[Change, ...]:
        raise GitFailed("diff", 128, "fatal")

    found = await check(bench, CheckPlugin(plugin="other"))
    assert (found.passed, found.detail) == (False, "this sidecar has no plug-in 'other'")
    plugged(bench, "#!/bin/sh\n")
    ground = bench.ground()
    object.__setattr__(ground, "changes", broken)
    unseen = await CHECKS["plugin"](CheckPlugin(plugin="suffixes"), ground)
    assert (unseen.passed, "git diff" in unseen.detail) == (False, True)


def test_a_change_too_large_to_be_told_is_told_without_its_lines() -> None:
    change = Change("a", ((1, "x" * MOST_ASKED_BYTES),))

    assert b'"has_lines":false' in question(CheckPlugin(plugin="p"), (change,), has_base=True)
    assert b'"has_lines":true' in question(CheckPlugin(plugin="p"), (Change("a", ((1, "x"),)),), has_base=True)
