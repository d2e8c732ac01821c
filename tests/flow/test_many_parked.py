"""Of many messages that are refused, a few notices tell."""

from bridge.settings.records import Settings
from tests.flow.rooms import bridge
from tests.rigs.irc_user import irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.trestle import Town, running, wait_until

MANY = 12


async def test_a_few_notices_tell_of_many_and_the_list_has_them_all(
    town: Town,
    irc: IrcServer,
    settings: Settings,
) -> None:
    async with irc_user(irc.port, "chief") as chief:
        await chief.join("#quiet")
        chief.say("MODE #quiet +m")
        await chief.sync()
        async with running(settings) as app:
            alice = await town.person("alice")
            room = await bridge(alice, "#quiet")
            for number in range(MANY):
                await alice.say(room, f"unheard {number}")

            def counted() -> float | None:
                return app.parts.telemetry.registry.get_sample_value(
                    "trestle_parked_items", {"reason": "refused"}
                )

            await wait_until(lambda: counted() == MANY)
            await alice.say(room, "!trestle parked")
            listed = await alice.wait_for_text(room, "refused, ")
            assert len(listed["content"]["body"].splitlines()) == MANY
            told = [e for e in alice.heard(room) if "did not reach" in str(e["content"]["body"])]
            assert len(told) == 4
            assert "you are not told of each" in told[-1]["content"]["body"]
            first, *others = await app.parts.aside.all()
            await app.parts.aside.drop(first.name)
            assert counted() == MANY - 1
            chief.say("MODE #quiet -m")
            await chief.sync()
            for one in others:
                await app.parts.aside.retry(one.name)
            assert counted() == 0
