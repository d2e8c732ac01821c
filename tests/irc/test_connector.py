"""The connector's own answers: what it can, what a name is, what may be bridged."""

from importlib.metadata import entry_points

import pytest

from bridge.networks.irc.connector import IrcConnector
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.settings import IrcSettings
from bridge.sdk.errors import PermanentFailure, TemporaryFailure
from bridge.sdk.ids import RemoteChatId
from bridge.sdk.module import FindsChats, JoinsChats, NeedsConsent
from tests.irc.stage import Network, chat
from tests.rigs.ngircd import run_ngircd


def reached(**settings: object) -> IrcConnector:
    """Return a connector whose network has told its limits."""
    connector = Network(1, **settings).connector
    words = ["CASEMAPPING=rfc1459", "CHANTYPES=#", "CHANNELLEN=20"]
    connector._network.learn(Isupport().with_tokens(words))
    return connector


def test_it_is_found_by_its_entry_point_and_keeps_the_protocols() -> None:
    found = [one for one in entry_points(group="trestle.networks") if one.name == "irc"]
    assert [one.value for one in found] in ([], ["bridge.networks.irc.connector:IrcConnector"])
    network = Network(1)
    assert isinstance(network.connector, FindsChats)
    assert isinstance(network.connector, NeedsConsent)
    assert isinstance(network.relay()[0], JoinsChats)
    assert network.connector.directory.protocol == "irc"


@pytest.mark.parametrize(("mode", "puppets"), [("puppets", True), ("relay", False)])
def test_the_mode_decides_whether_people_have_their_own_connections(
    mode: str, puppets: bool
) -> None:
    able = Network(1, mode=mode).connector.capabilities(RemoteChatId("#x"))
    assert able.puppets is puppets
    assert not able.acknowledges


@pytest.mark.parametrize(
    ("server", "mode", "flows"),
    [
        ({"host": "irc.test"}, "puppets", ["sasl", "server_password"]),
        ({"host": "127.0.0.1", "tls": False}, "puppets", ["sasl", "server_password"]),
        ({"host": "irc.test", "tls": False}, "puppets", []), ({"host": "irc.test"}, "relay", []),
    ],
)  # fmt: skip
def test_an_account_is_linked_where_each_has_a_connection_and_no_password_is_in_the_clear(
    server: dict[str, object], mode: str, flows: list[str]
) -> None:
    connector = Network(0, servers=[{"host": "irc.test"}, server], mode=mode).connector
    assert [one.id for one in connector.login_flows()] == flows


def test_channels_of_others_need_their_consent_and_only_the_admin_waives_it() -> None:
    assert reached(own_network=False).needs_consent(chat("#x"))
    assert not reached().needs_consent(chat("#x"))


@pytest.mark.parametrize("spelling", ["#A[b]~", "#a{B}^", "  #A{b}~ "])
async def test_all_spellings_of_a_channel_are_one(spelling: str) -> None:
    found = await reached().find_chat(spelling)
    assert found.id == "#a{b}^"
    assert found.name == spelling.strip()


NO_CHANNELS = ["", "#", "room", "#a,#b", "#a b", "#a\x07b", "#a:b", "#a\r\nQUIT", "#a\0b", "&a"]
TOO_LONG = ["#" + "x" * 20, "#" + "é" * 10, "#" + "x" * 500]


@pytest.mark.parametrize("name", [*NO_CHANNELS, *TOO_LONG])
async def test_what_is_no_channel_is_refused(name: str) -> None:
    with pytest.raises(PermanentFailure):
        await reached().find_chat(name)


async def test_a_nick_is_read_as_the_network_compares_it() -> None:
    found = await reached().find_user("Bob[1]")
    assert (found.id, found.name) == ("bob{1}", "Bob[1]")
    for name in ("", "1bob", "bob smith", "bob!x@y", "b\u202eöb", "a,b"):
        with pytest.raises(PermanentFailure):
            await reached().find_user(name)


async def test_before_the_network_was_reached_names_are_not_guessed() -> None:
    with pytest.raises(TemporaryFailure, match="not been reached yet"):
        await Network(1).connector.find_chat("#room")


async def test_a_network_of_others_that_is_told_a_contact_and_ones_own_are_well() -> None:
    async with run_ngircd() as server:
        place = {"host": "127.0.0.1", "port": server.port, "tls": False}
        for settings in ({"contact": "admin@hs.example"}, {"own_network": True}):
            connector = IrcConnector(IrcSettings.model_validate({"servers": [place], **settings}))
            assert [one.level for one in await connector.examine()] == ["ok"]
