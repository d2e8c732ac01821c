"""Invitations are read from sliding sync so that no stranger's server can say who has invited."""

from typing import Any

from bridge.matrix.client import HomeserverClient, path
from bridge.matrix.invited import invitations_of
from bridge.matrix.registration import random_localpart
from bridge.sdk.ids import UserId
from bridge.sdk.secret import Secret
from tests.rigs.scripted_homeserver import Answer, Asked, scripted_homeserver
from tests.rigs.trestle import Town

BOT, ALICE, MALLORY = UserId("@bot:test.example"), "@alice:test.example", "@mallory:bad.example"


def invites(sender: str, **more: Any) -> dict[str, Any]:
    content = {"membership": "invite", **more}
    return {"type": "m.room.member", "state_key": BOT, "sender": sender, "content": content}


NAME = {"type": "m.room.name", "state_key": "", "sender": ALICE, "content": {"name": "a room"}}


async def test_only_an_invitation_with_one_inviter_counts_and_odd_answers_are_passed_over() -> (
    None
):
    asked: list[Asked] = []
    joined = {**invites(ALICE), "content": {"membership": "join"}}
    rooms: dict[str, Any] = {
        "!one": {"bump_stamp": 7, "invite_state": [NAME, invites(ALICE, is_direct=True)]},
        "!forged": {"invite_state": [invites(ALICE), NAME, invites(MALLORY)]},
        "!joined": {"invite_state": [joined]},
        "!none": {"invite_state": "many"},
        "!odd": {"invite_state": {"events": [invites(ALICE)]}},
        "!worse": None,
    }

    def sync(one: Asked) -> Answer | None:
        if one.parts[-1] != "sync":
            return None
        asked.append(one)
        return Answer(content={"pos": "later", "rooms": rooms})

    async with (
        scripted_homeserver() as homeserver,
        HomeserverClient(homeserver.url, Secret("token")) as client,
    ):
        homeserver.rules.append(sync)
        (event,) = await invitations_of(client, BOT, "ONE") or []
        assert event["room_id"] == "!one"
        assert event["sender"] == ALICE
        assert event["unsigned"] == {"invite_room_state": [NAME, invites(ALICE, is_direct=True)]}
        assert [event] == await invitations_of(client, BOT, "ONE")
        rooms["!one"]["bump_stamp"] = 8
        (another,) = await invitations_of(client, BOT, "ONE") or []
        assert another["event_id"] != event["event_id"]
        assert {one.user for one in asked} == {BOT}


async def test_a_homeserver_that_lacks_what_it_takes_is_not_asked() -> None:
    async with (
        scripted_homeserver() as homeserver,
        HomeserverClient(homeserver.url, Secret("token")) as client,
    ):
        refusal = Answer(404, {"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"})
        homeserver.rules.append(lambda one: refusal)
        assert await invitations_of(client, BOT, "ONE") is None
        client.supports_device_id = False
        homeserver.rules.clear()
        assert await invitations_of(client, BOT, "ONE") is None


async def test_a_real_homeserver_tells_what_is_open_each_time_anew(town: Town) -> None:
    # One of ours for whom nobody answers.
    name = f"_trestle_near_quiet{random_localpart()}"
    user = UserId(f"@{name}:test.example")
    alice = await town.person("alice")
    async with HomeserverClient(town.synapse.url, town.settings.appservice.as_token) as client:
        await client.request("POST", path("v3", "register"), content={
            "type": "m.login.application_service", "username": name, "inhibit_login": True,
        })  # fmt: skip
        await client.request("PUT", path("v3", "devices", "ONE"), user=user)

        async def told() -> dict[str, dict[str, Any]]:
            found = await invitations_of(client, user, "ONE")
            assert found is not None
            return {event["room_id"]: event for event in found}

        one = await alice.create_room(invite=[user], is_direct=True)
        assert list(await told()) == [one]
        another = await alice.create_room(invite=[user])
        both = await told()
        assert set(both) == {one, another}
        assert {event["sender"] for event in both.values()} == {alice.id}
        assert len({event["event_id"] for event in both.values()}) == 2
        await client.request("POST", path("v3", "rooms", one, "leave"), user=user)
        assert await told() == {another: both[another]}
