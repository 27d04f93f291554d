"""Promises of :mod:`sidecar.sandbox.policy`: what a program sees, and what stays out of its sight."""

from pathlib import Path

import pytest

from sidecar.sandbox.policy import Host, Place, Rules, look, view, without


@pytest.fixture
def place(tmp_path: Path) -> Place:
    state = tmp_path / "state"
    made = Place(state / "work", state / "scratch", fixed=(state / "work" / ".git",))
    for folder in (made.workspace, made.scratch):
        folder.mkdir(parents=True)
    made.fixed[0].touch()
    return made


def host(tmp_path: Path, **what: tuple[Path, ...]) -> Host:
    return Host(**{"system": (), "devices": (), "secrets": ()} | what, state=tmp_path / "state")  # type: ignore[arg-type]  # by name


def test_a_program_writes_in_its_own_places_and_where_the_owner_said(tmp_path: Path, place: Place) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    seen = view(place, Rules(write=(shared,)), host(tmp_path))

    assert set(seen.write) == {place.workspace, place.scratch, shared}
    assert seen.fixed == place.fixed


def test_what_is_not_there_is_left_out(tmp_path: Path, place: Place) -> None:
    seen = view(place, Rules(read=(tmp_path / "gone",)), host(tmp_path, system=(tmp_path / "none",)))

    assert seen.read == ()


def test_the_state_of_the_sidecar_is_hidden_where_it_would_be_seen(tmp_path: Path, place: Place) -> None:
    assert view(place, Rules(), host(tmp_path)).hidden == ()
    assert view(place, Rules(read=(tmp_path,)), host(tmp_path)).hidden == (tmp_path / "state",)
    assert view(place, Rules(write=(tmp_path,)), host(tmp_path)).hidden == (tmp_path / "state",)


def test_no_link_leads_around_what_hides_the_state(tmp_path: Path, place: Place) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "state")
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "up").symlink_to(tmp_path)
    by_link = Host((), (), (), tmp_path / "link")

    assert view(place, Rules(read=(tmp_path,)), by_link).hidden == (tmp_path / "state",)
    assert view(place, Rules(write=(tmp_path,)), by_link).hidden == (tmp_path / "state",)
    opened = view(place, Rules(read=(tmp_path / "disk" / "up",)), host(tmp_path))
    assert opened.hidden == (tmp_path / "disk" / "up" / "state",)


def test_what_an_attempt_reads_of_the_state_is_seen_though_an_open_directory_holds_it(tmp_path: Path) -> None:
    cache, workspace = tmp_path / "state" / "cache" / "objects", tmp_path / "state" / "work"
    for folder in (cache, workspace):
        folder.mkdir(parents=True)
    place = Place(workspace, workspace, read=(cache,))
    by_owner = view(place, Rules(read=(tmp_path,)), host(tmp_path))
    for what in (by_owner, view(place, Rules(), host(tmp_path, system=(tmp_path,)))):
        assert what.read == (tmp_path, cache)
        assert what.hidden == (tmp_path / "state",)
        assert [*without(what.read, what.hidden)] == [cache]


def test_only_links_at_the_very_top_are_shown_as_links(tmp_path: Path, place: Place) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib64").symlink_to("lib")
    top = [path for path in (Path("/bin"), Path("/lib")) if path.is_symlink()]
    seen = view(place, Rules(), host(tmp_path, system=(Path("/usr"), *top, tmp_path / "lib", tmp_path / "lib64")))

    assert tmp_path / "lib64" in seen.read
    assert seen.links == set(top)


def test_of_the_interpreters_directory_only_itself_and_libraries_are_seen(tmp_path: Path) -> None:
    prefix = tmp_path / "conda"
    for name in ("bin", "lib", "etc", "share", "conda-meta"):
        (prefix / name).mkdir(parents=True)
    for name in ("bin/python3.11", "bin/other", "pip.conf", ".condarc"):
        (prefix / name).touch()
    found = look(tmp_path / "state", "", [str(prefix / "bin/python3.11")]).system

    assert {path for path in found if tmp_path in path.parents} == {prefix / "lib", prefix / "bin/python3.11"}


def test_a_directory_in_another_one_is_named_once(tmp_path: Path, place: Place) -> None:
    inner = tmp_path / "usr" / "bin"
    inner.mkdir(parents=True)

    assert view(place, Rules(read=(inner, tmp_path / "usr")), host(tmp_path)).read == (tmp_path / "usr",)


def test_of_a_programs_directory_only_what_programs_need_is_seen(tmp_path: Path) -> None:
    local = tmp_path / ".local"
    for name in ("bin", "lib", "share"):
        (local / name).mkdir(parents=True)
    shims = tmp_path / ".pyenv" / "shims"
    shims.mkdir(parents=True)
    found = look(tmp_path / "state", f"{local / 'bin'}:{shims}:relative:", ()).system

    assert {path for path in found if tmp_path in path.parents} == {local / "bin", local / "lib", tmp_path / ".pyenv"}


def test_a_kernel_without_exceptions_is_told_the_pieces(tmp_path: Path) -> None:
    for name in ("etc/a", "etc/ssl/certs", "etc/ssl/private", "usr"):
        (tmp_path / name).mkdir(parents=True)
    pieces = without([tmp_path / "etc", tmp_path / "usr"], [tmp_path / "etc/ssl/private"])

    assert [str(piece.relative_to(tmp_path)) for piece in pieces] == ["etc/a", "etc/ssl/certs", "usr"]
