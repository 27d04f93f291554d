"""Refusals that only a hub meets: it is too late, or not its turn. Part of the tree of ``protocol/errors.py``."""

from typing import ClassVar

from protocol.errors import Conflict, StaleAttempt


class LostAttempt(StaleAttempt):
    """The attempt counts, but another hub answers for it now: its agent has moved, or this hub was given up."""

    code: ClassVar[str] = "moved"

    def __init__(self, task: str, epoch: int, state: str, hub: int | None) -> None:
        super().__init__(task, epoch, epoch, state)
        self.hub = hub

    def __str__(self) -> str:
        return f"task {self.task}: attempt {self.epoch} is in the hands of hub {self.hub} now"


class Evicted(Conflict):
    """A newer start of the same sidecar is known; this one has to end."""

    code = "evicted"

    def __init__(self, name: str, boot: int, newer: int) -> None:
        self.name, self.boot, self.newer = name, boot, newer
        super().__init__(name, boot, newer)

    def __str__(self) -> str:
        older = f"sidecar {self.name!r} boot {self.boot} is older than boot {self.newer}, which is known"
        return f"{older}; use another --name"


class NameTaken(Conflict):
    """Another sidecar, with a state directory of its own, is at work under this name."""

    code = "name_taken"

    def __init__(self, name: str, host: str) -> None:
        self.name, self.host = name, host
        super().__init__(name, host)

    def __str__(self) -> str:
        return f"another sidecar named {self.name!r} is at work on {self.host}; use another --name"


class Cloned(Conflict):
    """Another sidecar works with the key of the same machine; which of the two is the right one, nobody can tell."""

    code = "cloned"

    def __init__(self, name: str, host: str, boot: int) -> None:
        self.name, self.host, self.boot = name, host, boot
        super().__init__(name, host, boot)

    def __str__(self) -> str:
        return (
            f"another sidecar has the key of {self.name!r}, on {self.host} (boot {self.boot}), and neither gets work; "
            "on a copy: agentcom leave --purge, then agentcom join; after that, at the hub: "
            f"agentcom agents release {self.name}"
        )


class Overtaken(Conflict):
    """A hello that was answered too late: the sidecar has introduced itself again since, here or at another hub."""

    code = "overtaken"

    def __init__(self, name: str, dial: int, later: int) -> None:
        self.name, self.dial, self.later = name, dial, later
        super().__init__(name, dial, later)

    def __str__(self) -> str:
        return f"connection {self.dial} of sidecar {self.name!r} was overtaken by connection {self.later}"


class NotLeader(Conflict):
    """Another hub leads now, under a later epoch; what this one wanted to do is that one's to do."""

    code = "not_leader"

    def __init__(self, epoch: int, current: int) -> None:
        self.epoch, self.current = epoch, current
        super().__init__(epoch, current)

    def __str__(self) -> str:
        return f"leader epoch {self.epoch} is over, the current one is {self.current}"


class NodeInUse(Conflict):
    """A later hub runs with the same node id: somebody has copied a data directory."""

    code = "node_in_use"

    def __init__(self, node: str, boot: int, later: int) -> None:
        self.node, self.boot, self.later = node, boot, later
        super().__init__(node, boot, later)

    def __str__(self) -> str:
        two = f"hub {self.later} runs with a copy of this hub's data directory (node {self.node})"
        return f"{two}: stop one of them and remove node.id from its directory"
