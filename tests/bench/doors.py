"""``./run bench doors``: what strangers at the hub's door learn, and what they cost those who may come in.

First bad tokens of four kinds in turns: the answers have to be the same to the byte, the medians of their times close
together, and whoever goes on is told to wait. What a revoked token has opened ends: ``revoked.py``. Then sieges, one
after another: thousands of connections that say nothing, or a byte a second, of a head, of a body, or of a TLS
handshake. Meanwhile people with tokens ask and submit, half of them over a new connection each time; their slowest
answers count. The besiegers are a process of their own, and so is the hub.

They share the machine with whoever measures, so what strangers cost the hub is told by itself: its processor time
beyond what as many answers take with nobody at the door, for each 10,000 strangers that came; its memory for each that
stands; and what people see while the besiegers are stopped and their connections stand.
"""

import argparse
import asyncio
import contextlib
import resource
import secrets
import signal
import ssl
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp

from agentcom.bench.processes import Mesh, memory_of
from hub.core.access import make_token
from protocol.pinning import pinned_context
from tests.bench.revoked import revoked

TRIES: Final = 1_000
"""Bad tokens, as many as one address may show before it is told to wait."""
GOAL_SPREAD_MS: Final = 5.0
GOAL_P99_MS: Final = 1_000.0
GOAL_REVOKED_MS: Final = 5_000.0
TOKENS: Final = 50
"""Tokens that are revoked."""
STILL_S: Final = 3.0
"""So long the besiegers are stopped: less than the hub lets anybody stand."""
PEOPLE: Final = 6
SIEGES: Final = ("idle", "head", "body", "hello")
_PAUSE_S: Final = 0.03


class Doors(Mesh):
    """A hub, over TLS or not."""

    def __init__(self, folder: Path, *, tls: bool) -> None:
        super().__init__(folder, hub_flags=["--tls"] if tls else [])
        self._tls = tls

    @property
    def trust(self) -> ssl.SSLContext | bool:
        """What clients trust."""
        if not self._tls:
            return True
        return pinned_context((self.data_dir / "tls" / "ca.pem").read_text("utf-8"))

    async def _is_ready(self, said: Path) -> bool:
        self._learn_address(said)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self.trust)) as client:
            with contextlib.suppress(aiohttp.ClientError):
                async with client.get(f"{self.url}/readyz") as answer:
                    return answer.status == 200
        return False

    def used_s(self) -> float:
        """Processor time of the hub, so far."""
        return self.cpu_s()["hub"]

    def used_bytes(self) -> int:
        """Memory of the hub."""
        return sum(memory_of(process.pid)["pss_bytes"] for process in self._roles()["hub"])


class Shown(NamedTuple):
    """What bad tokens were answered: milliseconds by kind, how many answers there were, and what came after them."""

    took_ms: Mapping[str, Sequence[float]]
    answers: int
    limited_after: int
    retry_after: str

    @property
    def spread_ms(self) -> float:
        """Between the medians of the kinds."""
        medians = [statistics.median(times) for times in self.took_ms.values()]
        return max(medians) - min(medians)


class Held(NamedTuple):
    """What people saw of a siege, and what it cost the hub.

    Attributes:
        took_ms: milliseconds of their answers.
        refused: how many were refused.
        standing, came: strangers that stood at the end, and that came.
        grown_bytes: what the hub's memory grew by.
        used_s: processor time of the hub.
        still_ms: milliseconds of answers while the besiegers were stopped.
    """

    took_ms: Sequence[float]
    refused: int
    standing: int
    came: int
    grown_bytes: int
    used_s: float
    still_ms: Sequence[float]

    @property
    def p99_ms(self) -> float:
        """Of a hundred answers the second slowest."""
        return p99(self.took_ms)

    def strangers_s(self, answer_s: float) -> float:
        """Processor time of the hub for 10,000 strangers, where an answer alone takes so much of it."""
        return (self.used_s - len(self.took_ms) * answer_s) / max(1, self.came) * 10_000


def p99(took_ms: Sequence[float]) -> float:
    """Of a hundred the second slowest."""
    return statistics.quantiles(took_ms, n=100)[-1]


# --- bad tokens -------------------------------------------------------------------------------------------------------


