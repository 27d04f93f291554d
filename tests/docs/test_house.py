"""The rules of the house that no tool checks by itself."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))
PACKAGES = ("protocol", "hub", "sidecar", "dashboard", "provisioning", "agentcom")
MAX_LINES = 450
MAX_TEST_LINES = 550  # a list of cases is read one at a time
# Written by a tool, by others, or by lawyers.
_WRITTEN = (
    r"(requirements/.*|provisioning/requirements)\.txt|ops/grafana/.*\.json|ops/prometheus/agentcom\..*\.yaml|"
    r"docs/reference/cli\.md"
)
LONG_BY_NATURE = re.compile(rf"^({_WRITTEN}|LICENSE|CHANGELOG\.md|.*/vendor/.*|.*\.svg)$")

PIN = re.compile(r"^[a-z0-9][a-z0-9._-]*==\S+( ; .+)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


def tracked_files() -> list[Path]:
    """What git knows or would add; what a clone does not have is not judged."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def pins(name: str) -> set[str]:
    """``package==version`` of every requirement; a package may stand there once for each range of Pythons."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return {line.split(" ")[0] for line in lines if PIN.match(line)}


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_every_requirement_is_pinned_by_hash_and_names_no_host(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]

    strangers = [line for line in lines if not (PIN.match(line) or HASH.match(line))]
    assert strangers == []
    unhashed = [a for a, b in zip(lines, [*lines[1:], ""], strict=True) if PIN.match(a) and not HASH.match(b)]
    assert unhashed == []
    assert "./run lock" in path.read_text().splitlines()[1]
    assert "://" not in path.read_text()


def test_no_verb_changes_what_another_one_installed() -> None:
    assert pins("base") <= pins("dev")

    only_local = {pin for pin in pins("local") - pins("dev") if not pin.startswith("xllamacpp==")}
    assert only_local == set()


def test_every_exception_from_the_style_has_its_reason_beside_it() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    lint = tomllib.loads(text)["tool"]["ruff"]["lint"]
    excepted = list(lint["ignore"]) + [rule for rules in lint["per-file-ignores"].values() for rule in rules]

    reasoned = re.findall(r'^  "([A-Z]+[0-9]*)",\s+# \S+', text, flags=re.MULTILINE)
    assert sorted(reasoned) == sorted(excepted)
    assert lint["select"] == ["ALL"]


def test_every_exception_in_the_code_has_its_reason_beside_it() -> None:
    bare = re.compile(r"#\s*(noqa(:\s*[A-Z0-9, ]+)?|type: ignore(\[[a-z, -]+\])?)\s*$")

    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked_files()
        if path.suffix == ".py"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if bare.search(line)
    ]
    assert found == []


def test_run_help_lists_the_verbs() -> None:
    shown = subprocess.run([ROOT / "run", "help"], capture_output=True, text=True, check=True).stdout

    assert re.findall(r"^  ([a-z]+) {2,}\S", shown, flags=re.MULTILINE) == [
        "demo",
        "test",
        "soak",
        "check",
        "bench",
        "lock",
        "help",
    ]


def test_run_refuses_an_unknown_verb_and_says_which() -> None:
    refused = subprocess.run([ROOT / "run", "fly"], capture_output=True, text=True, check=False)

    assert refused.returncode == 1
    assert refused.stderr.endswith("run: unknown verb: fly\n")
    assert refused.stdout == ""


def test_no_file_is_too_long_to_be_read() -> None:
    too_long = {
        name: lines
        for path in tracked_files()
        if not LONG_BY_NATURE.match(name := path.relative_to(ROOT).as_posix())
        if (lines := path.read_bytes().count(b"\n")) > (MAX_TEST_LINES if name.startswith("tests/") else MAX_LINES)
    }
    assert too_long == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_what_it_is_and_carries_its_types(package: str) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text()))

    assert docstring
    assert (ROOT / package / "py.typed").is_file()


def test_the_wheel_and_the_contracts_name_the_same_packages() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]

    assert tuple(tool["hatch"]["build"]["targets"]["wheel"]["packages"]) == PACKAGES
    assert tuple(tool["importlinter"]["root_packages"]) == PACKAGES
    assert tuple(tool["coverage"]["run"]["source"]) == PACKAGES
    assert (*PACKAGES, "tests.support") == tuple(tool["mypy"]["packages"])


def test_a_package_is_whole_by_itself(tmp_path: Path) -> None:
    """Whoever copies the packages alone (an image, an archive) has all that they need: no link leads out of them."""
    links = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_symlink()]
    build = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("agentcom-*.whl")
    runbooks = ROOT / "dashboard" / "static" / "runbooks.md"

    assert links == []
    with zipfile.ZipFile(wheel) as packed:
        assert packed.read("dashboard/static/runbooks.md") == runbooks.read_bytes()


def test_the_command_line_imports_the_programs_only_when_it_starts_them() -> None:
    at_the_top = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in (ROOT / "agentcom").rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        if name.split(".")[0] in {"hub", "sidecar"}
    ]
    assert at_the_top == []


@pytest.mark.parametrize("name", ["run", ".ci/run"])
def test_the_doors_can_be_opened(name: str) -> None:
    assert (ROOT / name).stat().st_mode & 0o111 == 0o111
