"""The promises of sealed secrets, by every store."""

import asyncio

import pytest
from msgspec.structs import replace

from hub.core.envelope import About, as_text, key_id, seal
from hub.store.alert_changes import NotifierRow, PutNotifier
from hub.store.secret_changes import (
    KeyOfAnother,
    PutSecret,
    RemoveSecret,
    ResealNotifier,
    ResealSecret,
    SecretChanged,
    SecretRow,
    keys_needed,
)
from protocol.alerts import Severity
from protocol.errors import NotFound
from tests.support.stores import Rows

ROW = SecretRow(
    name="TOKEN",
    version=1,
    key="00ff",
    sealed=b"\0\xff sealed",
    projects=("a", "b"),
    created_ms=1,
    changed_ms=1,
    changed_by="t",
)


async def test_a_secret_is_kept_as_it_was_sealed_and_the_next_value_takes_its_place(rows: Rows) -> None:
    await rows.store.commit(PutSecret(ROW))
    await rows.store.commit(PutSecret(replace(ROW, name="A", projects=())))
    later = replace(ROW, version=2, key="01ff", sealed=b"2", projects=(), changed_ms=5, changed_by="u")
    await rows.store.commit(PutSecret(later))

    assert await rows.store.secrets() == [replace(ROW, name="A", projects=()), later]
    assert await rows.store.secret("TOKEN") == later
    assert await rows.store.secret("NONE") is None
    await rows.store.commit(RemoveSecret("TOKEN"))
    assert await rows.store.secret("TOKEN") is None
    with pytest.raises(NotFound):
        await rows.store.commit(RemoveSecret("TOKEN"))


@pytest.mark.parametrize("version", [1, 3])
async def test_of_two_who_set_a_secret_at_once_one_is_told(rows: Rows, version: int) -> None:
    await rows.store.commit(PutSecret(ROW))

    with pytest.raises(SecretChanged, match="secret TOKEN was changed by somebody else just now"):
        await rows.store.commit(PutSecret(replace(ROW, version=version, sealed=b"lost")))
    assert await rows.store.secret("TOKEN") == ROW


async def test_a_value_that_was_set_while_keys_were_exchanged_is_not_overwritten(rows: Rows) -> None:
    await rows.store.commit(PutSecret(ROW))
    await rows.store.commit(PutSecret(replace(ROW, version=2, sealed=b"new")))

    assert await rows.store.commit(ResealSecret("TOKEN", 1, "01ff", b"old value, new key")) is False
    assert await rows.store.commit(ResealSecret("TOKEN", 2, "01ff", b"new value, new key")) is True
    assert await rows.store.secret("TOKEN") == replace(ROW, version=2, key="01ff", sealed=b"new value, new key")


async def test_an_address_is_sealed_where_it_stands_and_its_keys_are_told(rows: Rows) -> None:
    row = NotifierRow(id="n", kind="webhook", url="https://e.org/h", secret="s", label="", least=Severity.INFO)
    await rows.store.commit(PutNotifier(row, is_new=True))
    await rows.store.commit(PutSecret(ROW))
    text = as_text(seal(bytes(32), About("notifier", "n"), b"x", bytes(12)))

    assert await keys_needed(rows.store) == {"00ff"}
    assert await rows.store.commit(ResealNotifier("n", "https://elsewhere.org", text)) is False
    assert await rows.store.commit(ResealNotifier("n", row.url, text)) is True
    [kept] = await rows.store.notifiers()
    assert (kept.url, kept.secret, kept.least) == (text, "", Severity.INFO)
    assert await keys_needed(rows.store) == {"00ff", key_id(bytes(32))}


async def test_of_two_hubs_that_make_a_first_key_at_once_one_is_told(rows: Rows) -> None:
    one, other = PutSecret(ROW, frozenset({"00ff"})), PutSecret(replace(ROW, name="B", key="01ff"), frozenset({"01ff"}))
    done = await asyncio.gather(rows.store.commit(one), rows.store.commit(other), return_exceptions=True)

    assert [type(each) for each in done if each is not None] == [KeyOfAnother]
    assert len(await rows.store.secrets()) == 1


async def test_an_address_is_not_sealed_with_the_key_of_another_hub_either(rows: Rows) -> None:
    await rows.store.commit(PutSecret(ROW))
    key = b"k" * 32
    url = as_text(seal(key, About("notifier", "n"), b"there", b"n" * 12))
    row = NotifierRow(id="n", kind="webhook", url=url, secret="", label="", least=Severity.INFO)

    with pytest.raises(KeyOfAnother, match="seals with the key 00ff"):
        await rows.store.commit(PutNotifier(row, is_new=True, known=frozenset({key_id(key)})))
    await rows.store.commit(PutNotifier(row, is_new=True, known=frozenset({key_id(key), "00ff"})))
    with pytest.raises(KeyOfAnother):
        await rows.store.commit(PutSecret(replace(ROW, name="B"), frozenset({"02ff"})))
