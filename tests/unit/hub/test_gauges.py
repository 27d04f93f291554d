"""The promises of lines of agents, machines and GPUs: with a thousand of them still a small answer, and a true one."""

from datetime import UTC, datetime

from msgspec.structs import replace
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from hub.core.fleet import Fleet
from hub.exposition import END
from hub.gauges import MOST, MOST_UNREAD, Gauges
from protocol.machine import CpuReport, GpuReport, HostReport, SpaceReport

AGENTS = 1_000
MOST_BYTES = 1_000_000


def fleet(agents: int = AGENTS) -> Fleet:
    found = Fleet()
    for number in range(agents):
        agent = found.agent(f'GSV "Sleeper" {number}')
        agent.host, agent.slots = f"machine-{number}.example.org", 4
        gpus = tuple(
            GpuReport(
                name="RTX 4090",
                vram_total_bytes=24 << 30,
                vram_used_bytes=9 << 30,
                utilization=55.0,
                temperature_c=61.0,
            )
            for _ in range(2)
        )
        agent.report = HostReport(
            cpu=CpuReport(percent=12.5, cores=16),
            ram=SpaceReport(total_bytes=64 << 30, used_bytes=20 << 30),
            disk=SpaceReport(total_bytes=1 << 40, used_bytes=1 << 39),
            gpus=gpus,
            at=datetime.fromtimestamp(0, UTC),
        )
        agent.fire("join")
    return found


def told(gauges: Gauges) -> dict[tuple[str, str], float]:
    """Values by name and labels, as a reader of OpenMetrics finds them."""
    text = (gauges.written() + END).decode()
    return {
        (sample.name, "/".join(value for _, value in sorted(sample.labels.items(), reverse=True))): float(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_thousand_agents_with_two_gpus_each_fit_into_a_scrape() -> None:
    gauges = Gauges(fleet())
    found = told(gauges)

    assert len(gauges.written()) < MOST_BYTES
    assert sum(name == "agentcom_gpu_utilization_ratio" for name, _ in found) == 2 * AGENTS
    assert found["agentcom_gpu_utilization_ratio", "machine-7.example.org/1"] == 0.55
    assert found["agentcom_gpu_memory_ratio", "machine-7.example.org/1"] == 0.375
    assert found["agentcom_gpu_temperature_celsius", "machine-7.example.org/0"] == 61
    assert found["agentcom_agent_slots", 'GSV "Sleeper" 0'] == 4
    assert found["agentcom_host_cpu_ratio", "machine-0.example.org"] == 0.125
    assert found["agentcom_host_disk_free_bytes", "machine-0.example.org"] == 1 << 39


def test_of_more_agents_than_anybody_reads_only_the_first_have_lines() -> None:
    assert Gauges(fleet(MOST + 10)).written().count(b"agentcom_agent_slots{") == MOST


def test_what_has_changed_is_told_whether_or_not_it_was_heard_of() -> None:
    agents = fleet(1)
    gauges, [agent] = Gauges(agents), agents.agents.values()
    before = told(gauges)
    assert agent.report is not None
    agent.report = replace(agent.report, cpu=CpuReport(percent=50, cores=16))
    gauges.heard(agent)
    agent.slots, agent.away = 9, frozenset({"task"})
    now = told(gauges)
    agent.report = replace(agent.report, disk=None, gpus=(GpuReport(name="of a silent driver"),))
    for _ in range(MOST_UNREAD + 5):
        gauges.heard(agent)
    agent.host = "moved"
    later = told(gauges)

    assert before["agentcom_host_cpu_ratio", "machine-0.example.org"] == 0.125
    assert now["agentcom_host_cpu_ratio", "machine-0.example.org"] == 0.5
    assert [value for (name, _), value in now.items() if name.startswith("agentcom_agent")] == [9, 1]
    assert {host for name, host in later if "host" in name} == {"moved"}
    assert not any("gpu" in name or "disk" in name for name, _ in later)


def test_who_is_gone_or_has_said_nothing_of_its_machine_has_no_lines() -> None:
    agents = fleet(3)
    gauges = Gauges(agents)
    told(gauges)
    first, second, third = agents.agents.values()
    first.fire("lose")
    second.report, third.host = None, "machine-1.example.org"
    found = told(gauges)

    assert {name for kind, name in found if kind == "agentcom_agent_slots"} == {second.name, third.name}
    assert {name for kind, name in found if kind == "agentcom_host_cpu_ratio"} == {"machine-1.example.org"}
