import pytest

from provisioning.plan import ALWAYS, JOIN, UNDONE, parents_to_remove, to_join, to_leave


def verbs(done: tuple[str, ...], again: tuple[str, ...] = ()) -> dict[str, str]:
    return {step.name: step.verb for step in to_join(done, again=again)}


def test_a_fresh_machine_does_all_steps_in_order() -> None:
    assert [step.name for step in to_join(())] == list(JOIN)
    assert set(verbs(()).values()) == {"do"}


@pytest.mark.parametrize("count", range(1, len(JOIN) + 1))
def test_a_run_that_was_interrupted_goes_on_behind_the_last_step_that_ended(count: int) -> None:
    done = JOIN[:count]

    found = verbs(done)
    assert [name for name in JOIN if found[name] == "do"] == [n for n in JOIN if n in ALWAYS or n not in done]


def test_what_does_not_hold_any_more_is_done_again_with_all_that_stands_on_it() -> None:
    found = verbs(JOIN, ("service",))

    assert [name for name in JOIN if found[name] == "do" and name not in ALWAYS] == ["service", "ready", "smoke"]


def test_a_machine_leaves_in_the_opposite_order_and_keeps_what_it_is_unless_all_is_to_go() -> None:
    assert to_leave(JOIN, purge=False) == ("smoke", "ready", "service", "register")
    assert to_leave(JOIN, purge=True) == UNDONE
    assert to_leave(("trust", "key"), purge=True) == ("key", "trust")
    assert to_leave((), purge=True) == ()


def test_of_folders_that_were_made_the_innermost_goes_first() -> None:
    assert parents_to_remove(["/a", "/a/b", "/a/b/c", "/a"]) == ("/a/b/c", "/a/b", "/a")
