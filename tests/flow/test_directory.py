"""What a client's room directory finds: channels by network, and rooms that are open to all."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest_asyncio

from bridge.app import App
from bridge.demo.matrix_user import PATIENCE, MatrixUser
from bridge.sdk.ids import InstanceId, RemoteChatId
from bridge.settings.records import DatabaseSettings
from tests.flow.networks import connected, irc_module
from tests.flow.rooms import enter, wait_for_state
from tests.rigs.irc_user import irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.ngircd import run_ngircd
from tests.rigs.trestle import Town, make_modules, run_town, running


@pytest_asyncio.fixture
async def home() -> AsyncIterator[Town]:
    """A homeserver that counts: its directory shows nothing else."""
    options = {
        "stats": {"enabled": True}, "room_list_publication_rules": [{"action": "allow"}]
    }  # fmt: skip
    async with run_town(options, protocols=["irc"]) as started:
        yield started


@pytest_asyncio.fixture
async def irc() -> AsyncIterator[IrcServer]:
    async with run_ngircd() as started:
        yield started


@pytest_asyncio.fixture
async def app(
    home: Town, irc: IrcServer, folder: Path, database_settings: DatabaseSettings
) -> AsyncIterator[App]:
    """The network ``near``, which is the admin's own, and ``far``, whose channels are others'."""
    others = {"far": irc_module(irc, own_network=False, nick="ferry")["near"]}
    modules = make_modules({**irc_module(irc), **others})
    async with running(home.settings_for(folder, database_settings, modules=modules)) as started:
        for network in started.parts.instances.values():
            await connected(network)
        yield started


async def look_up(person: MatrixUser, what: str, **fields: str) -> Any:
    status, found = await person.try_call("GET", f"v3/thirdparty/{what}/irc", **fields)
    assert status == 200
    return found


async def wait_for_list(person: MatrixUser, instance: Mapping[str, Any], *rooms: str) -> None:
    """Wait until these rooms are in the list of the instance, and no others."""
    chosen = {"third_party_instance_id": instance["instance_id"]}
    async with asyncio.timeout(PATIENCE):
        while True:
            reply = await person.call("POST", "v3/publicRooms", chosen)
            if {one["room_id"] for one in reply["chunk"]} == set(rooms):
                return
            await asyncio.sleep(0.2)


async def test_channels_are_found_network_by_network_and_rooms_while_they_are_open(
    home: Town, irc: IrcServer, app: App
) -> None:
    alice, bea = await home.person("alice"), await home.person("bea")
    instances, found = await _each_network_answers_for_itself(alice)
    near = instances["near"]["fields"]
    async with irc_user(irc.port, "olga") as olga:
        await olga.join("#plaza")
        joined = await alice.call("POST", f"v3/join/{found['alias'].replace('#', '%23')}", {})
        made = joined["room_id"]
        await wait_for_list(bea, instances["near"], made)
        olga.say("MODE #plaza +k sesame")
        await wait_for_state(
            alice, made, "m.room.join_rules", lambda c: c.get("join_rule") == "invite"
        )
        await wait_for_list(bea, instances["near"])
        lobby = await enter(bea, name="Lobby")
        await bea.say(lobby, "!trestle near join #fresh")
        await bea.wait_until(lambda: bool(bea.invitations))
        (fresh,) = bea.invitations
        await _a_closed_room_stays_closed(bea, lobby, "near")
        assert await look_up(bea, "location", channel="#plaza", **near) == []
        olga.say("MODE #plaza -k sesame")
        await wait_for_list(bea, instances["near"], made, fresh)

        await olga.join("#works")
        await bea.say(lobby, "!trestle far join #works")
        await bea.wait_for_text(lobby, "belongs to those who run it")
        site = await enter(alice, name="Site")
        await alice.say(site, "!trestle bridge far #works")
        await olga.expect("PRIVMSG olga", "asks to bridge #works")
        olga.say("PRIVMSG ferry :yes #works")
        await olga.expect("NOTICE", "#works is bridged to Site now.")
        await _a_room_of_people_is_found_as_they_wish(alice, bea, site, lobby)
        await alice.say(site, "!trestle set follow all")
        await wait_for_list(bea, instances["far"], site)
        await alice.say(site, "!trestle set follow topic")
        await wait_for_list(bea, instances["far"])
        await alice.call("PUT", f"v3/directory/list/room/{site}", {"visibility": "public"})
        olga.say("MODE #works +s", "MODE #works -s")
        await wait_for_list(bea, instances["far"], site)
    door = app.parts.portals.find(InstanceId("far"), RemoteChatId("#works"))
    assert door is not None
    await alice.say(site, "!trestle unbridge")
    await wait_for_list(bea, instances["far"])
    await wait_for_list(bea, instances["near"], made, fresh)


async def _each_network_answers_for_itself(alice: MatrixUser) -> tuple[dict[str, Any], Any]:
    """The instances by network, and what leads to ``#plaza``."""
    protocol = (await alice.call("GET", "v3/thirdparty/protocols"))["irc"]
    assert protocol["location_fields"] == ["network", "channel"]
    instances = {one["network_id"]: one for one in protocol["instances"]}
    assert [instances[name]["fields"] for name in ("near", "far")] == [
        {"network": "near"}, {"network": "far"}
    ]  # fmt: skip

    # As Element does it: all fields but the last are those of the instance that is chosen.
    near, far = (instances[name]["fields"] for name in ("near", "far"))
    (found,) = await look_up(alice, "location", channel="#plaza", **near)
    assert found["fields"] == {"network": "near", "channel": "#plaza"}
    assert await look_up(alice, "location", channel="#plaza", **far) == []
    assert await look_up(alice, "location", channel="#plaza") == [found]
    (olga_near,) = await look_up(alice, "user", nick="olga", **near)
    (olga_far,) = await look_up(alice, "user", nick="olga", **far)
    assert olga_near["userid"] == "@_trestle_near_olga:test.example"
    both = await look_up(alice, "user", nick="olga")
    assert sorted(both, key=str) == sorted([olga_far, olga_near], key=str)
    return instances, found


