"""Checks from the command line to the report, by a sidecar that confines what it runs."""

from pathlib import Path

from tests.support.mesh import mesh, ollama_process
from tests.support.repositories import make_remote

CALC = "def add(a, b):\n    return a - b\n"
TESTS = """import unittest
from calc import add
class TestCalc(unittest.TestCase):
    def test_add(self): self.assertEqual(add(2, 3), 5)
    def test_zero(self): self.assertEqual(add(0, 0), 0)
"""
CHECKS = [
    {"type": "test_passes", "command": "python3 -m unittest -q"},
    {"type": "diff_limits", "max_files": 1},
    {"type": "file_contains", "path": "calc.py", "pattern": "a [+] b"},
    {"type": "file_absent", "path": "calc.py.bak"},
    {"type": "no_placeholders"},
]


def test_a_repair_is_proven_and_a_weakened_test_is_not(tmp_path: Path) -> None:
    remote = make_remote(tmp_path, {"calc.py": CALC, "test_calc.py": TESTS}).path
    work = {"context": {"repo": str(remote), "branch": "main"}, "budget": {"fix_attempts": 0}, "max_retries": 0}
    with mesh(tmp_path, "Host") as running:
        good = running.submit(command="sed -i 's/a - b/a + b/' calc.py", verification=CHECKS, **work)
        bad = running.submit(
            command="sed -i 's/a - b/a + b/' calc.py; sed -i /test_zero/d test_calc.py", verification=CHECKS[:1], **work
        )
        (repaired,) = running.wait(good)
        cheated = running.wait_state(bad, "waiting")

    assert (repaired["state"], repaired["result"]["verified"]) == ("completed", True), repaired["result"]["report"]
    assert repaired["result"]["report"][0]["detail"] == "unittest: 2 passed"
    assert len(repaired["checks"]) == 64
    assert repaired["checks"] == repaired["result"]["checks"] != cheated["checks"]
    (doubted,) = cheated["attempts"][0]["result"]["report"]
    assert (cheated["verified"], doubted["doubtful"]) == (False, True)
    assert doubted["detail"].startswith("1 tests ran, 2 before the work")


SERVER = """import http.server, sys
import calc
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"2 + 3 = {calc.add(2, 3)}".encode())
http.server.HTTPServer(("127.0.0.1", 8123), Handler).serve_forever()
"""
MEASURE = """import sys, trace, unittest
tracer = trace.Trace(count=1, trace=0)
tracer.runfunc(unittest.main, module="test_calc", argv=["x", "-q"], exit=False)
lines = {line for name, line in tracer.results().counts if name.endswith("/calc.py")}
body = [n for n, text in enumerate(open("calc.py"), 1) if text.startswith("    ")]
print(f"LF:{len(body)}", f"LH:{len(lines & set(body))}", sep="\\n", file=open("lcov.info", "w"))
"""
PLUGIN = """#!/bin/sh
grep -q '"path":"calc.py"' && echo '{"passed": true, "detail": "calc.py was seen"}' || echo '{"passed": false}'
"""
MORE = [
    {"type": "coverage_not_lower", "command": "python3 measure.py", "report": "lcov.info"},
    {"type": "plugin", "plugin": "looks"},
]
SERVES = {"type": "http_ok", "command": "python3 server.py", "url": "http://localhost:8123/", "text": "2 + 3 = 5"}


