"""Lines 45 and 50 to 76 where a network answers: users, aliases and lookups on a real IRC."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from bridge.demo.matrix_user import PATIENCE
from bridge.sdk.ids import InstanceId, RemoteChatId, RoomId, UserId
from tests.conformance.conftest import Door
from tests.conformance.stage import ALICE, Play, ask, play
from tests.conformance.wire import BASE
from tests.flow.networks import connected
from tests.rigs.cluster import Cluster
from tests.rigs.irc_user import irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.ngircd import run_ngircd
from tests.rigs.scripted_homeserver import SERVER, Asked

CANARY = "what a module's error quotes"
NEAR = InstanceId("near")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def irc() -> AsyncIterator[IrcServer]:
    async with run_ngircd() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bridged(
    irc: IrcServer, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Play]:
    """A Trestle connected to the IRC network ``near``."""
    folder = tmp_path_factory.mktemp("bridged")
    server = {"host": "127.0.0.1", "port": irc.port, "tls": False}
    options = {"servers": [server], "own_network": True, "mode": "relay"}
    async with play(await cluster.fresh(), folder, modules={NEAR: ("irc", options)}) as started:
        network = started.app.parts.instances[NEAR]
        await connected(network)
        yield started


async def get(stage: Play, path: str) -> tuple[int, Any]:
    """Ask as the homeserver does; give the status and the JSON."""
    async with (
        asyncio.timeout(PATIENCE),
        stage.homeserver.request(stage.settings, "GET", f"{BASE}/{path}") as response,
    ):
        return response.status, await response.json()


def user(name: str) -> str:
    """The path for asking for a user id."""
    return f"users/{quote(name, safe='')}"


def alias(name: str) -> str:
    """The path for asking for an alias."""
    return f"rooms/{quote(name, safe='')}"


async def test_line_45_what_our_own_ghosts_say_is_not_bridged_again(
    bridged: Play, irc: IrcServer
) -> None:
    room, parts = RoomId("!echoes"), bridged.app.parts
    bridged.homeserver.rooms[room] = {parts.namespaces.bot}
    ghost = parts.namespaces.ghost(NEAR, "dora")
    async with irc_user(irc.port, "watcher") as watcher:
        await watcher.join("#echoes")
        await parts.plumbing.bridge(parts.instances[NEAR], "#echoes", room, UserId(ALICE))
        # What was said there before is not looked for.
        assert room in await parts.bot_rooms.newest()
        ours = [ghost, parts.namespaces.bot, parts.namespaces.bot_of(InstanceId("dice"))]
        echoes = [ask(f"echo {n}", room, sender=sender) for n, sender in enumerate(ours)]
        assert await bridged.put(*echoes, ask("of a person", room), *echoes) == 200
        line = await watcher.expect(" PRIVMSG ")
        assert "of a person" in line
        assert await bridged.put(ask("the last", room)) == 200
        assert "the last" in await watcher.expect(" PRIVMSG ")
    # The watcher's ghost goes too: not in the middle of the next test.
    homeserver = bridged.homeserver
    await homeserver.wait_until(lambda: bool(homeserver.of("POST", "rooms", room, "leave")))


async def test_line_50_the_user_is_there_before_the_answer(bridged: Play) -> None:
    name = f"@_trestle_near_dora:{SERVER}"
    assert await get(bridged, user(name)) == (200, {})
    assert name in bridged.homeserver.users


NOT_OURS = [
    f"@dora:{SERVER}", f"@_trestle_far_dora:{SERVER}", "@_trestle_near_dora:elsewhere",
    f"@_trestle_near_:{SERVER}", f"@_trestle_near_=zz:{SERVER}", f"@_trestle_near_=64ora:{SERVER}",
    f"@_trestle_near_Dora:{SERVER}", f"@_trestle_near_no=20nick:{SERVER}",
    f"@_trestle_near_x=0d=0aquit:{SERVER}", f"@_trestle_anything:{SERVER}", f"@_trestle_:{SERVER}",
    "x", "@", "@:", "@_trestle_near_dora", f"_trestle_near_dora:{SERVER}",
    f"@_trestle_near_{'x' * 300}:{SERVER}",
]  # fmt: skip


async def test_line_54_what_is_not_ours_is_404_and_nothing_is_made(bridged: Play) -> None:
    before = len(bridged.homeserver.asked)
    places = [name.replace("@", "#") for name in NOT_OURS]
    places += [f"#_trestle_near_=23two=20words:{SERVER}", f"#_trestle_near_=23a=2cb:{SERVER}"]
    for path in [*map(user, NOT_OURS), *map(alias, places)]:
        status, answer = await get(bridged, path)
        assert (status, answer["errcode"]) == (404, "M_NOT_FOUND"), path
    made = [asked for asked in bridged.homeserver.asked[before:] if asked.method != "GET"]
    assert [asked.path for asked in made if asked.parts[-1] != "ping"] == []


async def test_line_54_our_bots_are_there(bridged: Play) -> None:
    for name in (f"@trestle:{SERVER}", f"@_trestle_dice:{SERVER}"):
        assert await get(bridged, user(name)) == (200, {})
        assert name in bridged.homeserver.users


async def test_line_55_fifty_questions_at_once_make_one_user(bridged: Play) -> None:
    name = f"@_trestle_near_many:{SERVER}"
    assert await _ask_at_once(bridged, user(name)) == [200] * 50
    assert len([one for one in bridged.homeserver.users if "many" in one]) == 1


async def test_line_55_fifty_questions_at_once_make_one_room(bridged: Play) -> None:
    name = f"#_trestle_near_=23many:{SERVER}"
    assert await _ask_at_once(bridged, alias(name)) == [200] * 50
    made = [a.content["name"] for a in bridged.homeserver.of("POST", "createRoom")]
    assert made.count("#many") == 1
    chats = [door.portal.chat for door in bridged.app.parts.portals.all]
    assert chats.count(RemoteChatId("#many")) == 1


async def _ask_at_once(stage: Play, path: str) -> list[int]:
    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(get(stage, path)) for _ in range(50)]
    return [one.result()[0] for one in asking]


async def test_line_56_a_slow_homeserver_is_not_waited_for_and_the_room_is_found_later(
    bridged: Play, caplog: pytest.LogCaptureFixture
) -> None:
    answered = asyncio.Event()

    def hold(asked: Asked) -> asyncio.Event | None:
        return answered if asked.parts == ("createRoom",) else None

    bridged.homeserver.hold = hold
    path, portals = alias(f"#_trestle_near_=23slow:{SERVER}"), bridged.app.parts.portals
    assert (await get(bridged, path))[0] == 404  # The room is not there before that is answered.
    assert portals.find(NEAR, RemoteChatId("#slow")) is None
    assert "a question is left open: no answer in time" in caplog.messages
    answered.set()
    async with asyncio.timeout(PATIENCE):
        while (await get(bridged, path))[0] != 200:
            pass  # Here it was slow, too; people ask again.
    door = portals.find(NEAR, RemoteChatId("#slow"))
    assert door is not None
    assert bridged.homeserver.aliases[f"#_trestle_near_=23slow:{SERVER}"] == door.portal.room


@pytest.mark.parametrize(
    "path", ["users/@x:hs", "rooms/%23x:hs", "thirdparty/user/irc?nick=x", "thirdparty/user"]
)
async def test_line_56_a_module_that_fails_at_a_question_is_no_500(door: Door, path: str) -> None:
    door.recorder.fault = RuntimeError(CANARY)
    status, answer = await door.ask("GET", f"{BASE}/{path}")
    assert (status, answer) == (200, []) or answer["errcode"] == "M_NOT_FOUND"


async def test_line_57_the_room_and_its_alias_are_there_before_the_answer(bridged: Play) -> None:
    name = f"#_trestle_near_=23new:{SERVER}"
    aliases = bridged.homeserver.aliases
    assert await get(bridged, alias(name)) == (200, {})
    door = bridged.app.parts.portals.find(NEAR, RemoteChatId("#new"))
    assert door is not None
    assert aliases.pop(name) == door.portal.room
    assert await get(bridged, alias(name)) == (200, {})
    assert aliases[name] == door.portal.room


async def test_line_57_an_alias_by_a_template_leads_to_the_room_however_it_is_written(
    bridged: Play,
) -> None:
    aliases, parts = bridged.homeserver.aliases, bridged.app.parts
    asked, canonical = (f"#irc_near_#{name}:{SERVER}" for name in ("Square", "square"))
    assert (await get(bridged, alias(asked)))[0] == 404
    parts.namespaces.know_templates({NEAR: "#irc_{network}_{chat}"})
    try:
        assert await get(bridged, alias(asked)) == (200, {})
        door = parts.portals.find(NEAR, RemoteChatId("#square"))
        assert door is not None
        assert aliases[asked] == aliases[canonical] == door.portal.room
        assert (await get(bridged, alias(f"#irc_near_square:{SERVER}")))[0] == 404
        place = f"thirdparty/location?alias={quote(canonical, safe='')}"
        (found,) = (await get(bridged, place))[1]
        assert found["fields"] == {"network": "near", "channel": "#square"}
        await parts.plumbing.unbridge(door, UserId(ALICE))
        assert not {asked, canonical} & set(aliases)
    finally:
        parts.namespaces.know_templates({})


async def test_line_70_72_73_74_a_network_describes_itself_and_what_is_on_it(
    bridged: Play,
) -> None:
    status, protocol = await get(bridged, "thirdparty/protocol/irc")
    assert status == 200
    assert protocol["user_fields"] == ["network", "nick"]
    assert protocol["location_fields"] == ["network", "channel"]
    assert set(protocol["field_types"]) == {"network", "nick", "channel"}
    for one in protocol["field_types"].values():
        assert set(one) == {"regexp", "placeholder"}
    assert isinstance(protocol["icon"], str)
    assert protocol["instances"] == [
        {"desc": "near", "network_id": "near", "fields": {"network": "near"}}
    ]

    _, (dora,) = await get(bridged, "thirdparty/user/irc?nick=Dora")
    assert dora["userid"] == f"@_trestle_near_dora:{SERVER}"
    _, (room,) = await get(bridged, "thirdparty/location/irc?channel=%23Room")
    assert room["alias"] == f"#_trestle_near_=23room:{SERVER}"
    assert (dora["fields"], room["fields"]) == (
        {"network": "near", "nick": "Dora"}, {"network": "near", "channel": "#Room"}
    )  # fmt: skip
    for place in ("user/irc?nick=Dora", "location/irc?channel=%23Room"):
        assert len((await get(bridged, f"thirdparty/{place}&network=near"))[1]) == 1
        assert await get(bridged, f"thirdparty/{place}&network=far") == (200, [])
    for place, item in (("user?userid", dora), ("location?alias", room)):
        name = item["userid" if item is dora else "alias"]
        status, (found,) = await get(bridged, f"thirdparty/{place}={quote(name, safe='')}")
        assert (status, found["protocol"]) == (200, "irc")
        assert (await get(bridged, f"thirdparty/{place}=x"))[0] == 404


async def test_line_53_ids_are_matched_however_they_are_written(bridged: Play) -> None:
    for name in (f"@_trestle_near_dora:{SERVER}", f"%40_trestle_near_dora%3A{SERVER}"):
        assert (await get(bridged, f"users/{name}"))[0] == 200
    slash = f"@_trestle_near_{quote('=7b', safe='')}:{SERVER}"
    assert (await get(bridged, f"users/{slash}"))[0] == 200
    for name in (f"@_TRESTLE_near_dora:{SERVER}", f"@_trestle_near_a%2Fb:{SERVER}"):
        assert (await get(bridged, f"users/{name}"))[0] == 404


async def test_line_74_an_id_that_holds_half_a_character_is_none_of_ours(bridged: Play) -> None:
    for sigil, ask_ in (("#", alias), ("@", user)):
        name = f"{sigil}_trestle_near_=ed=a0=80:{SERVER}"
        field = "alias" if sigil == "#" else "userid"
        what = "location" if sigil == "#" else "user"
        for path in (ask_(name), f"thirdparty/{what}?{field}={quote(name, safe='')}"):
            status, answer = await get(bridged, path)
            assert (status, answer["errcode"]) == (404, "M_NOT_FOUND")


HOSTILE = ["x%0d%0aQUIT", "%00", "x" * 10_000, ".*", "(a%2B)%2B$", "%ff", "%C3%BC", "%20", ""]


@pytest.mark.parametrize(("what", "field"), [("user", "nick"), ("location", "channel")])
async def test_line_75_no_field_is_too_odd_to_be_looked_up(
    bridged: Play, what: str, field: str
) -> None:
    for value in [*HOSTILE, *(f"%23{value}" for value in HOSTILE)]:
        path = f"thirdparty/{what}/irc?{field}={value}&{value[:99]}=x"
        status, found = await get(bridged, path)
        assert status == 200
        assert len(str(found)) < 2000
        for text in _texts(found):
            assert text.isprintable()
    assert bridged.app.parts.instances[NEAR].state[0].value == "running"


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(text for one in value.values() for text in _texts(one))]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [str(value)]


@pytest.mark.parametrize(("token", "status"), [("", 401), ("Bearer wrong", 403)])
@pytest.mark.parametrize(
    "path",
    [
        "protocol/irc", "user/irc?nick=x", "location/irc?channel=%23c",
        "user?userid=%40_t_known:hs", "location?alias=%23_t_x:hs",
    ],
)  # fmt: skip
@pytest.mark.parametrize("version", ["v1", "unstable"])
async def test_line_76_lookups_want_the_token_too(
    door: Door, path: str, token: str, status: int, version: str
) -> None:
    path = f"/_matrix/app/{version}/thirdparty/{path}"
    assert (await door.ask("GET", path))[0] == 200
    refused, answer = await door.ask("GET", path, token=token)
    assert refused == status
    assert answer["errcode"] == {401: "M_UNAUTHORIZED", 403: "M_FORBIDDEN"}[status]
