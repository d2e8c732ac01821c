"""People whom the settings do not let speak: nothing of them crosses, and nobody is nagged."""

from functools import partial
from pathlib import Path

from bridge.demo.matrix_user import MatrixUser
from bridge.model import Permission
from bridge.sdk.ids import UserId
from bridge.settings.records import DatabaseSettings, WebSettings
from tests.flow.networks import irc_module
from tests.flow.rooms import BOT, bridge
from tests.rigs.irc_user import irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.trestle import Town, make_modules, running

WHOM = "Whom to turn to: the town hall"


def notices(person: MatrixUser, room: str) -> list[str]:
    """What was said in the room to those who are not let speak."""
    said = [str(event["content"].get("body")) for event in person.heard(room)]
    return [text for text in said if "do not let" in text or "did not reach" in text]


def has_told(person: MatrixUser, room: str, times: int) -> bool:
    return len(notices(person, room)) == times


async def test_who_is_not_let_speak_is_told_once_whom_to_ask_and_nothing_is_parked(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    alice, bea, cora = [await town.person(name) for name in ("alice", "bea", "cora")]
    async with run_ngircd() as irc, irc_user(irc.port, "carl") as carl:
        await carl.join("#own")
        settings = town.settings_for(
            folder, database_settings, modules=make_modules(irc_module(irc)),
            permissions=dict.fromkeys((bea.id, cora.id), Permission.NONE),
            web=WebSettings(contact="the town hall"),
        )  # fmt: skip
        async with running(settings) as app:
            room = await bridge(alice, "#own")
            await bea.join(room)
            await cora.join(room)
            first = await bea.say(room, "between us")
            for number in range(6):
                await bea.say(room, f"between us {number}")
            await bea.send(room, {
                "m.relates_to": {"rel_type": "m.annotation", "event_id": first, "key": "x"}
            }, "m.reaction")  # fmt: skip
            await alice.say(room, "alice is heard")
            await carl.expect(":alice is heard")
            await alice.say(room, "!trestle ping")
            await alice.wait_for_text(room, "I am here.")
            (told,) = notices(alice, room)
            assert bea.id in told
            assert f"speak on near, which those who run {BOT} can change" in told
            assert WHOM in told
            assert await app.parts.items.count_parked() == {}
        # Nor after a restart; but somebody else is.
        async with running(settings) as app:
            await bea.say(room, "between us")
            await cora.say(room, "!trestle help")
            await cora.say(room, "between us")
            await alice.say(room, "alice is heard again")
            await carl.expect(":alice is heard again")
            await alice.wait_for_text(room, f"let {cora.id} speak")
            assert len(notices(alice, room)) == 2
            assert await app.parts.items.count_parked() == {}
    assert not any("between us" in line for line in carl.heard)


async def test_who_is_not_let_speak_is_told_anew_once_what_they_were_told_was_erased(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    alice, bea = [await town.person(name) for name in ("alice", "bea")]
    who = UserId(bea.id)
    async with run_ngircd() as irc:
        settings = town.settings_for(
            folder, database_settings, modules=make_modules(irc_module(irc)),
            permissions={who: Permission.NONE},
        )  # fmt: skip
        async with running(settings) as app:
            room = await bridge(alice, "#own")
            await bea.join(room)
            for number in (1, 2):
                await bea.say(room, "between us")
                await alice.wait_until(partial(has_told, alice, room, number))
                await app.parts.erasure.begin(who, who)
                await app.parts.erasure.finish(who, who)


async def test_who_is_not_let_speak_may_say_no_all_the_same_and_hears_nothing_of_it_then(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    alice, bea = [await town.person(name) for name in ("alice", "bea")]
    async with run_ngircd() as irc, irc_user(irc.port, "carl") as carl:
        await carl.join("#own")
        settings = town.settings_for(
            folder,
            database_settings,
            modules=make_modules(irc_module(irc)),
            permissions={bea.id: Permission.NONE},
        )
        async with running(settings) as app:
            room = await bridge(alice, "#own")
            await bea.join(room)
            await bea.say(room, "!trestle optout")
            await bea.wait_for_text(room, "Nothing that you say is bridged here any more")
            (door,) = app.parts.portals.all
            assert app.parts.optouts.cover(UserId(bea.id), door.portal.id)
            await bea.say(room, "between us")
            await alice.say(room, "alice is heard")
            await carl.expect(":alice is heard")
            # What the room was told of it would come before this.
            await alice.say(room, "!trestle help")
            await alice.wait_for_text(room, "I bridge rooms")
            assert notices(alice, room) == []
            # There is nothing to take back: they would not be heard.
            await bea.say(room, "!trestle optin")
            await bea.wait_for_text(room, "do not let you do that")
            assert app.parts.optouts.cover(UserId(bea.id), door.portal.id)
            # Of all the rest nothing is heard.
            await bea.say(room, "!trestle logins")
            await alice.say(room, "!trestle ping")
            await alice.wait_for_text(room, "I am here.")
            assert "no logins" not in str(alice.heard(room))