async def _a_closed_room_stays_closed(person: MatrixUser, lobby: str, network: str) -> None:
    """Whoever asks for the room of a channel that is closed by now does not come in."""
    await person.say(lobby, f"!trestle {network} join #plaza")
    await person.wait_for_text(lobby, "the room of #plaza is not open to everybody: it is for")
    await person.sync(0)
    assert len(person.invitations) == 1  # Of before.


async def _a_room_of_people_is_found_as_they_wish(
    alice: MatrixUser, bea: MatrixUser, site: str, lobby: str
) -> None:
    """The bridged room of a channel of others: by its alias and by ``join``, as its rule says."""
    for rule, answer in (("invite", "it is for those who are"), ("knock", f"knock at {site}")):
        await alice.set_state(site, "m.room.join_rules", {"join_rule": rule})
        await bea.say(lobby, "!trestle far join #works")
        await bea.wait_for_text(lobby, f"the room of #works is not open to everybody: {answer}")
        found = await look_up(bea, "location", network="far", channel="#works")
        assert len(found) == (rule == "knock")
    await alice.set_state(site, "m.room.join_rules", {"join_rule": "public"})
    (found,) = await look_up(bea, "location", network="far", channel="#works")
    joined = await bea.call("POST", f"v3/join/{found['alias'].replace('#', '%23')}", {})
    assert joined["room_id"] == site
    await bea.leave(site)
    await bea.say(lobby, "!trestle far join #works")
    await bea.wait_for_text(lobby, f"The room of #works is open to everybody: join {site}.")
    await alice.call("POST", f"v3/rooms/{site}/ban", {"user_id": bea.id})
    await bea.say(lobby, "!trestle far join #works")
    await bea.wait_for_text(lobby, "you are banned from the room of #works")
