"""The tokens are changed as rotate-tokens.md says, while people go on talking."""

from dataclasses import replace
from pathlib import Path

from bridge.demo.matrix_user import MatrixUser
from bridge.matrix.registration import random_token, registration
from bridge.running.roster import namespaces_of
from bridge.sdk.secret import Secret
from bridge.settings.records import DatabaseSettings, Settings
from tests.rigs.program import trestle_program
from tests.rigs.trestle import Town, make_modules, run_town
from tests.rigs.yaml import dump

DICE = "@_trestle_dice:test.example"


def with_new_tokens(town: Town, settings: Settings) -> Settings:
    """Two new tokens, of which the homeserver reads at its next start; the old one is good too."""
    old = settings.appservice
    tokens = (Secret(random_token()), *old.hs_tokens)
    new = replace(old, as_token=Secret(random_token()), hs_tokens=tokens)
    changed = replace(settings, appservice=new)
    file = town.synapse.folder / "registration.yaml"
    assert file.exists()
    file.write_text(dump(registration(new, namespaces_of(changed))))
    return changed


def without_the_old(settings: Settings) -> Settings:
    """The settings, once all is well."""
    appservice = settings.appservice
    return replace(settings, appservice=replace(appservice, hs_tokens=appservice.hs_tokens[:1]))


def heard(person: MatrixUser, room: str) -> list[str]:
    return [event["content"]["body"] for event in person.heard(room, DICE)]


async def test_nothing_is_lost_while_the_tokens_are_changed(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    async with run_town() as town:
        settings = town.settings_for(
            folder, database_settings, modules=make_modules({"dice": ("dice", {})})
        )
        alice = await town.person("alice")
        room = await alice.create_room(preset="public_chat", invite=[DICE])

        async def ask(word: str) -> None:
            await alice.say(room, f"!choose {word}, {word}")

        async with trestle_program(settings, folder) as trestle:
            await alice.wait_until_joined(room, DICE)
            await ask("before")
            await alice.wait_for_text(room, "before")
            changed = with_new_tokens(town, settings)
            trestle.configure(changed, {})
            await town.synapse.stop()
            await town.synapse.start()
            # It knows the new ones, and we do not yet.
            await ask("between")
            await trestle.program.stop(limit=25)
            await ask("meanwhile")
            await trestle.start()
            await ask("after")
            await alice.wait_until(lambda: "after" in heard(alice, room))
            trestle.configure(without_the_old(changed), {})
            await trestle.program.stop(limit=25)
            await trestle.start()
            await ask("at last")
            await alice.wait_until(lambda: "at last" in heard(alice, room))
    assert heard(alice, room) == ["before", "between", "meanwhile", "after", "at last"]
