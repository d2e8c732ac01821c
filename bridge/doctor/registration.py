"""The registration: whether the file fits the settings, and what the homeserver has read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.doctor.keys import judge_registration_mode
from bridge.matrix.client import HomeserverClient, MatrixError, path
from bridge.matrix.namespaces import Namespaces
from bridge.matrix.registration import differences, read_registration
from bridge.sdk.examination import Remark, bad, note, well
from bridge.sdk.ids import UserId
from bridge.settings.records import AppserviceSettings

_EPHEMERAL, _OLD_EPHEMERAL = "receive_ephemeral", "de.sorunome.msc2409.push_ephemeral"
_EPHEMERAL_SINCE = (1, 13)

_WRITE_ANEW = "`trestle registration` writes it anew; then restart the homeserver"
_READ_OLD = (
    "the homeserver has read a registration other than this one; name this one in "
    "app_service_config_files, and restart the homeserver"
)


def examine_registration(file: Path, wanted: Mapping[str, Any]) -> Sequence[Remark]:
    """Compare the file with what the settings ask for. Raises ``ConfigError``."""
    data = read_registration(file)
    found = list(judge_registration_mode(file))
    wrong = differences(data, dict(wanted))
    if _is_swapped(data, wanted):
        wrong = [one for one in wrong if not one.startswith(("as_token", "hs_token"))]
        found.append(
            bad(
                "as_token and hs_token of config.yaml are swapped in the registration; put them "
                f"right in the one that is wrong, or: {_WRITE_ANEW}"
            )
        )
    if wrong:
        found.append(bad(f"{'; '.join(wrong)}. {_WRITE_ANEW}"))
    return found or [well("the registration says what the settings say")]


def _is_swapped(data: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    theirs = (data.get("as_token"), data.get("hs_token"))
    return theirs == (wanted["hs_token"], wanted["as_token"])


def judge_ephemeral(file: Path, versions: Sequence[str]) -> Remark:
    """Say whether typing and read marks come through (MSC2409, in Matrix 1.13).

    Raises ``ConfigError`` if there is no such file.
    """
    data = read_registration(file)
    if data.get(_EPHEMERAL) is not True:
        return bad(f"{_EPHEMERAL} is not true in the registration: nobody's typing or reading "
                   f"would cross. {_WRITE_ANEW}")  # fmt: skip
    if newest_of(versions) >= _EPHEMERAL_SINCE or data.get(_OLD_EPHEMERAL) is True:
        return well("typing and read marks are asked for, and the homeserver can send them")
    return note(
        f"this homeserver is older than Matrix 1.13 and may send no typing and read marks; add "
        f"`{_OLD_EPHEMERAL}: true` to the registration, and restart it"
    )


def newest_of(versions: Sequence[str]) -> tuple[int, int]:
    """The newest Matrix version among those named; (0, 0) if there is none."""
    found = [(0, 0)]
    for name in versions:
        major, _, minor = name.removeprefix("v").partition(".")
        if name.startswith("v") and major.isdigit() and minor.isdigit():
            found.append((int(major), int(minor)))
    return max(found)


async def examine_namespaces(
    client: HomeserverClient, settings: AppserviceSettings, namespaces: Namespaces
) -> Sequence[Remark]:
    """See whether the ids of the settings are ours at the homeserver, and only ours.

    Makes the bots' accounts if they are not there, as the first start would: only that shows
    whether they can be. Raises ``TemporaryFailure``.
    """
    server = namespaces.bot.partition(":")[2]
    ghost = UserId(f"@{settings.prefix}doctor_nobody:{server}")
    found: list[Remark] = []
    for user in (namespaces.bot, ghost):
        if not await is_in_namespace(client, user):
            found.append(bad(f"ids like {user} are not ours at the homeserver: {_READ_OLD}"))
    if not found:
        for bot in sorted(namespaces.bot_ids):
            found += await _examine_account(client, bot)
    for alias in namespaces.sample_aliases("doctor_nothing"):
        if not await _is_alias_ours(client, alias):
            found.append(bad(f"aliases like {alias} are not ours at the homeserver: {_READ_OLD}"))
    return found or [well("the ids of people and chats are ours at the homeserver")]


async def is_in_namespace(client: HomeserverClient, user: UserId) -> bool:
    """Whether the homeserver lets us act as the user, or would if there were one."""
    try:
        await client.whoami(user)
    except MatrixError as error:
        if error.errcode == "M_EXCLUSIVE":
            return False
        # The errcode is the same for an account that is only not there yet.
        words = error.message.lower()
        return not ("masquerade" in words or "namespace" in words)
    return True


async def _examine_account(client: HomeserverClient, bot: UserId) -> Sequence[Remark]:
    content = {
        "type": "m.login.application_service", "username": bot[1:].partition(":")[0],
        "inhibit_login": True,
    }  # fmt: skip
    try:
        await client.request("POST", path("v3", "register"), content=content)
    except MatrixError as error:
        if error.errcode == "M_EXCLUSIVE":
            return [
                bad(
                    f"{bot} belongs to another appservice: its registration claims our ids too. "
                    "Narrow its namespaces, or choose another appservice.prefix and bot_localpart"
                )
            ]
        if error.errcode != "M_USER_IN_USE":
            return [bad(f"the homeserver does not let us make {bot}: {error}")]
    return []


async def _is_alias_ours(client: HomeserverClient, alias: str) -> bool:
    """Ask to remove an alias that nobody has: an appservice may for its own names only."""
    try:
        await client.request("DELETE", path("v3", "directory", "room", alias))
    except MatrixError as error:
        return error.errcode != "M_EXCLUSIVE"
    return True


async def examine_double_puppets(
    client: HomeserverClient, settings: AppserviceSettings, server_name: str
) -> Remark:
    """See whether we may speak as people's own accounts, and are meant to."""
    anybody = UserId(f"@trestle.doctor.anybody:{server_name}")
    if await is_in_namespace(client, anybody):
        if settings.double_puppets:
            return well("people's own accounts may speak for them: `!trestle double-puppet on`")
        return note(
            "the registration that the homeserver has read names all its people, so it sends us "
            "all that they do; set appservice.double_puppets: true if that is meant, "
            f"else {_WRITE_ANEW}"
        )
    if settings.double_puppets:
        return bad(
            "appservice.double_puppets is true, but the registration that the homeserver has "
            f"read does not name its people; {_WRITE_ANEW}"
        )
    return well(
        "people's own accounts may speak for them by a token that they give: "
        "`!trestle double-puppet token`"
    )
