"""Accounts and shortened ids on a real Postgres."""

from bridge.matrix.namespaces import Namespaces
from bridge.sdk.ids import InstanceId
from bridge.storage.accounts import Accounts
from bridge.storage.pool import Database

IRC = InstanceId("irc")


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
