"""Lines of the conformance list that the receiver decides alone, by their numbers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conformance.conftest import Door, event
from tests.conformance.wire import BASE
from tests.rigs.scale import examples

EMPTY: dict[str, Any] = {"events": []}


async def test_line_01_an_empty_transaction_is_taken(door: Door) -> None:
    assert await door.put(EMPTY) == (200, {})


async def test_line_02_no_token_is_401(door: Door) -> None:
    status, answer = await door.put(EMPTY, token="")
    assert (status, answer["errcode"]) == (401, "M_UNAUTHORIZED")


async def test_line_03_a_wrong_bearer_is_403_forbidden(door: Door) -> None:
    status, answer = await door.put(EMPTY, token="Bearer wrong")
    assert (status, answer["errcode"]) == (403, "M_FORBIDDEN")


async def test_line_04_the_scheme_is_not_case_sensitive(door: Door) -> None:
    assert (await door.put(EMPTY, token=door.bearer.replace("Bearer", "bearer")))[0] == 200


async def test_line_05_a_token_without_a_scheme_is_401(door: Door) -> None:
    assert (await door.put(EMPTY, token=door.bearer.removeprefix("Bearer ")))[0] == 401


async def test_line_06_a_query_token_alone_is_401(door: Door) -> None:
    token = door.bearer.removeprefix("Bearer ")
    assert (await door.put(EMPTY, f"1?access_token={token}", token=""))[0] == 401


async def test_line_07_a_right_query_does_not_mend_a_wrong_header(door: Door) -> None:
    token = door.bearer.removeprefix("Bearer ")
    assert (await door.put(EMPTY, f"1?access_token={token}", token="Bearer x"))[0] == 403


async def test_line_08_a_wrong_query_spoils_a_right_header(door: Door) -> None:
    assert (await door.put(EMPTY, "1?access_token=wrong"))[0] == 403


@pytest.mark.parametrize("token", ["Bearer ", "Bearer " + "x" * 8192, "Bearer t\u00f6ken"])
async def test_line_09_odd_tokens_are_never_a_500(door: Door, token: str) -> None:
    assert (await door.put(EMPTY, token=token))[0] in {400, 401, 403}


async def test_line_20_events_are_handed_on_in_order(door: Door) -> None:
    assert (await door.put({"events": [event(n) for n in range(3)]}))[0] == 200
    assert [e["event_id"] for e in door.recorder.taken[0].events] == ["$e0", "$e1", "$e2"]


async def test_line_27_a_database_that_is_away_is_503(door: Door) -> None:
    door.recorder.away = True
    assert (await door.put(EMPTY))[0] == 503


@pytest.mark.parametrize("body", [{}, {"events": None}, {"events": {}}, [], "x", None])
async def test_line_28_32_33_what_is_no_transaction_is_bad_json(door: Door, body: Any) -> None:
    status, answer = await door.put(b"null" if body is None else body)
    assert (status, answer["errcode"]) == (400, "M_BAD_JSON")


@pytest.mark.parametrize("body", [b"{", b"", b'{"events": "\xff"}'])
async def test_line_30_31_what_is_not_json_is_said_to_be_so(door: Door, body: bytes) -> None:
    status, answer = await door.put(body)
    assert (status, answer["errcode"]) == (400, "M_NOT_JSON")


@pytest.mark.parametrize(
    "body",
    [
        b'{"events":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"events":[' + b"9" * 5000 + b"]}",
        b'{"events":[NaN]}',
    ],
    ids=["depth", "digits", "nan"],
)
async def test_line_35_monstrous_json_is_400(door: Door, body: bytes) -> None:
    assert (await door.put(body))[0] == 400


@pytest.mark.parametrize("coding", ["gzip", "br", "odd"])
async def test_line_37_compressed_bodies_are_415(door: Door, coding: str) -> None:
    status, _ = await door.put(b"{}", headers={"Content-Encoding": coding})
    assert status == 415


async def test_line_44_unknown_keys_are_ignored(door: Door) -> None:
    assert (await door.put({"events": [], "novelty": {"x": 1}}))[0] == 200


async def test_line_50_a_known_user_is_200(door: Door) -> None:
    assert await door.ask("GET", "/_matrix/app/v1/users/%40_t_known%3Ahs") == (200, {})


async def test_line_51_an_unknown_user_is_404(door: Door) -> None:
    status, answer = await door.ask("GET", "/_matrix/app/v1/users/%40_t_nobody%3Ahs")
    assert (status, answer["errcode"]) == (404, "M_NOT_FOUND")


async def test_line_52_a_query_without_a_token_is_401(door: Door) -> None:
    status, answer = await door.ask("GET", "/_matrix/app/v1/users/%40_t_known%3Ahs", token="")
    assert (status, answer["errcode"]) == (401, "M_UNAUTHORIZED")


@pytest.mark.parametrize("user", ["@_t_known:hs", "%40_t_a%2Fb%3Ahs"])
async def test_line_53_raw_and_encoded_ids_are_matched(door: Door, user: str) -> None:
    assert (await door.ask("GET", f"/_matrix/app/v1/users/{user}"))[0] == 200


async def test_line_57_58_aliases_are_answered(door: Door) -> None:
    assert (await door.ask("GET", "/_matrix/app/v1/rooms/%23_t_x%3Ahs"))[0] == 200
    status, answer = await door.ask("GET", "/_matrix/app/v1/rooms/%23_t_y%3Ahs")
    assert (status, answer["errcode"]) == (404, "M_NOT_FOUND")


@pytest.mark.parametrize("body", [{"transaction_id": "m"}, {}, {"transaction_id": None}])
async def test_line_60_61_a_ping_is_answered(door: Door, body: Any) -> None:
    assert await door.ask("POST", "/_matrix/app/v1/ping", body) == (200, {})


async def test_line_62_a_ping_with_a_wrong_token_is_403(door: Door) -> None:
    assert (await door.ask("POST", "/_matrix/app/v1/ping", {}, token="Bearer x"))[0] == 403


async def test_line_63_a_ping_without_a_body_is_400(door: Door) -> None:
    assert (await door.ask("POST", "/_matrix/app/v1/ping"))[0] == 400
    assert (await door.ask("POST", "/_matrix/app/v1/ping", []))[1]["errcode"] == "M_BAD_JSON"


async def test_line_70_71_protocols_are_described(door: Door) -> None:
    status, answer = await door.ask("GET", "/_matrix/app/v1/thirdparty/protocol/irc")
    assert status == 200
    assert isinstance(answer["instances"], list)
    assert (await door.ask("GET", "/_matrix/app/v1/thirdparty/protocol/x"))[0] == 404


@pytest.mark.parametrize("base", ["/_matrix/app/v1", "/_matrix/app/unstable"])
async def test_line_72_73_81_lookups_give_lists(door: Door, base: str) -> None:
    status, users = await door.ask("GET", f"{base}/thirdparty/user/irc?nick=x%0d%0a")
    assert (status, set(users[0])) == (200, {"userid", "protocol", "fields"})
    status, places = await door.ask("GET", f"{base}/thirdparty/location/irc?channel=%23c")
    assert (status, set(places[0])) == (200, {"alias", "protocol", "fields"})


async def test_line_74_reverse_lookups_are_lists_or_404(door: Door) -> None:
    base = "/_matrix/app/v1/thirdparty"
    assert (await door.ask("GET", f"{base}/user?userid=%40_t_known:hs"))[0] == 200
    assert (await door.ask("GET", f"{base}/location?alias=%23none:hs"))[0] == 404


async def test_line_75_what_is_no_text_is_looked_up_like_any_other(door: Door) -> None:
    for value in ("%ff", "%ed%a0%80"):
        path = f"{BASE}/thirdparty/user/irc?nick={value}"
        status, (found,) = await door.ask("GET", path)
        assert (status, found["fields"]["nick"].strip("\ufffd")) == (200, "")


async def test_line_27_what_nobody_knows_of_the_database_is_503_too(door: Door) -> None:
    door.recorder.fault = RuntimeError("index is not a btree")
    status, answer = await door.put(EMPTY)
    assert (status, answer["errcode"]) == (503, "M_UNKNOWN")
    assert "btree" not in answer["error"]
    door.recorder.fault = None
    assert (await door.put(EMPTY))[0] == 200


async def test_line_80_legacy_paths_mean_the_same(door: Door) -> None:
    assert (await door.ask("PUT", "/transactions/7", EMPTY))[0] == 200
    assert (await door.ask("GET", "/users/%40_t_known%3Ahs"))[0] == 200
    assert (await door.ask("GET", "/rooms/%23_t_x%3Ahs"))[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/_matrix/app/v1/novelty", "/_matrix/app/v2/ping", "/", "/_matrix//app/v1/ping",
        "/_matrix/app/v1/users/a/b",
        "/_matrix/app/unstable/org.matrix.msc3983/keys/claim",
    ],
)  # fmt: skip
async def test_line_82_84_85_unknown_paths_are_unrecognized(door: Door, path: str) -> None:
    status, answer = await door.ask("POST", path, {})
    assert (status, answer["errcode"]) == (404, "M_UNRECOGNIZED")


@pytest.mark.parametrize("name", ["ephemeral", "de.sorunome.msc2409.ephemeral"])
async def test_line_90_ephemeral_events_are_read_under_both_names(door: Door, name: str) -> None:
    await door.put({"events": [], name: [{"type": "m.typing"}]})
    assert door.recorder.taken[-1].ephemeral == [{"type": "m.typing"}]


async def test_line_91_both_names_at_once_are_one(door: Door) -> None:
    both: dict[str, Any] = {"ephemeral": [{}], "de.sorunome.msc2409.ephemeral": [{}]}
    await door.put({"events": [], **both})
    assert len(door.recorder.taken[-1].ephemeral) == 1


async def test_line_92_no_list_of_ephemeral_events_is_ignored(door: Door) -> None:
    assert (await door.put({"events": [], "ephemeral": None}))[0] == 200


@pytest.mark.parametrize("name", ["to_device", "de.sorunome.msc2409.to_device"])
async def test_line_93_to_device_is_read_under_both_names(door: Door, name: str) -> None:
    await door.put({"events": [], name: [{"to_user_id": "@a:hs"}]})
    assert len(door.recorder.taken[-1].to_device) == 1


@pytest.mark.parametrize("value", [None, {}, ["x"], "x", {"a": None}])
async def test_line_95_96_device_news_of_any_shape_is_taken(door: Door, value: Any) -> None:
    names = ("device_lists", "device_one_time_keys_count", "device_one_time_key_counts")
    body = {f"{prefix}{name}": value for prefix in ("", "org.matrix.msc3202.") for name in names}
    assert (await door.put({"events": [], **body}))[0] == 200


@examples(150, sharing=True)
@given(
    body=st.binary(max_size=300)
    | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace"))
)
async def test_whatever_the_body_is_the_answer_is_no_500(door: Door, body: bytes) -> None:
    status, _ = await door.put(body)
    assert status in {200, 400}
