"""By what somebody lets us speak: no more is kept than that takes."""

import asyncio
from pathlib import Path

from bridge.demo.matrix_user import PATIENCE
from bridge.sdk.ids import UserId
from bridge.sdk.secret import Secret
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ALICE, play
from tests.rigs.cluster import until_one_waits
from tests.rigs.owner import owner_of
from tests.rigs.scripted_homeserver import Answer, Asked
from tests.rigs.trestle import wait_until


def know(asked: Asked) -> Answer | None:
    """Whose token it is: a rule for the homeserver."""
    is_hers = asked.token.endswith("a-good-token")
    return Answer(content={"user_id": ALICE}) if is_hers else None


async def test_who_takes_their_leave_back_while_it_is_looked_up_is_not_spoken_for(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder, rules=[know]) as stage:
        parts, alice = stage.app.parts, UserId(ALICE)
        await parts.double_puppets.take_token(alice, Secret("a-good-token"))
        parts.double_puppets._leaves.clear()  # As after a restart.
        owner = await owner_of(parts.database)
        try:
            async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
                async with owner.transaction():
                    await owner.execute("LOCK TABLE vault")
                    asked = group.create_task(parts.double_puppets.leave_of(alice))
                    await until_one_waits(owner)
                    group.create_task(parts.double_puppets.switch_off(alice))
                    await wait_until(lambda: alice not in parts.double_puppets._ways)
                assert await asked is None
        finally:
            await owner.close()
        assert not parts.double_puppets._leaves


async def test_a_token_is_not_kept_once_the_registration_lets_us_speak_for_its_owner(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    async with play(database_settings, folder, rules=[know]) as stage:
        doubles, vault, alice = (
            stage.app.parts.double_puppets, stage.app.parts.vault, UserId(ALICE),
        )  # fmt: skip
        await doubles.take_token(alice, Secret("a-good-token"))
        assert await vault.records_of(alice)
        doubles._note_refused(alice, "the session has ended")
        await doubles.switch_on(alice)
        assert not await vault.records_of(alice)
        assert await doubles.leave_of(alice) is not None
