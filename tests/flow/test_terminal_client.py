"""Somebody sits in the channel at a real terminal client, and sees what people expect."""

from pathlib import Path

from bridge.sdk.ids import InstanceId, UserId
from bridge.settings.records import Settings
from tests.flow.rooms import bridge
from tests.rigs.ircd import IrcServer
from tests.rigs.terminal import on_terminal
from tests.rigs.trestle import Town, running


async def test_irssi_shows_people_from_matrix_as_people(
    town: Town,
    folder: Path,
    irc: IrcServer,
    settings: Settings,
) -> None:
    irssi = ["irssi", "--home={folder}", "--connect=127.0.0.1", f"--port={irc.port}",
             "--nick=carl"]  # fmt: skip
    async with running(settings) as app, on_terminal(irssi) as screen:
        alice = await town.person("alice")
        await alice.call("PUT", f"v3/profile/{alice.id}/displayname", {"displayname": "Ally"})
        room = await bridge(alice, "#screen")
        await screen.see_text("Welcome")
        await screen.type("/join #screen")
        await screen.see_text("Join to #screen")

        await alice.say(room, "good morning, café", "<b>good</b> morning, café")
        await alice.say(room, "waves", msgtype="m.emote")
        shown = await screen.see_text("good morning, café", "waves")
        assert "Ally [" in shown
        assert "has joined #screen" in shown
        assert "Ally> good morning, café" in shown
        assert "* Ally waves" in shown
        assert "\x1b[1mgood" in await screen.colours()
        await screen.type("/whois Ally")
        await screen.type("/window goto 1")
        await screen.see_text(f": {alice.id}")  # Whom to speak to about it.
        await screen.type("/window goto 2")

        await screen.type("hello from a terminal")
        await alice.wait_for_text(room, "hello from a terminal")
        await screen.type("/me nods")
        nod = await alice.wait_for_text(room, "nods")
        assert nod["content"]["msgtype"] == "m.emote"

        await alice.say(room, "!trestle topic trees and benches")
        await screen.see_text("trees and benches")
        await alice.say(room, "!trestle near names")
        await alice.wait_for_text(room, "3 in #screen:\n@trestle\nAlly\ncarl")
        await alice.say(room, "!trestle near nick Alison")
        await screen.see_text("Ally is now known as Alison")
        await alice.wait_for_text(room, "You are Alison from now on.")
        session = app.parts.instances[InstanceId("near")].find_session(UserId(alice.id))
        assert session is not None
        kept = await app.parts.vault.secrets_of(session.row.id)  # For the next start.
        assert [one.reveal() for one in kept.values()] == ["Alison"]
        await alice.say(room, "!trestle near kick Alison sorry")
        await screen.see_text("Alison was kicked from #screen")
        # The command came from her alone: nothing of what she told the bot is shown.
        assert "!trestle" not in await screen.see_text("sorry")
