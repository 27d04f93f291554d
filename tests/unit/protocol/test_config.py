"""The promise of settings: flags before environment before file before defaults, and every problem named at once."""

from typing import Any

import pytest
from msgspec import Struct

from protocol.config import merge
from protocol.errors import BadInput
from protocol.model import Tier


class Settings(Struct, frozen=True, kw_only=True):
    """One field of each shape that settings have."""

    listen: str = "127.0.0.1:1"
    slots: int = 2
    lease_s: float = 30.0
    plaintext: bool = False
    names: tuple[str, ...] = ()
    more: list[str] = []
    tier: Tier = Tier.STANDARD
    note: str | None = None


def merged(
    flags: dict[str, object] | None = None, env: dict[str, str] | None = None, file: dict[str, object] | None = None
) -> tuple[Settings, dict[str, str]]:
    return merge(Settings, flags=flags or {}, env=env or {}, file=file or {}, file_name="hub.toml")


def test_without_anything_the_defaults_stand() -> None:
    settings, origins = merged()

    assert settings == Settings()
    assert set(origins.values()) == {"default"}
    assert set(origins) == set(Settings.__struct_fields__)


@pytest.mark.parametrize(
    "flags, env, file, value, origin",
    [
        ({"slots": 9}, {"AGENTCOM_SLOTS": "8"}, {"slots": 7}, 9, "--slots"),
        ({"slots": None}, {"AGENTCOM_SLOTS": "8"}, {"slots": 7}, 8, "AGENTCOM_SLOTS"),
        ({}, {"AGENTCOM_SLOTS": ""}, {"slots": 7}, 7, "hub.toml"),
        ({}, {"SLOTS": "8"}, {}, 2, "default"),
        ({"slots": 0}, {}, {"slots": 7}, 0, "--slots"),
    ],
)
def test_the_nearest_place_wins_and_says_so(
    flags: dict[str, object], env: dict[str, str], file: dict[str, object], value: int, origin: str
) -> None:
    settings, origins = merged(flags, env, file)

    assert (settings.slots, origins["slots"]) == (value, origin)


def test_a_flag_of_several_words_is_named_as_it_is_typed() -> None:
    assert merged({"lease_s": 5.0})[1]["lease_s"] == "--lease-s"


def test_a_file_without_a_name_is_called_a_settings_file() -> None:
    assert merge(Settings, flags={}, env={}, file={"slots": 1})[1]["slots"] == "settings file"


@pytest.mark.parametrize(
    "text, field, value",
    [
        ("a, b ,,c", "names", ("a", "b", "c")),
        ("a", "more", ["a"]),
        ("yes,no", "names", ("yes", "no")),
        ("true", "plaintext", True),
        ("0", "plaintext", False),
        ("1.5", "lease_s", 1.5),
        ("complex", "tier", Tier.COMPLEX),
        ("a,b", "listen", "a,b"),
        ("x", "note", "x"),
    ],
)
def test_text_of_the_environment_becomes_the_type_of_the_field(text: str, field: str, value: object) -> None:
    settings, _ = merged(env={f"AGENTCOM_{field.upper()}": text})

    assert getattr(settings, field) == value


def test_a_flag_that_may_be_given_several_times_counts_once_it_is_given() -> None:
    assert merged({"names": ()}, file={"names": ["a"]})[0].names == ("a",)
    assert merged({"names": ("b", "c")}, file={"names": ["a"]})[0].names == ("b", "c")


def refused(**places: Any) -> dict[str, str]:
    with pytest.raises(BadInput) as caught:
        merged(**places)
    assert caught.value.what == "settings"
    return {p.path: p.problem for p in caught.value.problems}


def test_every_problem_is_named_with_the_place_it_came_from() -> None:
    found = refused(
        flags={"slots": "many"},
        env={"AGENTCOM_LEASE_S": "soon", "AGENTCOM_TIER": "hard"},
        file={"lsten": "x", "names": 5},
    )

    assert found["lsten"].startswith("hub.toml: unknown key; known: lease_s, listen, more, names")
    assert found["slots"] == "--slots: expected `int`, got `str`, found 'many'"
    assert found["lease_s"] == "AGENTCOM_LEASE_S: expected `float`, got `str`, found 'soon'"
    assert found["tier"] == "AGENTCOM_TIER: invalid enum value 'hard', found 'hard'"
    assert found["names"].startswith("hub.toml: expected ")
    assert len(found) == 5


def test_a_value_that_is_too_long_to_show_is_cut() -> None:
    assert refused(env={"AGENTCOM_SLOTS": "x" * 500})["slots"].endswith(f"found {'x' * 60!r}")