async def bad_tokens(url: str, admin: str, trust: ssl.SSLContext | bool = True, tries: int = TRIES) -> Shown:
    """Show bad tokens of each kind in turns, then go on until the hub has enough."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as client:
        kinds = await _kinds(client, url, admin)
        took: dict[str, list[float]] = {kind: [] for kind in kinds}
        answers: set[tuple[Any, ...]] = set()
        for number in range(tries):
            kind = list(kinds)[number % len(kinds)]
            began = time.perf_counter()
            status, answer, _ = await _show(client, url, kinds[kind])
            took[kind].append((time.perf_counter() - began) * 1_000)
            answers.add((status, *answer))
        limited = 0
        for limited in range(1, tries):
            status, _, retry_after = await _show(client, url, kinds["unknown"])
            if status == 429:
                return Shown(took, len(answers), limited, retry_after)
    return Shown(took, len(answers), limited, "")


async def _kinds(client: aiohttp.ClientSession, url: str, admin: str) -> dict[str, str]:
    """A token of each kind that is none."""
    made = [await _make(client, url, admin, ttl_s=1) for _ in range(2)]
    async with client.delete(f"{url}/api/v1/tokens/{made[1]['id']}", headers=_bearer(admin)) as answer:
        answer.raise_for_status()
    await asyncio.sleep(1.1)  # until the first has expired
    known = made[0]["token"]
    return {
        "unknown": make_token(secrets.randbits)[1],
        "malformed": known[:-1] + ("a" if known[-1] != "a" else "b"),
        "expired": known,
        "revoked": made[1]["token"],
    }


async def _make(client: aiohttp.ClientSession, url: str, admin: str, **body: object) -> dict[str, str]:
    sent = {"role": "viewer", **body}
    async with client.post(f"{url}/api/v1/tokens", headers=_bearer(admin), json=sent) as answer:
        answer.raise_for_status()
        return dict(await answer.json())


async def _show(client: aiohttp.ClientSession, url: str, token: str) -> tuple[int, tuple[Any, ...], str]:
    async with client.get(f"{url}/api/v1/tasks", headers=_bearer(token)) as answer:
        told = {name: text for name, text in answer.headers.items() if name.lower() not in {"date", "x-request-id"}}
        body = (await answer.text()).replace(answer.headers["X-Request-Id"], "")  # each request has one of its own
        return answer.status, (body, tuple(sorted(told.items()))), answer.headers.get("Retry-After", "")


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# --- sieges -----------------------------------------------------------------------------------------------------------


class Besiegers:
    """Strangers at the hub: a process of their own.

    Attributes:
        told: what they tell, second by second: how many stand, and how many came.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.told: list[tuple[int, int]] = []
        self._process = process

    def stop(self) -> None:
        """They do nothing more; their connections stand."""
        self._process.send_signal(signal.SIGSTOP)

    async def leave(self) -> None:
        """All of them go."""
        self._process.send_signal(signal.SIGCONT)
        assert self._process.stdin is not None
        self._process.stdin.close()
        await asyncio.wait_for(self._process.wait(), 60)


@contextlib.asynccontextmanager
async def besieged(how: str, url: str, count: int) -> AsyncIterator[Besiegers]:
    """So many strangers at the hub, from when they stand."""
    host, _, port = url.partition("://")[2].partition(":")
    command = [sys.executable, "-m", "tests.support.siege", how, host, port, str(count)]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    assert process.stdout is not None
    found = Besiegers(process)
    stands = asyncio.Event()
    output = process.stdout

    async def listen() -> None:
        async for line in output:
            standing, came = line.split()
            found.told.append((int(standing), int(came)))
            stands.set()

    listening = asyncio.create_task(listen())
    try:
        await stands.wait()
        yield found
    finally:
        await found.leave()
        await listening


async def people(url: str, token: str, trust: ssl.SSLContext | bool, seconds: float) -> tuple[list[float], int]:
    """People who ask and submit for so long: milliseconds of each answer, and how many were refused."""
    took: list[float] = []
    refused = 0
    until = time.monotonic() + seconds

    async def ask(client: aiohttp.ClientSession, number: int) -> None:
        nonlocal refused
        began = time.perf_counter()
        try:
            if number % 2:
                asked = client.post(f"{url}/api/v1/tasks", json={"title": "x", "executor": "noop"})
            else:
                asked = client.get(f"{url}/api/v1/tasks?limit=10")
            async with asked as answer:
                await answer.read()
                refused += answer.status >= 300
        except (aiohttp.ClientError, TimeoutError):
            refused += 1
        took.append((time.perf_counter() - began) * 1_000)

    async def person(number: int) -> None:
        connector = aiohttp.TCPConnector(ssl=trust, force_close=number % 2 == 0)
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(connector=connector, headers=_bearer(token), timeout=timeout) as client:
            turn = 0
            while time.monotonic() < until:
                turn += 1
                await ask(client, turn)
                await asyncio.sleep(_PAUSE_S)

    await asyncio.gather(*(person(number) for number in range(PEOPLE)))
    return took, refused


