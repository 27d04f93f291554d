"""Put together what keeps projects, as the settings say: what is registered, their clones, and git for attempts."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from hub.checkout import Checkouts
from hub.core.fleet import Fleet
from hub.remote import HttpRemotes, gate_of
from hub.services.gate import Gate
from hub.services.projects import Projects
from hub.services.repositories import Repositories
from hub.settings import Settings
from hub.store.store import Store
from protocol.clock import Clock

FOLDER = "projects"


class ProjectParts(NamedTuple):
    """The use cases of projects, and what ends with them."""

    projects: Projects
    repositories: Repositories
    gate: Gate
    remotes: HttpRemotes


def project_parts(
    settings: Settings,
    store: Store,
    fleet: Fleet,
    clock: Clock,
    *,
    room: Callable[[], None],
    env: Mapping[str, str],
    random_bits: Callable[[int], int],
) -> ProjectParts:
    """What keeps projects in the data directory; ``env`` is the hub's environment, of which git gets a part."""
    checkouts = Checkouts(settings.folder / FOLDER, settings.project_roots, env, settings.git_ca_file)
    projects = Projects(store, clock, checkouts, room)
    repositories = Repositories(store, clock, projects.find, checkouts, room)
    remotes = HttpRemotes(settings.git_ca_file)
    gate = gate_of(store, fleet, clock, projects.find, checkouts, remotes, random_bits=random_bits)
    return ProjectParts(projects, repositories, gate, remotes)
