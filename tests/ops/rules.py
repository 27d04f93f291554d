"""Rules for Prometheus: those of the hub (``hub/core/alerts.py``) on its metrics, and figures that dashboards ask for.

Thresholds, times, severities, words and runbooks are the hub's. Of several hubs on one database each tells the counts
of the log: rules take the most of them (``max by (job, ...)``), so a job is one mesh, however many hubs it has.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from hub.core.alerts import RULES, RUNBOOKS, Rule
from hub.families import JUDGED
from protocol.alerts import Severity


class Query(NamedTuple):
    """How a rule is put to Prometheus.

    Attributes:
        expr: what is looked at; it is wrong from the rule's threshold on.
        detail: what the summary says behind the rule's own words.
        is_time: the threshold is how long there has to be an answer at all, in seconds.
    """

    expr: str
    detail: str = ""
    is_time: bool = False


def most(metric: str, *labels: str) -> str:
    """The most of what the hubs of a job tell, by these labels."""
    return f"max by ({', '.join(('job', *labels))}) ({metric})"


def counted(metric: str, span: str, *labels: str) -> str:
    """How much a count of the log has grown."""
    return f"sum by (job) ({most(f'increase({metric}[{span}])', *labels)})"


def _ended(states: str) -> str:
    return counted(f'agentcom_tasks_ended_total{{state=~"{states}"}}', "15m", "state")


_QUEUED: Final = 'max by (job) (agentcom_tasks{state="queued"}'
_LOWER: Final = 'agentcom_fallbacks_total{direction="lower"}'
_LOST: Final = 'agentcom_events_total{kind="hub_lost"}'
_HERE: Final = "{{ $labels.instance }}"
_HOST: Final = "{{ $labels.host }}"
_GPU: Final = "{{ $labels.host }} gpu {{ $labels.gpu }}"
_SHARE: Final = "{{ $value | humanizePercentage }}"
_COUNT: Final = '{{ printf "%.0f" $value }}'
_ENDPOINT: Final = "{{ $labels.endpoint }}{{ with $labels.host }} on {{ . }}{{ end }}"
_LAG: Final = ', {{ printf "%.2f" $value }} s at a time'
QUERIES: Final[Mapping[str, Query]] = {
    "queue_growing": Query(f"({_QUEUED}) > {_QUEUED} offset 15m))", f"{_COUNT} wait"),
    "failure_rate": Query(
        f"{_ended('failed|dead')} / ({_ended('completed|failed|dead')} >= 10)", f"{_SHARE} in 15 minutes"
    ),
    "task_stuck": Query(most("agentcom_attempt_silent_seconds"), "{{ $value | humanizeDuration }}"),
    "no_agent_for_tier": Query(most("agentcom_queue_stranded_tasks", "tier"), _COUNT + " of tier {{ $labels.tier }}"),
    "tier_fallback": Query(counted(_LOWER, "15m", "wanted", "used"), f"{_COUNT} in 15 minutes"),
    "endpoint_down": Query(f"{most('agentcom_endpoint_up', 'host', 'endpoint')} == 0", _ENDPOINT, is_time=True),
    "agent_lost": Query(most("agentcom_agent_lost_seconds", "agent"), "{{ $labels.agent }}"),
    "agent_cloned": Query(most("agentcom_agent_cloned", "agent"), "{{ $labels.agent }}"),
    "hub_lost": Query(counted(_LOST, "10m")),
    "host_hot": Query(most("agentcom_gpu_temperature_celsius", "host", "gpu"), f"{_GPU}, {_COUNT} degrees"),
    "host_vram": Query(most("agentcom_gpu_memory_ratio", "host", "gpu"), f"{_GPU}, {_SHARE}"),
    "host_ram": Query(most("agentcom_host_memory_ratio", "host"), f"{_HOST}, {_SHARE}"),
    "host_disk": Query(most("agentcom_host_disk_ratio", "host"), f"{_HOST}, {_SHARE}"),
    "hub_disk": Query(most("agentcom_disk_low", "instance"), _HERE),
    "hub_memory": Query(most("agentcom_memory_high", "instance"), _HERE),
    "budget_nearly_spent": Query(most("agentcom_budget_spent_ratio", "budget"), f"{{{{ $labels.budget }}}}, {_SHARE}"),
    "backup_overdue": Query(most("agentcom_backup_age_ratio"), '{{ printf "%.1f" $value }} times the wanted age'),
    "clock_skew": Query(most("agentcom_host_clock_skew_seconds", "host"), f"{_HOST}, {_COUNT} s"),
    "loop_lag": Query(most("agentcom_loop_lag_seconds", "instance"), _HERE + _LAG),
    "store_log": Query(most("agentcom_store_log_bytes", "instance"), _HERE + ", {{ $value | humanize1024 }}B"),
    "hub_down": Query('up{job=~"agentcom.*"} == 0', _HERE, is_time=True),
}
"""For each rule of the hub, and for the one that no hub can tell of itself."""
HUB_DOWN: Final = Rule(
    name="hub_down",
    severity=Severity.CRITICAL,
    about="A hub does not answer",
    unit="seconds",
    threshold=60,
)
ALL: Final = (*RULES, HUB_DOWN)
_BUCKETS: Final = most("rate(agentcom_task_seconds_bucket[5m])", "phase", "le")
RECORDS: Final[Mapping[str, str]] = {
    "job:agentcom_tasks_submitted:rate5m": most("rate(agentcom_tasks_submitted_total[5m])"),
    "job_state:agentcom_tasks_ended:rate5m": most("rate(agentcom_tasks_ended_total[5m])", "state"),
    "job:agentcom_tasks_success:ratio15m": f"{_ended('completed')} / {_ended('completed|failed|dead')}",
    "job_phase:agentcom_task_seconds:p50_5m": f"histogram_quantile(0.5, {_BUCKETS})",
    "job_phase:agentcom_task_seconds:p95_5m": f"histogram_quantile(0.95, {_BUCKETS})",
    "job_verdict:agentcom_verifications:rate15m": most("rate(agentcom_verifications_total[15m])", "verdict"),
    "job_model_direction:agentcom_tokens:rate5m": most("rate(agentcom_tokens_total[5m])", "model", "direction"),
    "job_model:agentcom_cost_usd:increase1h": most("increase(agentcom_cost_usd_total[1h])", "model"),
    "job:agentcom_slots_busy:ratio": (
        f"sum by (job) ({most('agentcom_agent_slots_busy', 'agent')})"
        f" / sum by (job) ({most('agentcom_agent_slots', 'agent')})"
    ),
    "job_instance:agentcom_store_commit_seconds:p99_5m": (
        "histogram_quantile(0.99, sum by (job, instance, le) (rate(agentcom_store_commit_seconds_bucket[5m])))"
    ),
}
"""Figures that dashboards ask for, by the levels they keep, the metric, and what is done to it."""


def alert_name(rule: str) -> str:
    """As Prometheus's people write names: ``host_hot`` is ``AgentComHostHot``."""
    return "AgentCom" + "".join(word.capitalize() for word in rule.split("_"))


