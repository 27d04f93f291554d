"""Promises of :mod:`sidecar.core.readings`."""

from datetime import UTC, datetime

from msgspec import msgpack
from msgspec.structs import replace

from protocol.endpoints import EndpointTrouble
from protocol.machine import GpuCard, GpuGauge, GpuHolder, HostReading, Owner
from protocol.model import EndpointKind, EndpointReport
from sidecar.core.readings import Facts, News

AT = datetime(2026, 1, 1, tzinfo=UTC)
CARD = GpuCard(vendor="nvidia", index=0, uuid="GPU-1", name="L40S")
HOLDER = GpuHolder(0, 12, 4, Owner.OTHER, "game")
READING = HostReading(
    at=AT, cpu_percent=1.0, cores=b"\x01", ram=(2, 1), gpus=(GpuGauge(7),), cards=(CARD,), holders=(HOLDER,), notes={}
)
NOTHING = News(None, None, None, None)
WELL = NOTHING._replace(troubles=())  # what a new connection hears of troubles where there are none
ENDPOINT = EndpointReport(id="o", kind=EndpointKind.OLLAMA, url="http://127.0.0.1:1", local=True)


def test_nothing_is_told_before_something_is_known() -> None:
    assert Facts().news() == NOTHING


def test_a_reading_goes_out_once_and_waits_for_the_next_heartbeat() -> None:
    facts = Facts()

    assert facts.learn(READING, None, None) is False
    assert facts.news() == News(READING, None, None, None)
    assert facts.news() == NOTHING


def test_what_has_not_changed_since_the_last_reading_is_left_out() -> None:
    facts = Facts()
    facts.learn(READING, None, None)
    facts.news()
    facts.learn(replace(READING, gpus=(GpuGauge(9),), holders=()), None, None)

    assert facts.news().reading == replace(READING, gpus=(GpuGauge(9),), holders=(), cards=None, notes=None)


def test_a_new_connection_hears_the_whole_of_it() -> None:
    facts = Facts()
    facts.learn(READING, None, None)
    facts.news()
    facts.greeted()

    assert facts.news().reading == READING


def test_the_others_are_told_at_once_when_they_change_and_by_the_hello() -> None:
    facts = Facts()

    assert facts.learn(None, (ENDPOINT,), ("gpu",)) is True
    assert facts.learn(None, (ENDPOINT,), ("gpu",)) is False
    assert facts.news() == News(None, (ENDPOINT,), ("gpu",), None)
    facts.learn(None, (), ())
    facts.greeted()
    assert facts.news() == WELL


def test_troubles_are_told_when_they_change_and_whole_on_every_connection() -> None:
    facts, trouble = Facts(), EndpointTrouble(endpoint="o", kind=ENDPOINT.kind, url="u", local=True, problem="gone")

    assert facts.learn(None, None, None, (trouble,)) is True
    assert facts.learn(None, None, None, (trouble,)) is False
    assert facts.news() == NOTHING._replace(troubles=(trouble,))
    facts.greeted()
    assert facts.news() == NOTHING._replace(troubles=(trouble,))
    assert facts.learn(None, None, None, ()) is True
    assert facts.news() == WELL
    assert (facts.endpoints, facts.capabilities) == ((), ())


def test_a_machine_with_8_gpus_and_20_processes_takes_less_than_2_kb() -> None:
    cards = tuple(
        GpuCard("nvidia", n, f"GPU-{n:08x}-dead-beef-cafe-0123456789ab", "NVIDIA H200", driver, 150_754_820_096, 700)
        for n, driver in enumerate(["580.95.05", *[""] * 7])
    )
    gauges = tuple(GpuGauge(99, 71, 650, 120_000_000_000, 100_000_000_000, 20_000_000_000, 2**29) for _ in range(8))
    holders = tuple(GpuHolder(n % 8, 400_000 + n, 10_000_000_000 + n, Owner.OTHER, "ollama_llama_s") for n in range(20))
    one = HostReading(
        at=AT,
        cpu_percent=99.123456,
        cores=bytes(64),
        load=(50.1, 40.2, 30.3),
        ram=(2**40, 2**39),
        swap=(2**33, 2**30),
        disk=(2**42, 2**41),
        workspace=(2**43, 2**42),
        gpus=gauges,
        cards=cards,
        holders=holders,
        notes={},
    )
    facts = Facts()
    facts.learn(one, None, None)
    whole = len(msgpack.encode(facts.news().reading))
    facts.learn(one, None, None)
    later = len(msgpack.encode(facts.news().reading))

    assert (whole, later) == (1_940, 542)
