"""Promises of :mod:`provisioning.environments`: nothing unproven is unpacked, and nothing half done ever counts."""

import hashlib
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from provisioning import environments
from provisioning.environments import BadOffer
from tests.support.releases import elsewhere, helper, small


def installed(base: Path, version: str) -> str:
    offer, files = small(version)
    environments.fetch(base, offer, files.__getitem__)
    name = environments.build(base, offer)
    environments.switch(base, name)
    return name


def said(program: Path, *words: str) -> list[str]:
    return subprocess.run([program, *words], check=True, capture_output=True, text=True).stdout.splitlines()


def test_what_counts_is_changed_from_one_moment_to_the_next_and_a_program_keeps_to_its_own_environment(
    tmp_path: Path,
) -> None:
    base = tmp_path / "a folder" / "agentcom"
    first = installed(base, "1.0")
    through_the_link = said(environments.program(base), "hello")
    second = installed(base, "2.0")

    # Its prefix is not the link: what it imports later comes from where it began.
    assert through_the_link == ["1.0", str(base / "envs" / first), "hello"]
    assert said(environments.program(base))[0] == "2.0"
    assert said(environments.program(base, first))[0] == "1.0"
    assert (environments.current(base), environments.base_of(base / "env")) == (second, base)
    assert environments.base_of(base / "envs" / first) == base
    assert environments.base_of(sys.prefix) is None


def test_only_what_is_missing_is_sent_and_a_file_that_is_not_as_promised_is_never_kept(tmp_path: Path) -> None:
    offer, files = small("1.0")
    assert environments.fetch(tmp_path, offer, files.__getitem__) == sum(map(len, files.values()))
    assert environments.fetch(tmp_path, offer, lambda _path: b"") == 0

    other, _ = small("2.0")
    with pytest.raises(BadOffer, match="not what the hub has promised"):
        environments.fetch(tmp_path, other, lambda _path: b"something else")
    assert "agentcom-2.0" not in str(sorted((tmp_path / "wheels").iterdir()))


def test_a_file_that_was_damaged_here_is_not_unpacked_and_is_sent_again(tmp_path: Path) -> None:
    offer, files = small("1.0")
    environments.fetch(tmp_path, offer, files.__getitem__)
    (tmp_path / "wheels" / offer["wheels"][1]["name"]).write_bytes(b"damaged")
    with pytest.raises(BadOffer, match="was changed"):
        environments.build(tmp_path, offer)

    assert environments.current(tmp_path) == ""
    assert environments.fetch(tmp_path, offer, files.__getitem__) > 0
    environments.switch(tmp_path, environments.build(tmp_path, offer))


@pytest.mark.parametrize("name", ["../agentcom.whl", "agentcom.zip", "", ".hidden.whl", "a/b.whl"])
def test_a_file_has_a_plain_name_or_is_not_taken(tmp_path: Path, name: str) -> None:
    offer, files = small("1.0")
    offer["wheels"][1]["name"] = name
    with pytest.raises(BadOffer, match="no name of a wheel"):
        environments.fetch(tmp_path, offer, lambda path: files.get(path, b""))


def test_an_environment_that_was_not_built_to_its_end_never_counts_and_is_built_anew(tmp_path: Path) -> None:
    offer, files = small("1.0")
    environments.fetch(tmp_path, offer, files.__getitem__)
    name = environments.build(tmp_path, offer)
    (tmp_path / "envs" / name / environments.MARK).unlink()
    with pytest.raises(BadOffer, match="not whole"):
        environments.switch(tmp_path, name)
    (tmp_path / "envs" / name / "leftover").touch()

    environments.switch(tmp_path, environments.build(tmp_path, offer))
    assert environments.current(tmp_path) == name
    assert not (tmp_path / "envs" / name / "leftover").exists()


def test_the_one_before_is_kept_and_older_ones_go_with_their_files(tmp_path: Path) -> None:
    first, second, third = (installed(tmp_path, version) for version in ("1.0", "2.0", "3.0"))
    offer, _ = small("3.0")

    assert environments.tidy(tmp_path, {second, third}, offer) == [first]
    assert sorted(path.name for path in (tmp_path / "envs").iterdir()) == [second, third]
    assert {path.name for path in (tmp_path / "wheels").iterdir()} == {wheel["name"] for wheel in offer["wheels"]}
    environments.remove(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_system_takes_only_agentcom_itself_from_the_hub(tmp_path: Path) -> None:
    offer, files = small("1.0")
    offer["tag"] = "cpython-27-amiga"
    environments.fetch(tmp_path, offer, files.__getitem__)

    assert [path.name for path in (tmp_path / "wheels").iterdir()] == [offer["wheels"][0]["name"]]
    assert not environments.fits(offer)


def test_on_another_system_what_agentcom_needs_is_what_the_hubs_release_has_pinned_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index"  # pip takes it for the package index
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    offer, files = elsewhere("1.0", f"helper==1.0 --hash=sha256:{hashlib.sha256(helper(1)).hexdigest()}\n")
    environments.fetch(tmp_path, offer, files.__getitem__)

    (index / "helper-1.0-py3-none-any.whl").write_bytes(helper(666))
    with pytest.raises(BadOffer, match="THESE PACKAGES DO NOT MATCH THE HASHES"):
        environments.build(tmp_path, offer)
    assert not environments.is_whole(tmp_path, environments.name_of(offer))
    assert not list((tmp_path / "envs").rglob("helper.py"))

    (index / "helper-1.0-py3-none-any.whl").write_bytes(helper(1))
    assert said(environments.program(tmp_path, environments.build(tmp_path, offer))) == ["1"]


def test_on_another_system_a_release_that_pins_nothing_is_not_installed(tmp_path: Path) -> None:
    offer, files = elsewhere("1.0", None)
    environments.fetch(tmp_path, offer, files.__getitem__)
    with pytest.raises(BadOffer, match="does not say what its packages hash to"):
        environments.build(tmp_path, offer)

    assert not (tmp_path / "envs").exists()


def test_the_list_of_this_release_pins_all_that_it_needs() -> None:
    """What the wheel holds is what this project is tested with, and has a hash for each package that it needs."""
    file = Path(environments.__file__).with_name("requirements.txt")
    text = file.read_text("utf-8")
    pinned = {line.partition("==")[0] for line in text.splitlines() if line[:1].isalpha()}
    hashed = text.count("\n    --hash=sha256:")
    needed = {
        re.split(r"[^\w.-]", each)[0].lower() for each in metadata.requires("agentcom") or () if "extra" not in each
    }

    assert text == (file.parents[1] / "requirements" / "base.txt").read_text("utf-8")
    assert {re.sub(r"[-_.]+", "-", each) for each in needed} <= pinned
    assert hashed >= len(pinned)


def test_an_environment_from_before_there_were_several_gives_way(tmp_path: Path) -> None:
    (tmp_path / "env" / "bin").mkdir(parents=True)
    name = installed(tmp_path, "1.0")

    assert environments.current(tmp_path) == name


def test_it_runs_with_nothing_but_python_itself() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); from provisioning import environments"
    root = Path(environments.__file__).parents[1]
    subprocess.run([sys.executable, "-I", "-S", "-c", code, str(root)], check=True)