def labels_of(rule: Rule) -> dict[str, str]:
    """What Alertmanager sorts by."""
    return {"severity": rule.severity.value, "rule": rule.name}


def _alert(rule: Rule, docs: str) -> dict[str, Any]:
    query = QUERIES[rule.name]
    expr, waits_s = query.expr, rule.threshold
    if not query.is_time:
        unit = JUDGED[rule.name].unit if rule.name in JUDGED else 1
        expr, waits_s = f"{expr} >= {rule.threshold * unit:.12g}", rule.for_s
    return {
        "alert": alert_name(rule.name),
        "expr": expr,
        **({"for": f"{waits_s:g}s"} if waits_s else {}),
        "labels": labels_of(rule),
        "annotations": {
            "summary": f"{rule.about}: {query.detail}" if query.detail else rule.about,
            "runbook_url": f"{docs}{RUNBOOKS}#{rule.name}",
        },
    }


def rule_file(rules: Iterable[Rule] = ALL, docs: str = "") -> dict[str, Any]:
    """A file of rules for Prometheus.

    Args:
        rules: with the thresholds that are wanted.
        docs: where the documentation is, with a slash at the end.
    """
    return {
        "groups": [
            {"name": "agentcom-figures", "rules": [{"record": name, "expr": e} for name, e in RECORDS.items()]},
            {"name": "agentcom-alerts", "rules": [_alert(rule, docs) for rule in rules]},
        ]
    }


def alertmanager_file(url: str = "http://127.0.0.1:9095/alerts") -> dict[str, Any]:
    """How Alertmanager tells whom: at once what is critical, never what is only good to know.

    Args:
        url: what is told: a POST of JSON.
    """
    told = [{"url": url, "send_resolved": True, "max_alerts": 50}]
    return {
        "route": {
            "receiver": "today",
            "group_by": ["job", "rule"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "12h",
            "routes": [
                {
                    "receiver": "now",
                    "matchers": ['severity="critical"'],
                    "group_wait": "5s",
                    "group_interval": "1m",
                    "repeat_interval": "1h",
                },
                {"receiver": "nobody", "matchers": ['severity="info"']},
            ],
        },
        "inhibit_rules": [
            # Of a hub that does not answer nothing else can be known.
            {
                "source_matchers": ['rule="hub_down"'],
                "target_matchers": ['rule=~"hub_disk|hub_memory|loop_lag|store_log"'],
                "equal": ["job", "instance"],
            },
            # A hub without memory stands still, too.
            {
                "source_matchers": ['rule="hub_memory"'],
                "target_matchers": ['rule="loop_lag"'],
                "equal": ["job", "instance"],
            },
            # Tasks wait because the one machine that could do them is gone, and one word of it is enough.
            {
                "source_matchers": ['rule="agent_lost"'],
                "target_matchers": ['rule="no_agent_for_tier"'],
                "equal": ["job"],
            },
        ],
        "receivers": [
            {"name": "now", "webhook_configs": told},
            {"name": "today", "webhook_configs": told},
            {"name": "nobody"},
        ],
    }
