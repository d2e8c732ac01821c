"""Whose level counts: the person's own, else the server's, else that of everybody."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from bridge.core.permissions.permissions import Permissions
from bridge.model import Permission
from bridge.sdk.ids import InstanceId, UserId
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ALICE, ROOM, ask, play

NONE, RELAY, USER, ADMIN = Permission
ME, NEIGHBOUR, STRANGER = (UserId(f"@{one}") for one in ("me:ex.org", "bea:ex.org", "x:y.org"))
LIBERA = InstanceId("libera")


@pytest.mark.parametrize(
    ("written", "me", "neighbour", "stranger"),
    [
        ({}, USER, USER, NONE),
        ({ME: ADMIN}, ADMIN, USER, NONE),
        ({"*": NONE, ME: ADMIN}, ADMIN, NONE, NONE),
        ({"*": RELAY, ME: ADMIN}, ADMIN, RELAY, RELAY),
        ({"*": RELAY, "ex.org": USER}, USER, USER, RELAY),
        ({"ex.org": NONE, ME: USER}, USER, NONE, NONE),
        ({"y.org": RELAY}, USER, USER, RELAY),
    ],
)
def test_who_is_not_named_has_the_level_of_everybody_and_without_that_a_default(
    written: Mapping[str, Permission], me: Permission, neighbour: Permission, stranger: Permission
) -> None:
    permissions = Permissions(written, "ex.org", is_ours=lambda _: False)
    assert [permissions.of(one) for one in (ME, NEIGHBOUR, STRANGER)] == [me, neighbour, stranger]
    permissions.set({}, {})
    permissions.set(written, {LIBERA: {"*": USER}})
    assert [permissions.of(one) for one in (ME, NEIGHBOUR, STRANGER)] == [me, neighbour, stranger]
    assert permissions.of(NEIGHBOUR, LIBERA) is USER


def test_a_servers_name_counts_in_whatever_letters_and_a_persons_as_it_is_written() -> None:
    levels = {"Y.org": RELAY, "@Me:EX.org": ADMIN}
    permissions = Permissions(levels, "Ex.org", is_ours=lambda _: False, of_instances={
        LIBERA: {"y.ORG": USER}
    })  # fmt: skip
    strangers = [UserId("@x:y.org"), UserId("@x:Y.ORG")]
    assert [permissions.of(one) for one in strangers] == [RELAY, RELAY]
    assert [permissions.of(one, LIBERA) for one in strangers] == [USER, USER]
    neighbours = [NEIGHBOUR, UserId("@bea:EX.ORG"), ME, UserId("@Me:EX.org")]
    assert [permissions.of(one) for one in neighbours] == [USER, USER, USER, ADMIN]


def test_a_server_without_a_port_is_shut_out_with_each_of_its_ports_and_let_in_with_none() -> None:
    ann = UserId("@ann:good.org:8448")
    levels = {"*": RELAY, "evil.org": NONE, "good.org": ADMIN, "good.org:8448": USER, ann: ADMIN}
    permissions = Permissions(levels, "ex.org", is_ours=lambda _: False, of_instances={
        LIBERA: {"good.org": NONE, "z.org": USER}
    })  # fmt: skip
    for user, level, there in (
        ("@x:evil.org:8448", NONE, NONE), ("@x:good.org:8448", USER, NONE),
        ("@x:good.org:80", RELAY, NONE), ("@x:z.org:8448", RELAY, RELAY), (ann, ADMIN, NONE),
    ):  # fmt: skip
        found = permissions.of(UserId(user)), permissions.of(UserId(user), LIBERA)
        assert found == (level, there), user


def test_who_is_ours_has_no_level_whatever_is_written() -> None:
    permissions = Permissions({"*": ADMIN, ME: ADMIN}, "ex.org", is_ours=lambda one: one == ME)
    assert (permissions.of(ME), permissions.of(NEIGHBOUR)) == (NONE, ADMIN)


async def test_a_bot_hears_those_alone_whom_its_own_permissions_let(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder) as stage:
        permissions = stage.app.parts.permissions
        dice, alice = InstanceId("dice"), UserId(ALICE)
        permissions.set({"*": USER}, {dice: {alice: RELAY}})
        await stage.put(ask("unheard"), ask("general", sender="@bea:elsewhere.example"))
        await stage.homeserver.wait_until(lambda: stage.homeserver.texts(ROOM) == ["general"])
        permissions.set({"*": NONE}, {dice: {alice: USER}})
        await stage.put(ask("unheard as well", sender="@bea:elsewhere.example"), ask("its own"))
        await stage.homeserver.wait_until(
            lambda: stage.homeserver.texts(ROOM) == ["general", "its own"]
        )