def test_servers_coverage_and_plug_ins_are_checked_where_they_can_be(tmp_path: Path) -> None:
    files = {"calc.py": CALC, "test_calc.py": TESTS, "server.py": SERVER, "measure.py": MEASURE}
    work = {
        "context": {"repo": str(make_remote(tmp_path, files).path)},
        "budget": {"fix_attempts": 0},
        "max_retries": 0,
    }
    program, config = tmp_path / "bin" / "looks", tmp_path / "sidecar.toml"
    program.parent.mkdir()
    program.write_text(PLUGIN)
    program.chmod(0o755)
    config.write_text(f'[[plugins]]\nname = "looks"\ncommand = ["{program}"]\n')
    fix, more = "sed -i 's/a - b/a + b/' calc.py", "printf 'def twice(a):\n    return 2 * a\n' >> calc.py"
    with mesh(tmp_path, "Host", flags=("--config", str(config))) as running:
        (agent,) = running.call("GET", "/api/v1/agents")["agents"]
        good = running.submit(command=fix, verification=MORE, **work)
        lower = running.submit(command=f"{fix}; {more}", verification=MORE[:1], **work)
        serves = running.submit(command=fix, verification=[SERVES], **work)
        other = running.submit(command=fix, verification=[{"type": "plugin", "plugin": "other"}], **work)
        (proven,) = running.wait(good)
        (failed,) = running.wait(lower)
        assert (proven["state"], proven["result"]["verified"]) == ("completed", True), proven["result"]["report"]
        assert [found["detail"] for found in proven["result"]["report"]] == [
            "100.00 % of 1 lines, 100.00 % of 1 lines before the work",
            "calc.py was seen",
        ]
        assert failed["result"]["report"][0]["detail"].startswith("lower: 50.00 % of 2 lines"), failed["result"]
        if "checks:http" in agent["capabilities"]:
            (served,) = running.wait(serves)
            assert served["result"]["verified"] is True, served["result"]["report"]
        else:
            said = running.call("GET", f"/api/v1/tasks/{serves}/explain")
            assert any("install bubblewrap" in way for way in said["unblock"]), said
        said = running.call("GET", f"/api/v1/tasks/{other}/explain")
        assert any("[[plugins]] name = 'other'" in way for way in said["unblock"]), said


def test_a_model_judges_the_work_of_another_one_and_its_tokens_are_counted(tmp_path: Path) -> None:
    remote = make_remote(tmp_path, {"calc.py": CALC}).path
    judge = {"type": "judge", "question": "Does the comment stay as it is?"}
    work = {"context": {"repo": str(remote)}, "budget": {"fix_attempts": 0}, "max_retries": 0}
    checks = [judge, {"type": "file_contains", "path": "calc.py", "text": "a + b"}]
    fix = "sed -i 's/a - b/a + b/' calc.py"
    answers = [
        {"text": '{"verdict": "pass", "reason": "it does"}', "when": "<good>", "model": "wise:1b"},
        {"text": '{"verdict": "fail", "reason": "it is gone"}', "when": "<bad>", "model": "wise:1b"},
        {"text": "I cannot say.", "when": "<unsure>", "model": "wise:1b"},
    ]
    sizes = {"wise:1b": 1.0}
    with (
        ollama_process(tmp_path / "script.json", answers, sizes) as address,
        mesh(tmp_path) as running,
    ):
        judges = ("--judge", "ollama/wise:1b", "--host", "one")
        running.start_sidecar("Host", *judges, env={"OLLAMA_HOST": address})
        running.start_sidecar("Other", "--host", "two")
        running.wait_agents("Host", "Other")
        tasks = [
            running.submit(
                command=command, title=f"Repair add() <{name}>", verification=checks, clean_room=room, **work
            )
            for name, command, room in (
                ("good", fix, "always"),
                ("bad", fix, "never"),
                ("unsure", fix, "never"),
                ("broken", "true", "never"),
            )
        ]
        good, bad, broken = running.wait(tasks[0], tasks[1], tasks[3])
        unsure = running.wait_state(tasks[2], "waiting")

    assert (good["proof"]["state"], good["proof"]["by_agent"]) == ("proven", "Other"), good["proof"]
    assert (good["result"]["verified"], bad["state"]) == (True, "failed"), (good["result"], bad["reason"])
    assert good["result"]["report"][0]["detail"] == "wise:1b: it does"
    assert good["result"]["usage"]["model"] == "wise:1b"
    assert good["result"]["usage"]["input_tokens"] > 0
    assert bad["result"]["report"][0]["detail"] == "wise:1b: it is gone"
    assert "no verdict that could be understood" in unsure["reason"]
    assert broken["result"]["report"][0]["detail"] == "not asked: other checks have not passed"
    assert broken["result"]["usage"]["input_tokens"] == 0
