"""Logins and shortened ids on a real Postgres."""

from pathlib import Path

from bridge.matrix.namespaces import Namespaces
from bridge.sdk.ids import InstanceId, UserId
from bridge.sdk.login import LoginKind
from bridge.sdk.secret import Secret
from bridge.storage.accounts import Accounts
from bridge.storage.pool import Database
from bridge.storage.vault import Vault, to_bytes

IRC = InstanceId("irc")
ALICE, BEA = UserId("@alice:hs"), UserId("@bea:hs")


async def test_shortened_ids_are_read_back_whatever_they_stand_for(database: Database) -> None:
    accounts, before = Accounts(database), Namespaces(server_name="hs", networks=[IRC])
    for remote_id in ("a" * 300, "\0\ud800\udc00" * 40, "é" * 100, "\U0001f600" * 50):
        before.ghost(IRC, remote_id)
        before.alias(IRC, remote_id)
    assert len(before.new_long_ids) == 8
    for one in before.new_long_ids * 2:
        await accounts.note_long_id(*one)
    after = Namespaces(server_name="hs", networks=[IRC])
    after.know_long_ids(await accounts.long_ids())
    for spelled, instance, remote_id in before.new_long_ids:
        parse = after.parse_ghost if spelled.startswith("@") else after.parse_alias
        assert parse(spelled) == (instance, remote_id)


async def test_a_person_has_several_logins_of_which_one_speaks_and_one_automatic(
    database: Database,
) -> None:
    accounts = Accounts(database)
    automatic = await accounts.get_or_add_login(IRC, LoginKind.AUTOMATIC, ALICE)
    assert await accounts.get_or_add_login(IRC, LoginKind.AUTOMATIC, ALICE) == automatic
    relay = await accounts.get_or_add_login(IRC, LoginKind.RELAY, None)
    assert await accounts.get_or_add_login(IRC, LoginKind.RELAY, None) == relay
    first = await accounts.link_login(IRC, ALICE, "wanda")
    second = await accounts.link_login(IRC, ALICE, "vera")
    assert await accounts.link_login(IRC, ALICE, "wanda") == first
    assert (first.preferred, second.preferred) == (True, False)
    theirs = await accounts.link_login(IRC, BEA, "wanda")
    elsewhere = await accounts.link_login(InstanceId("far"), ALICE, "wanda")
    assert theirs.preferred
    assert elsewhere.preferred
    await accounts.prefer_login(second)
    rows = [*await accounts.logins(IRC), *await accounts.logins(elsewhere.instance)]
    found = {row.id: row.preferred for row in rows if row.owner == ALICE}
    assert found == {
        automatic.id: False, first.id: False, second.id: True, elsewhere.id: True,
    }  # fmt: skip
    await accounts.remove_login(second.id)
    assert (await accounts.link_login(IRC, ALICE, "xenia")).preferred
    left = [row.name for row in await accounts.logins(IRC) if row.owner == BEA]
    assert left == ["wanda"]


async def test_what_a_login_signs_in_with_goes_with_it(database: Database, folder: Path) -> None:
    accounts, vault = Accounts(database), await Vault.at(database, folder)
    row = await accounts.link_login(IRC, ALICE, "wanda")
    value = "with spaces, \0, 🐎 and " + "ä" * 2048
    await vault.put(ALICE, IRC, f"{row.id} password", to_bytes(Secret(value)), login=row.id)
    kept = await vault.secrets_of(row.id)
    assert {name: one.reveal() for name, one in kept.items()} == {f"{row.id} password": value}
    await accounts.remove_login(row.id)
    assert await vault.records_of(ALICE) == []
