"""Whoever meets a bot in an encrypted room is led to a chat that it can read."""

from pathlib import Path

from bridge.settings import DatabaseSettings
from tests.rigs.trestle import Town, running

ENCRYPTION = {
    "type": "m.room.encryption",
    "state_key": "",
    "content": {"algorithm": "m.megolm.v1.aes-sha2"},
}


async def test_an_encrypted_direct_chat_ends_in_a_working_help(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    async with running(town.settings_for(folder, database_settings)):
        alice = await town.person("alice")
        secret = await alice.create_room(
            preset="trusted_private_chat",
            is_direct=True,
            invite=["@trestle:test.example"],
            initial_state=[ENCRYPTION],
        )
        await alice.wait_until(lambda: bool(alice.invitations))
        (open_chat,) = alice.invitations
        await alice.join(open_chat)
        await alice.wait_for_text(open_chat, "not encrypted")
        await alice.say(open_chat, "help")
        await alice.wait_for_text(open_chat, "I bridge rooms")
        await alice.send(secret, {"algorithm": "m.megolm.v1.aes-sha2"}, "m.room.encrypted")
        await alice.say(open_chat, "ping")
        await alice.wait_for_text(open_chat, "I am here")
        held = await alice.messages(secret)
    assert not alice.invitations
    said = [e for e in held if e["sender"] == "@trestle:test.example"]
    assert {e["type"] for e in said} <= {"m.room.member"}
