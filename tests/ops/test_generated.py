"""The promises of what people who use Prometheus get: files made of the hub's rules, which its tools take."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from hub.core.alerts import RULES, RUNBOOKS
from tests.ops import boards, generate, rules, scenes
from tests.support.prometheus import names_in, said
from tests.support.running_hub import running_hub

OPS = generate.OPS
RULES_FILE = OPS / "prometheus" / "agentcom.rules.yaml"


@pytest.mark.parametrize("name", sorted(generate.files()))
def test_what_is_there_is_what_the_rules_of_the_hub_make(name: str) -> None:
    assert (OPS / name).read_text("utf-8") == generate.files()[name], "run: python -m tests.ops.generate"


def test_every_rule_of_the_hub_is_one_for_prometheus_has_a_scene_and_a_runbook() -> None:
    names = {rule.name for rule in rules.ALL}
    runbooks = (OPS.parent / RUNBOOKS).read_text("utf-8")

    assert names == {*(rule.name for rule in RULES), "hub_down"} == set(rules.QUERIES) == set(scenes.SCENES)
    assert [name for name in names if f"\n## {name}\n" not in runbooks] == []


async def test_every_metric_that_is_asked_for_is_one_the_hub_tells(tmp_path: Path) -> None:
    async with running_hub(tmp_path) as hub:
        told = await (await hub.ask("GET", "/metrics", role="viewer")).text()
    kinds = {family.name: family.type for family in text_string_to_metric_families(told)}
    names = {f"{name}_total" if kind == "counter" else name for name, kind in kinds.items()}
    names |= {f"{name}_bucket" for name, kind in kinds.items() if kind == "histogram"}

    asked = names_in([*(query.expr for query in rules.QUERIES.values()), *rules.RECORDS.values()])
    assert asked - names == set()
    assert names_in(boards.expressions()) - names == set()
    recorded = {word for expr in boards.expressions() for word in expr.replace("{", " ").split() if ":agentcom" in word}
    assert recorded <= set(rules.RECORDS)


def test_promtool_takes_the_rules_and_the_example() -> None:
    told = said("promtool", "check", "rules", RULES_FILE)
    said("promtool", "check", "config", "--syntax-only", OPS / "prometheus" / "prometheus.yaml")

    assert f"{len(rules.ALL) + len(rules.RECORDS)} rules found" in told


def test_each_rule_fires_after_its_time_in_its_scene_and_ends() -> None:
    said("promtool", "test", "rules", OPS / "prometheus" / "agentcom.tests.yaml")


def test_a_rule_that_does_not_fire_fails_its_scene(tmp_path: Path) -> None:
    spoiled = yaml.safe_load(RULES_FILE.read_text("utf-8"))
    for rule in spoiled["groups"][1]["rules"]:
        rule["expr"] = rule["expr"].replace("agentcom_gpu_temperature_celsius", "agentcom_gpu_heat_celsius")
    (tmp_path / RULES_FILE.name).write_text(yaml.safe_dump(spoiled))
    (tmp_path / "tests.yaml").write_bytes((OPS / "prometheus" / "agentcom.tests.yaml").read_bytes())

    with pytest.raises(AssertionError, match="host_hot"):
        said("promtool", "test", "rules", tmp_path / "tests.yaml")


def test_amtool_takes_the_alertmanagers_file_and_sends_what_is_critical_at_once(tmp_path: Path) -> None:
    path = OPS / "alertmanager" / "alertmanager.yaml"
    said("amtool", "check-config", path)
    route = ("config", "routes", "test", f"--config.file={path}")

    for severity, receiver in (("critical", "now"), ("warning", "today"), ("info", "nobody")):
        assert said("amtool", *route, f"severity={severity}", "rule=x").strip() == receiver
    named = yaml.safe_load(path.read_text("utf-8"))["inhibit_rules"]
    words = {w for one in named for side in ("source", "target") for m in one[f"{side}_matchers"] for w in m.split('"')}
    assert {each for word in words for each in word.split("|") if "=" not in each and each} <= set(rules.QUERIES)


@pytest.mark.parametrize("name", sorted(boards.BOARDS))
def test_a_dashboard_has_no_two_panels_in_one_place_and_asks_a_source_that_can_be_chosen(name: str) -> None:
    board: dict[str, Any] = json.loads((OPS / "grafana" / f"{name}.json").read_text("utf-8"))
    panels = board["panels"]

    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < boards.WIDTH
    assert [v["name"] for v in board["templating"]["list"]][:2] == ["datasource", "job"]
    for panel in panels:
        if panel["type"] != "row":
            assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
            assert all('job="$job"' in target["expr"] for target in panel["targets"])


def test_promtool_can_read_everything_that_dashboards_ask(tmp_path: Path) -> None:
    asked = [{"record": f"x:{number}", "expr": expr} for number, expr in enumerate(boards.expressions())]
    path = tmp_path / "asked.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": asked}]}))

    assert f"{len(asked)} rules found" in said("promtool", "check", "rules", path)
