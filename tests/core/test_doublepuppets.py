"""By what somebody lets us speak: no more is kept than that takes."""

from pathlib import Path

from bridge.sdk.ids import UserId
from bridge.sdk.secret import Secret
from bridge.settings.records import DatabaseSettings
from tests.conformance.stage import ALICE, play
from tests.rigs.scripted_homeserver import Answer, Asked


async def test_a_token_is_not_kept_once_the_registration_lets_us_speak_for_its_owner(
    database_settings: DatabaseSettings, folder: Path
) -> None:
    def know(asked: Asked) -> Answer | None:
        is_hers = asked.token.endswith("a-good-token")
        return Answer(content={"user_id": ALICE}) if is_hers else None

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
