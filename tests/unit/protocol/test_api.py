"""The promise of the HTTP shapes: programs out there read these names, so none is lost and none changes unseen."""

import msgspec
import pytest

from protocol import api, endpoint_views, host_views
from protocol.model import TaskSpec

VIEWS = {
    name: kind
    for module in (api, endpoint_views, host_views)
    for name, kind in vars(module).items()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
}
# What the contract names for clients; more may be added, none of these may go.
NAMED = {
    "TaskSummary": "id title state priority agent epoch execution_ok verified reason labels submitted_at queued_at "
    "started_at ended_at",
    "TaskView": "spec routing attempts iterations result usage retries_left ready_at",
    "AttemptView": "epoch agent host state accepted failure reason assigned_at started_at ended_at routing result",
    "AgentView": "name state host slots busy capabilities version boot_epoch last_seen_at tasks draining",
    "HostView": "name agents cpu ram disk gpus models at",
    "EventView": "seq at kind task agent epoch facts",
    "LogPiece": "seq at epoch stream text",
    "Explanation": "task state summary unblock position agents routing",
    "Health": "state version started_at components queue",
    "Submitted": "tasks replayed",
    "TokenCreated": "token id role expires_at",
}


@pytest.mark.parametrize("name", NAMED)
def test_a_view_keeps_the_fields_that_programs_read(name: str) -> None:
    assert set(NAMED[name].split()) <= set(VIEWS[name].__struct_fields__)


@pytest.mark.parametrize("name", sorted(name for name in VIEWS if name.endswith(("Body", "Patch"))))
def test_what_people_send_has_no_room_for_a_misspelled_field(name: str) -> None:
    assert VIEWS[name].__struct_config__.forbid_unknown_fields


def test_a_view_leaves_nothing_out_that_is_empty() -> None:
    # A client may rely on every field being there; only the problem document is short by design.
    left_out = {name for name, kind in VIEWS.items() if kind.__struct_config__.omit_defaults}

    assert left_out == {"ProblemDocument"}
    assert TaskSpec.__struct_config__.omit_defaults