async def siege(doors: Doors, how: str, count: int, seconds: float) -> Held:
    """One siege, and what people see of it."""
    before, began_s = doors.used_bytes(), doors.used_s()
    async with besieged(how, doors.url, count) as besiegers:
        took, refused = await people(doors.url, doors.token(), doors.trust, seconds)
        used_s, grown = doors.used_s() - began_s, doors.used_bytes() - before
        standing, came = besiegers.told[-1]
        besiegers.stop()
        still, refused_still = await people(doors.url, doors.token(), doors.trust, STILL_S)
    return Held(took, refused + refused_still, standing, came, grown, used_s, still)


async def alone(doors: Doors, seconds: float) -> float:
    """Processor time of the hub for one answer, with nobody at the door."""
    began_s = doors.used_s()
    took, _ = await people(doors.url, doors.token(), doors.trust, seconds)
    return (doors.used_s() - began_s) / len(took)


# --- the table --------------------------------------------------------------------------------------------------------


async def _measure(count: int, seconds: float, kinds: Sequence[str]) -> bool:
    holds = True
    with tempfile.TemporaryDirectory(prefix="agentcom-bench-") as folder:
        async with Doors(Path(folder), tls=False) as doors:
            shown = await bad_tokens(doors.url, doors.token())
            holds &= _tell_tokens(shown)
            holds &= _tell_revoked(await revoked(doors.url, doors.token(), TOKENS))
            answer_s = await alone(doors, seconds / 3)
            for how in kinds:
                if how != "hello":
                    holds &= _tell_siege(how, count, await siege(doors, how, count, seconds), answer_s)
    with tempfile.TemporaryDirectory(prefix="agentcom-bench-") as folder:
        async with Doors(Path(folder), tls=True) as doors:
            answer_s = await alone(doors, seconds / 3)
            for how in ("idle", "hello"):
                if how in kinds:
                    held = await siege(doors, how, count, seconds)
                    holds &= _tell_siege(f"{how} over TLS", count, held, answer_s)
    return holds


def _tell_tokens(shown: Shown) -> bool:
    medians = ", ".join(f"{kind} {statistics.median(times):.2f}" for kind, times in shown.took_ms.items())
    total = sum(map(len, shown.took_ms.values()))
    print(f"{total:,} bad tokens: {shown.answers} different answers; medians in ms: {medians}")
    holds = shown.answers == 1 and shown.spread_ms < GOAL_SPREAD_MS and bool(shown.retry_after)
    print(
        f"  spread {shown.spread_ms:.2f} ms (goal: under {GOAL_SPREAD_MS:g}), limited after {shown.limited_after} "
        f"more, Retry-After {shown.retry_after or 'never'}: {'holds' if holds else 'DOES NOT HOLD'}"
    )
    return holds


def _tell_revoked(ended_ms: Sequence[float]) -> bool:
    holds = max(ended_ms) < GOAL_REVOKED_MS
    print(
        f"{len(ended_ms)} sockets of revoked tokens ended after {statistics.median(ended_ms):.1f} ms, the last after "
        f"{max(ended_ms):.1f} ms (goal: under {GOAL_REVOKED_MS:g}): {'holds' if holds else 'DOES NOT HOLD'}"
    )
    return holds


def _tell_siege(what: str, count: int, held: Held, answer_s: float) -> bool:
    holds = held.p99_ms < GOAL_P99_MS and not held.refused
    print(
        f"{count:,} x {what}: {len(held.took_ms):,} answers, p50 {statistics.median(held.took_ms):.1f} ms, "
        f"p99 {held.p99_ms:.1f} ms (goal: under {GOAL_P99_MS:g}), {held.refused} refused; {held.standing:,} "
        f"strangers stood of {held.came:,} that came: {'holds' if holds else 'DOES NOT HOLD'}"
    )
    each_kib = held.grown_bytes / max(1, held.standing) / 1024
    print(
        f"  10,000 of them: {held.strangers_s(answer_s):.2f} s of the hub's processor time; one that stands: "
        f"{each_kib:.1f} KiB; while they are stopped p99 {p99(held.still_ms):.0f} ms",
        flush=True,
    )
    return holds


def main(arguments: Sequence[str]) -> int:
    """Print the figures; the exit status: 0 if every goal is held."""
    parser = argparse.ArgumentParser(prog="./run bench doors", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="strangers of a siege (default 10000)")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each siege lasts (default 15)")
    parser.add_argument("--only", default=",".join(SIEGES), help=f"which sieges (default {','.join(SIEGES)})")
    asked = parser.parse_args(arguments)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return 0 if asyncio.run(_measure(asked.count, asked.seconds, asked.only.split(","))) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
