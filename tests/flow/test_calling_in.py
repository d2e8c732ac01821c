"""Who is invited into a bridged room as a ghost is invited into the channel as a person."""

from bridge.app import App
from bridge.demo.matrix_user import Event, MatrixUser
from tests.flow.networks import NEAR, connected, one_after_another
from tests.flow.rooms import bridge, ghost, state, wait_for_member
from tests.rigs.irc_user import irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.trestle import Town

pytestmark = one_after_another

PASSED_ON = "They are invited into #club on near now"


async def answer(person: MatrixUser, room: str, nick: str) -> str:
    """Invite somebody of the network; give the reason with which that ends."""
    whom = ghost(nick)

    def ends() -> list[Event]:
        told = [
            one for one in person.events
            if one["room_id"] == room and one["type"] == "m.room.member"
            and one["state_key"] == whom
        ]  # fmt: skip
        asked = [at for at, one in enumerate(told) if one["sender"] == person.id]
        return [one for one in told[asked[-1] :] if one["sender"] == whom] if asked else []

    person.events.clear()
    await person.invite(room, whom)
    await person.wait_until(lambda: bool(ends()))
    return str(ends()[-1]["content"]["reason"])


async def let_all_invite(person: MatrixUser, room: str) -> None:
    levels = await state(person, room, "m.room.power_levels")
    await person.set_state(room, "m.room.power_levels", {**levels, "invite": 0})


async def test_whoever_is_invited_into_the_room_is_invited_into_the_channel(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice, bea = await town.person("alice"), await town.person("bea")
    nick = bea.id[1:].partition(":")[0]
    async with irc_user(irc.port, "olga") as olga, irc_user(irc.port, "Carl") as carl:
        await olga.join("#club")
        room = await bridge(alice, "#club")
        await let_all_invite(alice, room)
        await bea.join(room)
        assert "you have no connection there just now" in await answer(bea, room, "carl")
        await bea.say(room, "hello")
        await olga.expect("PRIVMSG #club", "hello")
        olga.say(f"MODE #club +o {nick}")  # Some servers let operators alone invite.
        await olga.expect("MODE #club +o", nick)
        assert await answer(bea, room, "carl") == PASSED_ON
        await carl.expect(f":{nick}!", "INVITE", "#club")
        carl.say("JOIN #club", "PRIVMSG #club :here I am")
        await wait_for_member(alice, room, ghost("carl"), "join")
        assert "nemo" in await answer(bea, room, "nemo")
        assert "trestle is this bridge itself" in await answer(bea, room, "trestle")


async def test_the_channel_decides_who_may_invite_and_the_relay_serves_who_runs_the_room(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice, bea = await town.person("alice"), await town.person("bea")
    async with irc_user(irc.port, "olga") as olga, irc_user(irc.port, "dora") as dora:
        await olga.join("#club")
        await connected(app.parts.instances[NEAR])  # Else there is nobody to invite.
        olga.say("MODE #club +i", "INVITE trestle #club")
        await olga.expect(" 341 ", "trestle")
        room = await bridge(alice, "#club")
        await let_all_invite(alice, room)
        await bea.join(room)
        assert "operator" in await answer(alice, room, "dora")
        olga.say("MODE #club +o trestle")
        await olga.expect("MODE #club +o", "trestle")
        assert await answer(alice, room, "dora") == PASSED_ON
        await dora.expect(":trestle!", "INVITE dora", "#club")
        # Who has no power in the room does not get the relay's in the channel.
        assert "you have no connection there just now" in await answer(bea, room, "dora")
        dora.say("PRIVMSG trestle :optout")
        await dora.expect("NOTICE dora")
        assert "they want no part in the bridge" in await answer(alice, room, "dora")


async def test_whoever_is_in_the_channel_already_comes_into_the_room(
    town: Town, irc: IrcServer, app: App
) -> None:
    alice = await town.person("alice")
    async with irc_user(irc.port, "Dora") as dora:
        await dora.join("#lazy")
        room = await bridge(alice, "#lazy")
        await alice.say(room, "!trestle set members none")
        await alice.wait_for_text(room, "members is none")
        await wait_for_member(alice, room, ghost("dora"), "leave")
        assert "nobody is shown here" in await answer(alice, room, "dora")
        await alice.say(room, "!trestle set members speakers")
        await alice.wait_for_text(room, "members is speakers")
        alice.events.clear()
        await alice.invite(room, ghost("dora"))
        came = await wait_for_member(alice, room, ghost("dora"), "join")
        assert came["content"]["displayname"] == "Dora"
        dora.say("PART #lazy")
        alice.events.clear()
        await wait_for_member(alice, room, ghost("dora"), "leave")
