"""The promises of the file of keys: nobody else reads it, no key is made where one is missing, none is lost."""

import base64
import os
from pathlib import Path

import pytest

from hub.core.envelope import About, Unsealable, key_id
from hub.vault import MOST_KEYS, KeyLost, KeysGiven, Vault
from protocol.errors import BadInput, Conflict

ABOUT = About("secret", "TOKEN", 1)


async def nothing() -> frozenset[str]:
    return frozenset()


async def something() -> frozenset[str]:
    return frozenset({"0011223344556677"})


async def ready(file: Path) -> Vault:
    vault = Vault(file)
    vault.load()
    await vault.ready(nothing)
    return vault


def line(byte: int) -> bytes:
    return base64.b64encode(bytes([byte]) * 32) + b"\n"


async def test_the_first_secret_makes_a_key_that_only_its_owner_can_read_and_the_next_start_has(tmp_path: Path) -> None:
    file = tmp_path / "keystore.key"
    vault = Vault(file)
    vault.load()
    assert (vault.current, file.exists()) == ("", False)

    await vault.ready(nothing)
    sealed = vault.seal(ABOUT, "hunter2-hunter2")
    assert file.stat().st_mode & 0o777 == 0o600
    again = await ready(file)
    assert (again.current, await again.unseal(ABOUT, sealed)) == (vault.current, "hunter2-hunter2")
    assert vault.seal(ABOUT, "x") != vault.seal(ABOUT, "x"), "no nonce comes twice"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
async def test_a_file_that_others_reach_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "keystore.key"
    await ready(file)
    file.chmod(mode)

    with pytest.raises(BadInput, match=f"others can read or write .*mode {mode:04o}.*chmod 600"):
        Vault(file).load()


@pytest.mark.parametrize(
    "text, why",
    [
        (b"", "is empty"),
        (b"hello\n", "line 1 of .* is no key"),
        (line(1) + b"AAAA\n", "line 2 of .* is no key"),
        (line(1) * (MOST_KEYS + 1), "17 keys"),
    ],
)
async def test_a_file_that_holds_no_keys_is_refused_and_not_replaced(tmp_path: Path, text: bytes, why: str) -> None:
    file = tmp_path / "keystore.key"
    file.touch(mode=0o600)
    file.write_bytes(text)

    with pytest.raises(BadInput, match=why):
        Vault(file).load()
    assert file.read_bytes() == text


async def test_no_key_is_made_where_the_store_needs_one_that_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "keystore.key"
    vault = Vault(file)

    with pytest.raises(KeyLost) as caught:
        await vault.ready(something)
    assert not file.exists()
    assert str(caught.value) == (
        f"the store holds secrets whose key is not here; copy it into {file} (mode 0600) from where it was and start "
        "the hub again, or remove those secrets"
    )

    os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))
    file.write_bytes(line(7))
    await vault.ready(something)  # somebody has put it there
    assert vault.current == key_id(bytes([7]) * 32)


async def test_while_keys_are_exchanged_both_open_also_after_a_start_and_then_only_the_new_one(tmp_path: Path) -> None:
    file = tmp_path / "keystore.key"
    vault = await ready(file)
    old, was = vault.seal(ABOUT, "old-value"), vault.current

    new = await vault.renew()
    interrupted = await ready(file)
    assert (interrupted.known, interrupted.current) == ((new, was), new)
    assert await interrupted.unseal(ABOUT, old) == "old-value"

    assert await interrupted.drop_others() == (was,)
    assert await interrupted.drop_others() == ()
    with pytest.raises(Unsealable):
        await interrupted.unseal(ABOUT, old)
    assert (await ready(file)).known == (new,)


async def test_keys_do_not_pile_up_for_ever(tmp_path: Path) -> None:
    vault = await ready(tmp_path / "keystore.key")
    for _ in range(MOST_KEYS - 1):
        await vault.renew()

    with pytest.raises(Conflict, match="16 keys are in use already"):
        await vault.renew()


async def test_keys_that_somebody_else_looks_after_are_read_and_never_written(tmp_path: Path) -> None:
    file = tmp_path / "credential"
    with pytest.raises(BadInput, match="there is no"):
        Vault(file, is_given=True).load()
    file.write_bytes(line(1) + line(2))
    file.chmod(0o440)  # as systemd gives them, with a list of who may read
    vault = Vault(file, is_given=True)
    vault.load()

    assert vault.known == (key_id(bytes([1]) * 32), key_id(bytes([2]) * 32))
    assert await vault.drop_others() == ()
    with pytest.raises(KeysGiven, match="put a new key before the others there"):
        await vault.renew()
    with pytest.raises(KeysGiven, match="set key_file"):
        await Vault(is_shared=True).renew()
    assert file.read_bytes() == line(1) + line(2)


async def test_a_key_that_another_hub_has_brought_meanwhile_is_found(tmp_path: Path) -> None:
    one, two = await ready(tmp_path / "one.key"), Vault(tmp_path / "two.key")
    sealed = one.seal(ABOUT, "of the other hub")
    with pytest.raises(Unsealable):
        await two.unseal(ABOUT, sealed)

    (tmp_path / "two.key").touch(mode=0o600)
    (tmp_path / "two.key").write_bytes((tmp_path / "one.key").read_bytes())
    assert await two.unseal(ABOUT, sealed) == "of the other hub"


async def test_a_place_that_cannot_be_written_is_told_and_leaves_the_vault_without_a_key(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "missing" / "keystore.key")

    with pytest.raises(BadInput, match="cannot write"):
        await vault.ready(nothing)
    assert vault.current == ""


async def test_keys_stay_known_when_their_file_is_gone_and_can_be_written_again(tmp_path: Path) -> None:
    file = tmp_path / "keystore.key"
    vault = await ready(file)
    sealed, was = vault.seal(ABOUT, "a-value"), vault.current
    file.unlink()

    with pytest.raises(Unsealable):
        await vault.unseal(ABOUT, b"\1" + bytes(60))  # of a key that nobody has: it is looked for in the file
    assert (vault.known, await vault.unseal(ABOUT, sealed)) == ((was,), "a-value")
    new = await vault.renew()
    assert (await ready(file)).known == (new, was)
