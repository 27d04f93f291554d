"""Hooks of schemathesis: beside bodies that fit the API document, often one that a hub also takes.

What fits the document is almost never a task that can be: it depends on tasks, projects and plug-ins that there are
not. Without a task, or a project, that was made there is nothing that a chain of requests could go on from.
"""

from typing import Any, Final

import schemathesis
from hypothesis import strategies as st

_NAMES: Final = st.from_regex(r"[a-z][a-z0-9]{0,11}", fullmatch=True)
_TASKS: Final = st.fixed_dictionaries(
    {"title": _NAMES},
    optional={
        "executor": st.just("noop"),
        "command": st.sampled_from(("true", "false")),
        "priority": st.sampled_from(("urgent", "high", "normal", "low")),
        "labels": st.dictionaries(_NAMES, _NAMES, max_size=2),
        "needs": st.lists(_NAMES, max_size=1),
    },
)
_PLACES: Final = st.builds("https://git.example/{}.git".format, _NAMES)
LIKELY: Final[dict[str, st.SearchStrategy[Any]]] = {
    "POST /api/v1/tasks": _TASKS | st.fixed_dictionaries({"tasks": st.lists(_TASKS, min_size=1, max_size=3)}),
    "POST /api/v1/projects": st.fixed_dictionaries({"name": _NAMES, "repository": _PLACES}),
    "POST /api/v1/endpoints": st.fixed_dictionaries(
        {"kind": st.sampled_from(("ollama", "openai")), "url": st.just("http://127.0.0.1:9"), "id": _NAMES}
    ),
    "POST /api/v1/join-tokens": st.fixed_dictionaries({}, optional={"label": _NAMES, "uses": st.integers(1, 9)}),
    "POST /api/v1/tokens": st.fixed_dictionaries({"role": st.sampled_from(("viewer", "submitter"))}),
}


@schemathesis.hook
def before_generate_body(context: schemathesis.HookContext, strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Two bodies of three are likely ones, where there are any."""
    likely = LIKELY.get(context.operation.label) if context.operation is not None else None
    return strategy if likely is None else st.one_of(likely, likely, strategy)
