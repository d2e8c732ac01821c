"""Whose account speaks in a room, how a relay names people, and what people are told of it."""

from pathlib import Path

from bridge.app import App
from bridge.demo.matrix_user import MatrixUser
from bridge.sdk.ids import UserId
from bridge.settings.records import DatabaseSettings
from tests.flow.chats import order_among
from tests.flow.networks import NEAR, irc_module
from tests.flow.rooms import bridge
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.trestle import Town, make_modules, running, wait_until


async def link(app: App, person: MatrixUser, nick: str) -> None:
    """Have somebody link an account."""
    logins, instance = app.parts.logins, app.parts.instances[NEAR]
    await wait_until(lambda: instance.is_open)
    flow = logins.find_flow(instance, "server_password")
    one = await logins.begin(UserId(person.id), instance, flow)
    await one.submit({"server_password": "any", "nick": nick})
    assert one.login is not None, one.trouble


async def until_relay_is_back(carl: IrcUser, before: int) -> None:
    """Return when the relay came in after so many lines: what is said earlier it does not hear."""

    def is_return(line: str) -> bool:
        return line.startswith(":trestle!") and " JOIN " in line

    if not any(map(is_return, carl.heard[before:])):
        while not is_return(await carl.expect(":trestle!")):
            pass


async def choose(person: MatrixUser, room: str, words: str, answer: str) -> None:
    """Say what is chosen, and wait for what the bot makes of it."""
    await order_among(person, room, f"!trestle set {words}", answer)


async def _end_loans(
    app: App, alice: MatrixUser, bea: MatrixUser, room: str, carl: IrcUser
) -> None:
    """A login is lent for as long as its owner wishes to be bridged, and is in the room."""

    async def lend() -> None:
        await choose(alice, room, "relay mine", "relay is mine for")
        await wait_until(lambda: door.portal.relay is not None)

    (door,) = app.parts.portals.all
    over = f"The login of {alice.id} speaks for others in #voice on near no more: "
    await alice.say(room, "!trestle optout everywhere")
    await bea.wait_for_text(room, over + "its owner does not want to be bridged")
    await carl.expect(":lent!", "PART #voice")
    await bea.say(room, "after the optout")
    assert (await carl.expect("> after the optout")).startswith(":trestle!")
    await alice.say(room, "!trestle optin everywhere")
    await bea.wait_for_text(room, "What you say is bridged again")
    await lend()
    await bea.say(room, "lent again")
    assert (await carl.expect("> lent again")).startswith(":lent!")
    await alice.leave(room)
    await bea.wait_for_text(room, over + "they have left this room")
    await bea.say(room, "after the leave")
    assert (await carl.expect("> after the leave")).startswith(":trestle!")
    await alice.join(room)
    await lend()


async def test_a_room_chooses_whose_account_speaks_and_how_the_relay_names_people(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    alice, bea = await town.person("alice"), await town.person("bea")
    async with run_ngircd("any") as irc, irc_user(irc.port, "carl", password="any") as carl:
        await carl.join("#voice")
        module = irc_module(irc, relays=["Carl"], password="any")
        settings = town.settings_for(folder, database_settings, modules=make_modules(module))
        async with running(settings) as app:
            room = await bridge(alice, "#voice")
            await alice.wait_for_text(
                room, "each of you is given a connection there, and told before"
            )
            await bea.join(room)
            await bea.say(room, "by a puppet")
            nick = (await carl.expect(":by a puppet")).removeprefix(":").partition("!")[0]
            told = await alice.wait_for_text(room, f"a connection of your own as {nick}; here to")
            assert told["content"]["body"].startswith(bea.id)
            await choose(bea, room, "puppets relay", "you need the power")
            await choose(alice, room, "puppets relay", "puppets is relay for #voice on near now")
            await carl.expect(f":{nick}!", "PART #voice")
            await bea.say(room, "by the relay")
            assert ":trestle!" in (line := await carl.expect("by the relay"))
            assert f":<{nick}> by the relay" in line
            await choose(alice, room, "relay_name {nobody}", "only {name}, {user}")
            await choose(alice, room, "relay_name {name} ({server})", "relay_name is {name} (")
            await bea.say(room, "with the server")
            await carl.expect(f":<{nick} (test.example)> with the server")
            profile = {"id": "cat", "displayname": "Cat", "has_fallback": True}
            await bea.send(room, {
                "msgtype": "m.text", "body": "Cat: meow", "format": "org.matrix.custom.html",
                "formatted_body": "<p><strong data-mx-profile-fallback>Cat: </strong>meow</p>",
                "com.beeper.per_message_profile": profile,
            })  # fmt: skip
            await carl.expect(":<Cat (test.example)> meow")
            await choose(alice, room, "relay mine", "you have no login on near")
            await link(app, alice, "lent")
            await choose(alice, room, "relay mine", "relay is mine for")
            await bea.say(room, "by what was lent")
            assert (await carl.expect("(test.example)> by what was lent")).startswith(":lent!")
            await alice.say(room, "by my own")
            assert (await carl.expect(":by my own")).startswith(":lent!")
        before = len(carl.heard)
        async with running(settings) as app:
            await bea.say(room, "after a restart")
            assert (await carl.expect("(test.example)> after a restart")).startswith(":lent!")
            await until_relay_is_back(carl, before)
            # What another relay says in the channel is shown as said by whom it names.
            carl.say("PRIVMSG #voice :\x02<dora>\x02 hello <you>")
            event = await alice.wait_for_text(room, "dora: hello <you>")
            said = event["content"]["com.beeper.per_message_profile"]
            assert said == {"id": "dora", "displayname": "dora", "has_fallback": True}
            await _end_loans(app, alice, bea, room, carl)
            (session,) = app.parts.logins.of(UserId(alice.id))
            await app.parts.logins.log_out(UserId(alice.id), session)
            await bea.say(room, "by the relay again")
            assert (await carl.expect("> by the relay again")).startswith(":trestle!")
            await choose(alice, room, "puppets default", "puppets is default for")
            await bea.say(room, "by a puppet again")
            assert (await carl.expect(":by a puppet again")).startswith(f":{nick}!")
