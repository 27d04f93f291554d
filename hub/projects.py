"""Put together what keeps projects, as the settings say: what is registered, clones, git for attempts, forges."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from hub.checkout import Checkouts
from hub.core.fleet import Fleet
from hub.core.projects import Project
from hub.forges import connect
from hub.forges.http import Sessions
from hub.remote import HttpRemotes
from hub.services.gate import Gate, UserPassword
from hub.services.projects import Projects
from hub.services.pulls import Pulls
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
    pulls: Pulls
    forges: Sessions


def project_parts(  # noqa: PLR0913 - what they are made of
    settings: Settings,
    store: Store,
    fleet: Fleet,
    clock: Clock,
    *,
    room: Callable[[], None],
    env: Mapping[str, str],
    random_bits: Callable[[int], int],
    is_shared: bool = False,
    offered: asyncio.Event | None = None,
) -> ProjectParts:
    """What keeps projects in the data directory.

    Args:
        settings, store, fleet, clock, room, random_bits: as their parts want them.
        env: the hub's environment, of which git gets a part.
        is_shared: other hubs have the same store.
        offered: set when work has been pushed.
    """
    checkouts = Checkouts(settings.folder / FOLDER, settings.project_roots, env, settings.git_ca_file)
    projects = Projects(store, clock, checkouts, room)
    repositories = Repositories(store, clock, projects.find, checkouts, room)
    remotes = HttpRemotes(settings.git_ca_file)

    def login(project: Project) -> UserPassword | None:
        kept_here = checkouts.of(project.name).login(project.repository)
        return None if kept_here is None else kept_here.read()

    gate = Gate(store, fleet, clock, projects.find, login, remotes, random_bits=random_bits)
    forges = Sessions(settings.git_ca_file)
    pulls = Pulls(store, clock, projects.find, login, partial(connect, forges), is_shared=is_shared, wake=offered)
    return ProjectParts(projects, repositories, gate, remotes, pulls, forges)
