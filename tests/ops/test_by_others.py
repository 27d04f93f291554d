"""What others' tools and schemas say of ``ops/``: containers, Compose, Kubernetes, Grafana."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

ROOT: Final = Path(__file__).parents[2]
OPS: Final = ROOT / "ops"
COMPOSE: Final = (OPS / "compose.yaml").read_text("utf-8")
RELEASES: Final = ("1.28", "1.32", "1.37")
"""Of Kubernetes."""


def manifests() -> Iterator[dict[str, Any]]:
    for path in sorted(OPS.glob("kubernetes/*.yaml")):
        if path.name != "kustomization.yaml":
            yield from yaml.safe_load_all(path.read_text("utf-8"))


def test_compose_takes_the_file() -> None:
    found = PyCompose.from_yaml(COMPOSE)

    assert sorted(found.service_names()) == ["hub", "postgres", "sidecar"]
    found.validate()


@pytest.mark.parametrize(
    "right, wrong",
    [
        ("    read_only: true", "    readonly: true"),
        ("    read_only: true", "    read_only: maybe"),
        ("127.0.0.1:7420:7420", "localhost:7420:x"),
        ("interval: 5s", "interval: soon"),
    ],
)
def test_compose_would_not_take_what_is_wrong(right: str, wrong: str) -> None:
    assert right in COMPOSE
    with pytest.raises(ValueError, match="services"):
        PyCompose.from_yaml(COMPOSE.replace(right, wrong)).validate()


@pytest.mark.parametrize("release", RELEASES)
def test_kubernetes_takes_all_manifests(release: str) -> None:
    for manifest in manifests():
        kubernetes_validate.validate(manifest, release, strict=True)


def test_kubernetes_would_not_take_what_is_wrong() -> None:
    pod = next(one for one in manifests() if one["kind"] == "DaemonSet")
    pod["spec"]["template"]["spec"]["containers"][0]["argz"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="argz"):
        kubernetes_validate.validate(pod, RELEASES[-1], strict=True)


def test_the_linter_of_container_files_is_content() -> None:
    command = [Path(sys.executable).with_name("hadolint"), "--no-color", OPS / "container" / "Containerfile"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


def lost(ours: object, theirs: object, where: str = "") -> Iterator[str]:
    """What a dashboard says that is not the same after it was read and written."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name, value in ours.items():
            if name not in theirs:
                yield f"{where}.{name}"
            else:
                yield from lost(value, theirs[name], f"{where}.{name}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from lost(one, other, f"{where}[{number}]")
    elif ours != theirs:
        yield f"{where}: {ours!r} became {theirs!r}"


@pytest.mark.parametrize("path", sorted(OPS.glob("grafana/*.json")), ids=lambda path: path.stem)
def test_grafanas_own_types_know_everything_that_a_dashboard_says(path: Path) -> None:
    plugins.register_default_plugins()
    ours = json.loads(path.read_text("utf-8"))
    theirs = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(ours)))

    # The text of a variable's query, which Grafana's page shows in its list and its types leave out.
    assert [each for each in lost(ours, theirs) if not each.endswith(".definition")] == []


def test_what_grafana_does_not_know_would_be_found() -> None:
    ours = json.loads((OPS / "grafana" / "hub.json").read_text("utf-8"))
    ours["panels"][1]["tragets"] = ours["panels"][1]["gridPos"]["hh"] = 1
    theirs = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(ours)))

    assert {".panels[1].tragets", ".panels[1].gridPos.hh"} <= set(lost(ours, theirs))
