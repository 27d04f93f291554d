"""The promises of ``ops/``: its files can be read by what they are for, and the program understands their commands."""

import json
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentcom.cli import run
from provisioning import services
from sidecar.app import GOODBYE_S
from sidecar.settings import Settings

ROOT = Path(__file__).parents[2]
OPS = ROOT / "ops"
MOST_EXPOSED = 2.0


def documents() -> Iterator[dict[str, Any]]:
    for path in sorted(OPS.glob("kubernetes/*.yaml")):
        yield from yaml.safe_load_all(path.read_text("utf-8"))


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((OPS / "compose.yaml").read_text("utf-8"))["services"]
    return found


def containers() -> Iterator[dict[str, Any]]:
    for document in documents():
        yield from document.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ())


def commands() -> dict[str, list[str]]:
    image = (OPS / "container" / "Containerfile").read_text("utf-8").splitlines()
    unit = (OPS / "systemd" / "agentcom-hub.service").read_text("utf-8")
    started = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    return {
        "image": json.loads(next(line for line in image if line.startswith("CMD ")).removeprefix("CMD ")),
        "unit": shlex.split(started.partition(" agentcom ")[2]),
        **{f"compose {name}": each["command"] for name, each in compose().items() if "agentcom" in each["image"][:8]},
        **{f"kubernetes {each['name']}": each["args"] for each in containers()},
    }


@pytest.mark.parametrize("place", sorted(commands()))
def test_the_program_understands_every_command(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    token, pem = tmp_path / "token", tmp_path / "tls.pem"
    token.write_text("acm_x")
    pem.write_text("x")
    token.chmod(0o600)
    words = [str(token) if word in {"/agent/token", "/run/secrets/agent_token"} else word for word in commands()[place]]
    words = [str(pem) if word.startswith("/tls/") else word for word in words]
    words = [word.replace("$(NODE)", "node-1") for word in words]
    monkeypatch.setenv("AGENTCOM_STORE", "postgresql://agentcom:x@postgres/agentcom")

    status = run([*words, "--check-config"])

    assert status == 0, capsys.readouterr().err


def test_every_probe_asks_what_the_hub_answers_without_a_token() -> None:
    asked = {each[probe]["httpGet"]["path"] for each in containers() for probe in each if probe.endswith("Probe")}

    assert asked == {"/healthz", "/readyz"}


def test_every_volume_secret_and_label_that_is_used_is_there() -> None:
    for document in documents():
        template = document.get("spec", {}).get("template")
        if template is None:
            continue
        assert document["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        for each in template["spec"]["containers"]:
            assert {mount["name"] for mount in each["volumeMounts"]} == volumes
            assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    policies = [document for document in documents() if document["kind"] == "NetworkPolicy"]
    assert {policy["spec"]["podSelector"]["matchLabels"]["app"] for policy in policies} == {
        "agentcom-hub",
        "agentcom-sidecar",
    }
    named = yaml.safe_load((OPS / "kubernetes" / "kustomization.yaml").read_text("utf-8"))["resources"]
    assert {*named, "kustomization.yaml"} == {path.name for path in OPS.glob("kubernetes/*.yaml")}


def test_the_image_has_all_packages_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["root_packages"]
    text = (OPS / "container" / "Containerfile").read_text("utf-8")

    assert {name for name in project if f"COPY {name} {name}\n" in text} == set(project)
    assert "USER 10001" in text


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd-analyze")
def test_systemd_takes_the_unit_and_finds_little_exposed() -> None:
    unit = OPS / "systemd" / "agentcom-hub.service"
    read = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", unit], capture_output=True, text=True, check=True
    ).stdout.splitlines()[-1]

    assert (read.returncode, read.stderr) == (0, "")
    assert float(rated.partition(": ")[2].split()[0]) <= MOST_EXPOSED


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="this machine has no kubectl")
def test_kustomize_builds_the_manifests() -> None:
    built = subprocess.run(["kubectl", "kustomize", OPS / "kubernetes"], capture_output=True, text=True, check=True)
    kinds = [document["kind"] for document in yaml.safe_load_all(built.stdout)]

    assert sorted(kinds) == sorted(d["kind"] for d in documents() if d["kind"] != "Kustomization")
    assert "image: registry.example.org/agentcom:" in built.stdout


def test_wherever_a_sidecar_is_ended_its_work_has_time_to_end() -> None:
    unit = (ROOT / "provisioning" / "units" / "sidecar.service").read_text("utf-8")
    plist = (ROOT / "provisioning" / "units" / "sidecar.plist").read_text("utf-8")
    (pod,) = [document for document in documents() if document.get("kind") == "DaemonSet"]
    given = {
        "systemd": int(unit.partition("TimeoutStopSec=")[2].split()[0]),
        "launchd": int(plist.partition("<key>ExitTimeOut</key><integer>")[2].partition("<")[0]),
        "compose": int(compose()["sidecar"]["stop_grace_period"].removesuffix("s")),
        "kubernetes": pod["spec"]["template"]["spec"]["terminationGracePeriodSeconds"],
    }

    assert min(given.values()) > Settings().drain_s + GOODBYE_S, given
    assert max(given.values()) < services.STOP_S  # who ends it waits as long
