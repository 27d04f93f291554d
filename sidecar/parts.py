"""What attempts are done with: processes, workspaces, executors, models, checks; the same for all of a sidecar.

Put together by ``sidecar/app.py``; who does an attempt with them is ``sidecar/rounds.py``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from protocol.clock import Clock
from protocol.loads import Answering
from sidecar.executors.base import Executor
from sidecar.judges import Judges
from sidecar.keep import Depot
from sidecar.leases import Leases
from sidecar.llm.endpoints import Endpoints
from sidecar.llm.passage import Passages
from sidecar.process import Processes
from sidecar.proof import Proof
from sidecar.quota import Quota
from sidecar.sandbox.cell import Sandbox
from sidecar.shelf import Shelf
from sidecar.vault import NoVault, Vault
from sidecar.wip import WipWorkspaces

Answers = Callable[[Callable[[], Answering] | None], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """What an attempt is done with; the same for all attempts of a sidecar."""

    processes: Processes
    sandbox: Sandbox
    workspaces: WipWorkspaces
    executors: Mapping[str, Executor]
    scratch: Path
    clock: Clock
    endpoints: Endpoints
    leases: Leases = field(default_factory=lambda: Leases(lambda: 0.0))
    depot: Depot | None = None
    shelf: Shelf | None = None
    passages: Passages = field(default_factory=Passages)
    quota: Quota = field(default_factory=Quota)
    judged_by: Sequence[str] = ()
    plugins: Mapping[str, Sequence[str]] = field(default_factory=dict)
    vault: Vault = field(default_factory=NoVault)
    judges: Judges = field(init=False)
    proof: Proof = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "judges", Judges(self.endpoints, self.judged_by))
        object.__setattr__(self, "proof", Proof(self.workspaces, self.sandbox, self.plugins))
