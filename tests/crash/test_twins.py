"""Two ghosts, the same remote id, the same room, the same second."""

from pathlib import Path

from bridge.demo.matrix_user import MatrixUser
from bridge.settings.records import DatabaseSettings
from tests.flow.rooms import bridge
from tests.rigs.program import trestle_program
from tests.rigs.scale import scaled
from tests.rigs.sink import TWINS, install_sink
from tests.rigs.trestle import Town, make_modules

GHOSTS = [f"@_trestle_near_{name.lower()}:test.example" for name in TWINS]


async def test_of_two_who_say_the_same_under_the_same_id_both_are_heard(
    town: Town, folder: Path, database_settings: DatabaseSettings
) -> None:
    """Synapse would take the second for the first again, did both use one transaction id."""
    modules = make_modules({"near": ("sink", {"ledger": str(folder / "ledger")})})
    settings = town.settings_for(folder, database_settings, modules=modules)
    texts = [f"twins {number}" for number in range(max(3, scaled(100)))]
    async with trestle_program(settings, folder, env={"PYTHONPATH": install_sink(folder)}):
        alice = await town.person("alice")
        room = await bridge(alice, "lobby")
        for text in texts:
            await alice.say(room, text)
        said = [f"both of us: {text}" for text in texts]
        await alice.wait_until(
            lambda: all(len(heard(alice, room, g)) >= len(said) for g in GHOSTS)
        )
        held = await alice.messages(room)
    for ghost in GHOSTS:
        spoken = [event["content"]["body"] for event in held if event["sender"] == ghost
                  and event["type"] == "m.room.message"]  # fmt: skip
        assert spoken == said


def heard(person: MatrixUser, room: str, sender: str) -> list[str]:
    """What the person has read of somebody."""
    return [event["content"]["body"] for event in person.heard(room, sender)]
