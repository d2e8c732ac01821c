"""What the network refuses after it was written, its sender is told; nobody else's is lost."""

from pathlib import Path

from bridge.settings.records import DatabaseSettings
from tests.flow.networks import irc_module
from tests.flow.rooms import bridge
from tests.rigs.irc_user import irc_user
from tests.rigs.ngircd import run_ngircd
from tests.rigs.trestle import Town, make_modules, running


async def test_whoever_may_not_speak_is_told_and_whoever_may_is_heard(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with run_ngircd() as irc, irc_user(irc.port, "chief") as chief:
        await chief.join("#quiet")
        settings = town.settings_for(
            folder, database_settings, modules=make_modules(irc_module(irc))
        )
        async with running(settings):
            alice, bea = await town.person("alice"), await town.person("bea")
            room = await bridge(alice, "#quiet")
            await bea.join(room)
            await alice.say(room, "hello from alice")
            nick = (await chief.expect("hello from alice")).removeprefix(":").partition("!")[0]
            chief.say("MODE #quiet +m", f"MODE #quiet +v {nick}")
            await chief.sync()
            refused = await bea.say(room, "bea has no voice")
            await alice.say(room, "alice has one")
            await chief.expect("alice has one")
            notice = await bea.wait_for_text(room, "did not reach #quiet on near")
    assert "does not let this user speak" in notice["content"]["body"]
    assert notice["content"]["m.relates_to"]["m.in_reply_to"]["event_id"] == refused
    assert not any("bea has no voice" in line for line in chief.heard)
