"""Unit tests of the rules for ``promtool test rules``: for each rule what happens, minute by minute, and what is said.

Values are written as promtool reads them: ``87x4 91+1x9`` is 87 five times, then 91, 92 and so on ten times.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from hub.core.alerts import RUNBOOKS
from tests.ops.rules import ALL, alert_name, labels_of

JOB: Final = {"job": "agentcom"}
HERE: Final = {**JOB, "instance": "hub:7420"}


class Scene(NamedTuple):
    """What goes wrong, and becomes well.

    Attributes:
        series: values of series (see :func:`_series`), a minute each.
        silent, fires, ended: minutes at which nothing is said yet, it is, and no more.
        labels: of the alert, beside what every alert of the rule has.
        summary: what it says.
    """

    series: Mapping[str, str]
    silent: int
    fires: int
    ended: int
    labels: Mapping[str, str]
    summary: str


_GPU: Final = {**JOB, "host": "box", "gpu": "0"}
_BOX: Final = {**JOB, "host": "box"}
SCENES: Final[Mapping[str, Scene]] = {
    "queue_growing": Scene(
        {'agentcom_tasks{state="queued"}': "0+100x40 3800-200x18"}, 34, 36, 55, JOB,
        "More tasks come than are done: 3600 wait",
    ),
    "failure_rate": Scene(
        {
            'agentcom_tasks_ended_total{state="completed"}': "0+9x20 184+4x29 309+9x30",
            'agentcom_tasks_ended_total{state="failed"}': "0+1x20 26+6x29 201+1x30",
            'agentcom_tasks_ended_total{state="dead"}': "0x81",
        },
        20, 45, 80, JOB, "Many tasks fail: 60% in 15 minutes",
    ),
    "task_stuck": Scene(
        {"agentcom_attempt_silent_seconds": "21540+60x5 _x5"}, 0, 2, 11, JOB,
        "Nothing was heard of an attempt for long: 6h 1m 0s",
    ),
    "no_agent_for_tier": Scene(
        {'agentcom_queue_stranded_tasks{tier="complex"}': "7x9 _x5"}, 4, 6, 15, {**JOB, "tier": "complex"},
        "Tasks wait that no agent online can do: 7 of tier complex",
    ),
    "tier_fallback": Scene(
        {'agentcom_fallbacks_total{wanted="cloud_llm",used="local_llm",direction="lower"}': "0x15 1+1x20 21x25"},
        15, 35, 60, JOB, "Tasks are done by a lower strategy than they want: 15 in 15 minutes",
    ),
    "endpoint_down": Scene(
        {'agentcom_endpoint_up{host="box",endpoint="ollama"}': "1x4 0x4 1x4"}, 5, 7, 10,
        {**_BOX, "endpoint": "ollama"}, "An LLM endpoint does not answer: ollama on box",
    ),
    "agent_lost": Scene(
        {'agentcom_agent_lost_seconds{agent="Arbitrary"}': "59 119 _x9"}, 0, 1, 8, {**JOB, "agent": "Arbitrary"},
        "A machine is gone without a word: Arbitrary",
    ),
    "agent_cloned": Scene(
        {'agentcom_agent_cloned{agent="Arbitrary"}': "_x5 1x4 _x9"}, 4, 5, 15, {**JOB, "agent": "Arbitrary"},
        "Two sidecars use one name: Arbitrary",
    ),
    "hub_lost": Scene(
        {'agentcom_events_total{kind="hub_lost"}': "0x9 1x30"}, 9, 11, 25, JOB, "A hub has ended without a word"
    ),
    "host_hot": Scene(
        {'agentcom_gpu_temperature_celsius{host="box",gpu="0"}': "87x4 91x9 87x5"}, 6, 7, 15, _GPU,
        "A GPU is too hot: box gpu 0, 91 degrees",
    ),
    "host_vram": Scene(
        {'agentcom_gpu_memory_ratio{host="box",gpu="0"}': "0.98x4 0.99x19 0.5x5"}, 14, 15, 25, _GPU,
        "A GPU has no memory left: box gpu 0, 99%",
    ),
    "host_ram": Scene(
        {'agentcom_host_memory_ratio{host="box"}': "0.94x4 0.96x9 0.5x5"}, 9, 10, 15, _BOX,
        "A machine has no main memory left: box, 96%",
    ),
    "host_disk": Scene(
        {'agentcom_host_disk_ratio{host="box"}': "0.94x4 0.97x9 0.5x5"}, 5, 6, 15, _BOX,
        "A machine's disk is nearly full: box, 97%",
    ),
    "hub_disk": Scene(
        {"agentcom_disk_low": "0x4 1x4 0x4"}, 4, 5, 10, HERE, "The hub's disk has no room for new tasks: hub:7420"
    ),
    "hub_memory": Scene(
        {"agentcom_memory_high": "0x4 1x4 0x4"}, 5, 6, 10, HERE,
        "The hub has too little memory for new tasks: hub:7420",
    ),
    "budget_nearly_spent": Scene(
        {'agentcom_budget_spent_ratio{budget="project:shop"}': "0.79x4 0.85x4 0x4"}, 4, 5, 10,
        {**JOB, "budget": "project:shop"}, "Most of a budget of today is spent: project:shop, 85%",
    ),
    "backup_overdue": Scene(
        {"agentcom_backup_age_ratio": "1.9x4 2.5x4 0x4"}, 4, 5, 10, JOB,
        "The newest backup is too old: 2.5 times the wanted age",
    ),
    "clock_skew": Scene(
        {'agentcom_host_clock_skew_seconds{host="box"}': "29x4 31x4 0x4"}, 6, 7, 10, _BOX,
        "A machine's clock differs from the hub's: box, 31 s",
    ),
    "loop_lag": Scene(
        {"agentcom_loop_lag_seconds": "0.4x4 0.75x4 0x4"}, 5, 6, 10, HERE,
        "The hub stands still again and again: hub:7420, 0.75 s at a time",
    ),
    "store_log": Scene(
        {"agentcom_store_log_bytes": "1048576x4 536870912x4 0x4"}, 5, 6, 10, HERE,
        "The store's write-ahead log is long: hub:7420, 512MiB",
    ),
    "hub_down": Scene({"up": "1x4 0x4 1x4"}, 5, 6, 10, HERE, "A hub does not answer: hub:7420"),
}  # fmt: skip
"""For each rule one."""
QUIET: Final[Mapping[str, Mapping[str, str]]] = {
    "failure_rate": {  # too few to tell
        'agentcom_tasks_ended_total{state="completed"}': "0x60",
        'agentcom_tasks_ended_total{state="failed"}': "0x9 0.2+0.2x50",
    },
    "queue_growing": {'agentcom_tasks{state="queued"}': "5000x60"},
    "tier_fallback": {
        'agentcom_fallbacks_total{wanted="trivial",used="local_llm",direction="higher"}': "0+5x60",
        'agentcom_fallbacks_total{wanted="cloud_llm",used="local_llm",direction="lower"}': "0x60",
    },
}
"""What looks like it and is not."""


def _series(values: Mapping[str, str]) -> list[dict[str, str]]:
    """Series of one hub of one job."""
    place = ",".join(f'{name}="{value}"' for name, value in HERE.items())
    found = []
    for series, told in values.items():
        name, _, labels = series.partition("{")
        found.append({"series": f"{name}{{{place}{',' + labels if labels else '}'}", "values": told})
    return found


def unit_tests(docs: str = "", rules_file: str = "agentcom.rules.yaml") -> dict[str, Any]:
    """A file for ``promtool test rules``; arguments as of :func:`tests.ops.rules.rule_file`."""
    tests = []
    for rule in ALL:
        scene, name = SCENES[rule.name], alert_name(rule.name)
        said = {
            "exp_labels": {**scene.labels, **labels_of(rule)},
            "exp_annotations": {"summary": scene.summary, "runbook_url": f"{docs}{RUNBOOKS}#{rule.name}"},
        }
        tests.append(
            {
                "name": f"{rule.name} fires after its time, and ends",
                "interval": "1m",
                "input_series": _series(scene.series),
                "alert_rule_test": [
                    {"eval_time": f"{scene.silent}m", "alertname": name, "exp_alerts": []},
                    {"eval_time": f"{scene.fires}m", "alertname": name, "exp_alerts": [said]},
                    {"eval_time": f"{scene.ended}m", "alertname": name, "exp_alerts": []},
                ],
            }
        )
    for rule_name, values in QUIET.items():
        minutes = [{"eval_time": f"{m}m", "alertname": alert_name(rule_name), "exp_alerts": []} for m in (20, 40, 60)]
        tests.append(
            {
                "name": f"{rule_name} does not fire without need",
                "interval": "1m",
                "input_series": _series(values),
                "alert_rule_test": minutes,
            }
        )
    return {"rule_files": [rules_file], "evaluation_interval": "1m", "tests": tests}
