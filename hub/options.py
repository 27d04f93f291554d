"""Everything that may differ between hubs, and what it is unless somebody says otherwise.

Pure: where the values come from is ``hub/settings.py``, which of them cannot be is ``hub/sound.py``.
"""

import re
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final

from msgspec import Struct

from protocol.choice import SECONDS_PER_USD, CleanRoom, Escalation, LearningMode
from protocol.limits import (
    ARTIFACT_BYTES,
    ARTIFACTS_BYTES,
    CHECK_S,
    HEARTBEAT_S,
    HUB_LEASE_S,
    LEASE_S,
)
from protocol.model import Strategy, Tier

DEFAULT_PORT: Final = 7420
BUCKET: Final = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[A-Za-z0-9._-]+)*)/?")


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that may differ between hubs.

    Attributes:
        data_dir: where the store and the first tokens lie (mode 0700).
        listen: ``host:port``; port 0 picks a free one.
        url: how others reach this hub, if not by the address it listens on (a name in a certificate, a proxy).
        store: empty for SQLite in ``data_dir``, or ``postgresql://user:password@host:port/database``.
        tls: speak https and wss on a loopback address, too; on any other a hub does unless it is told ``plaintext``.
        tls_cert, tls_key: PEM files of a certificate; without them the hub makes its own in ``data_dir/tls``.
        tls_names: further names and addresses by which this hub is reached, for the certificate that it makes.
        plaintext: no TLS on an address that is not loopback, for a proxy before it that speaks it; nobody but the
            ``trusted_proxies`` and this machine gets an answer then.
        trusted_proxies: addresses and networks of proxies before this hub, like ``10.0.0.7`` or ``10.1.0.0/16``; what
            they say about who asks (``X-Forwarded-For``, ``-Proto``, ``-Host``) is believed, and nobody else.
        hub_lease_s: how long other hubs of the same database wait for a sign of life of this one, then take its work.
        heartbeat_s, lease_s: how often sidecars report, and how long an attempt stays theirs without a report.
        check_s: seconds between two looks at the LLM endpoints that people have added.
        window: queued tasks of one class that are kept in memory.
        disk_reserve_mb: free space in MiB that is kept for the results of running work; a small disk keeps an eighth.
        memory_limit_mb: above this no new tasks are taken in; 0 is half of what the machine has.
        chain_trivial, chain_standard, chain_complex: strategies in order of preference for work that needs a model.
        wait_trivial_s, wait_standard_s, wait_complex_s: how long work may wait for the first strategy of its chain
            before the next one is used; 0: as long as anybody who is online offers the first one.
        escalation: how far tasks may climb whose checks keep failing: ``off``, ``effort``, ``model`` or ``tier``.
        clean_room: whether checks have to pass on another machine, too: ``auto`` (where one can fetch what was pushed),
            ``always`` or ``never``; what a task says itself goes before.
        learning: whether outcomes choose models: ``off``, ``shadow`` (kept and shown, deciding nothing) or ``on``.
        explore_share, explore_usd_a_day: how much of a class of tasks, and money a day, may try little known models.
        workspace_mb: free disk in MB without which a machine gets no work that needs a workspace; 0: any will do.
        seconds_per_usd: how long one would wait to save a dollar, where money and time are weighed.
        attempt_usd, attempt_tokens: what an attempt may use whose task names no limit, where a budget bounds that.
        prices: of models, in dollars for a million tokens, ``MODEL=INPUT/OUTPUT[/CACHED][@DATE]``; before all others.
        gpu_hour_usd, kwh_usd: what an hour of a GPU of ours costs, and energy, for local models; 0: nothing.
        origins: how browsers may name this hub beside loopback names, like ``https://mesh.example.org``.
        read_only: show what the store holds and take nothing in; for a store that is damaged.
        key_file: a file of keys that somebody else looks after, one a line, 32 bytes in base64, the first one seals
            secrets; empty: in a credential ``agentcom-keystore`` of systemd if there is one, else in ``data_dir``.
        project_roots: directories of this machine beneath which projects may lie; empty: none but its own clones.
        git_ca_file: PEM file of certificates to trust when git speaks with servers; empty: those of the machine.
        backup_every_s: seconds between two backups of the SQLite store; 0: only when somebody asks.
        backup_keep: how many backups stay.
        keep_tasks_days, keep_dead_days: how long tasks stay after their end, and dead letters; 0: for ever.
        keep_logs_days, keep_keys_days: how long the output of finished tasks stays, and idempotency keys; 0: for ever.
        keep_events_days, keep_events: how long events stay, and how many at most; 0: for ever, any number.
        keep_agents_days: how long agents stay that nobody has seen since; 0: for ever.
        keep_audit_days: how long entries of the audit log stay; 0: for ever.
        artifact_max_mb, artifacts_of_task_mb: how large a file may be that a task keeps, and all files of one attempt.
        artifacts_mb: how much all kept files may take together, in MiB; 0: as much as the disk reserve leaves.
        artifact_store: empty for ``data_dir``, or ``s3://bucket/prefix``, which hubs of one database may share.
        s3_endpoint: the address of the S3 server; empty: that of AWS in ``s3_region``.
        s3_region: which region requests are signed for.
        s3_path_style: name the bucket in the path and not in the host.
        s3_credentials: a file with the keys, as the tools of AWS write it; empty: ``AWS_ACCESS_KEY_ID``,
            ``AWS_SECRET_ACCESS_KEY`` and, if set, ``AWS_SESSION_TOKEN`` in the environment.
        log: ``auto`` (readable on a terminal, else JSON), ``json`` or ``pretty``.
        log_level: ``debug``, ``info``, ``warning`` or ``error``.
        traces: where traces of tasks go: the address of a collector that speaks OTLP over HTTP, like
            ``http://127.0.0.1:4318``; empty: none are told. Needs ``agentcom[otel]``.
        traces_share: how many of the traces that begin at this hub are told: from 0 to 1.
    """

    data_dir: str = ""
    listen: str = f"127.0.0.1:{DEFAULT_PORT}"
    url: str = ""
    store: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls: bool = False
    tls_names: tuple[str, ...] = ()
    plaintext: bool = False
    trusted_proxies: tuple[str, ...] = ()
    heartbeat_s: float = HEARTBEAT_S
    check_s: float = CHECK_S
    lease_s: float = LEASE_S
    hub_lease_s: float = HUB_LEASE_S
    window: int = 1_000
    disk_reserve_mb: int = 256
    memory_limit_mb: int = 0
    chain_trivial: tuple[Strategy, ...] = (Strategy.LOCAL_LLM, Strategy.CLOUD_LLM)
    chain_standard: tuple[Strategy, ...] = (Strategy.LOCAL_LLM, Strategy.CLOUD_LLM)
    chain_complex: tuple[Strategy, ...] = (Strategy.CLOUD_LLM, Strategy.LOCAL_LLM)
    wait_trivial_s: float = 0.0
    wait_standard_s: float = 0.0
    wait_complex_s: float = 0.0
    escalation: Escalation = Escalation.TIER
    clean_room: CleanRoom = CleanRoom.AUTO
    learning: LearningMode = LearningMode.SHADOW
    explore_share: float = 0.05
    explore_usd_a_day: float = 1.0
    workspace_mb: int = 256
    seconds_per_usd: float = SECONDS_PER_USD
    attempt_usd: float = 1.0
    attempt_tokens: int = 200_000
    prices: tuple[str, ...] = ()
    gpu_hour_usd: float = 0.0
    kwh_usd: float = 0.0
    origins: tuple[str, ...] = ()
    read_only: bool = False
    key_file: str = ""
    project_roots: tuple[str, ...] = ()
    git_ca_file: str = ""
    backup_every_s: float = 86_400.0
    backup_keep: int = 3
    keep_tasks_days: float = 30.0
    keep_dead_days: float = 0.0
    keep_logs_days: float = 7.0
    keep_keys_days: float = 7.0
    keep_events_days: float = 30.0
    keep_events: int = 2_000_000
    keep_agents_days: float = 30.0
    keep_audit_days: float = 90.0
    artifact_max_mb: int = ARTIFACT_BYTES >> 20
    artifacts_of_task_mb: int = ARTIFACTS_BYTES >> 20
    artifacts_mb: int = 0
    artifact_store: str = ""
    s3_endpoint: str = ""
    s3_region: str = "us-east-1"
    s3_path_style: bool = True
    s3_credentials: str = ""
    log: str = "auto"
    log_level: str = "info"
    traces: str = ""
    traces_share: float = 1.0

    @property
    def folder(self) -> Path:
        """The data directory."""
        return Path(self.data_dir)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the address it listens on."""
        host = self.address[0]
        try:
            return host == "localhost" or ip_address(host).is_loopback
        except ValueError:
            return False

    @property
    def speaks_tls(self) -> bool:
        """Whether its port speaks https and wss."""
        return self.tls or bool(self.tls_cert) or not (self.is_local or self.plaintext)

    @property
    def proxies(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Networks of the proxies that are believed."""
        return tuple(ip_network(each) for each in self.trusted_proxies)

    @property
    def bucket(self) -> tuple[str, str]:
        """The address of the bucket that keeps files, and what names in it begin with; empty: there is none."""
        match = BUCKET.fullmatch(self.artifact_store)
        if match is None:
            return "", ""
        name, prefix = match[1], match[2].strip("/")
        scheme, _, host = (self.s3_endpoint or f"https://s3.{self.s3_region}.amazonaws.com").partition("://")
        url = f"{scheme}://{host}/{name}" if self.s3_path_style else f"{scheme}://{name}.{host}"
        return url, f"{prefix}/" if prefix else ""

    @property
    def chains(self) -> dict[Tier, tuple[Strategy, ...]]:
        """Strategies in order of preference, by tier, for work that needs a model."""
        return {
            Tier.TRIVIAL: self.chain_trivial,
            Tier.STANDARD: self.chain_standard,
            Tier.COMPLEX: self.chain_complex,
        }

    @property
    def patience(self) -> dict[Tier, float]:
        """How long work may wait for the first strategy of its chain, in seconds, by tier; 0: for ever."""
        return {
            Tier.TRIVIAL: self.wait_trivial_s,
            Tier.STANDARD: self.wait_standard_s,
            Tier.COMPLEX: self.wait_complex_s,
        }
