"""What people say to a network beside messages, against real servers."""

import re
from dataclasses import replace

import pytest

from bridge.core.commands.networkcommands import QUERY, declared
from bridge.networks.irc.client import certfp, typed
from bridge.networks.irc.commands.commands import COMMANDS
from bridge.networks.irc.connector import IrcConnector
from bridge.networks.irc.network.keepsakes import AUTOCOMMAND, AWAY, CERTIFICATE, NICK
from bridge.networks.irc.settings import IrcSettings, ServerSettings
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import RemoteJoin, RemoteMembers
from bridge.sdk.login import Login, LoginKind
from bridge.sdk.secret import Secret
from tests.irc.commands import Person
from tests.irc.stage import Host, Network, chat, message, running, user_id
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import IrcServer

TAKES_NONE = IrcSettings(servers=(ServerSettings(host="irc.test"),))
TAKES_RAW = TAKES_NONE.model_copy(update={"allow_raw": True})


async def test_a_person_sees_and_changes_the_own_connection(
    server: IrcServer, channel: str
) -> None:
    network = Network(server.port, allow_raw=True)
    relay, relay_host = network.relay()
    ann = Person(network, "Ann", relay)
    nick, other = f"n{channel[5:]}{server.kind[:3]}", Person(network, "Otto", relay)
    async with irc_user(server.port, "carl") as carl, running(relay, ann.client, other.client):
        await relay_host.wait_until_connected()
        await carl.join(channel)
        carl.say(f"TOPIC {channel} :all about trees")
        await carl.sync()
        assert "not connected" in await ann.say("status")
        assert await ann.say("nick") == "You are Ann."
        assert "carl is" in await ann.say("whois carl")
        assert "nobody" in await ann.refused("whois nobody_here")
        assert await ann.say(f"list *{channel[1:]}") == f"{channel} (1): all about trees"
        part_of_name = await ann.say(f"list {channel[2:]}")
        assert part_of_name == f"{channel} (1): all about trees"
        assert "no such channel" in await ann.say("list *never-heard-of*")

        assert await ann.say(f"nick {nick}") == f"You are {nick} from now on."
        assert "nick" in await ann.refused("nick carl")
        assert "kept for somebody" in await other.refused(f"nick {nick.upper()}")
        assert "kept for somebody" in await ann.refused("nick trestle")
        assert "is no IRC nick: letters, digits and" in await ann.refused("nick two words")

        await ann.client.send(message(channel, "hello"))
        assert channel.lower() in await ann.say("status")
        assert "left" in await ann.say(f"part {channel} off to lunch")
        assert "lunch" in await carl.expect(" PART ", nick)
        assert "you are not in" in await ann.refused(f"part {channel}")

        assert "Said to carl" in await ann.say("msg carl psst")
        assert "psst" in await carl.expect(nick, "PRIVMSG carl")
        assert "nobody and no channel" in await ann.refused("msg nobody_here psst")

        assert await ann.say("away eating") == "You are away: eating."
        assert "away: eating" in await other.say(f"whois {nick}")
        assert ann.host.kept == {NICK: Secret(nick), AWAY: Secret("eating")}
        await ann.client.send(message(channel, "here again"))
        await comes_back_the_same(network, ann, other, nick)
        await carl.expect(nick, " QUIT ", "user name ann_1 instead of ann")
        # A ban of the former user name holds, though the server knows nothing of it.
        await relay.join(chat(channel))
        await ann.say(f"part {channel}")
        carl.say(f"MODE {channel} +b *!*ann@*")
        await carl.sync()
        with pytest.raises(PermanentFailure, match=r"bans \*!\*ann@\*"):
            await ann.client.send(message(channel, "again"))
        carl.say(f"MODE {channel} -b *!*ann@*")
        await carl.sync()
        await ann.client.send(message(channel, "again"))
        await carl.expect(nick, "PRIVMSG", "again")


async def comes_back_the_same(network: Network, ann: Person, other: Person, nick: str) -> None:
    """A later start goes by what was chosen; ``raw`` shows the server's own words."""
    assert "and says there that it was ann." in await ann.say("username ann_1")
    assert "somebody else" in await other.refused("username ann_1")
    assert "somebody else" in await other.refused("username ann")
    assert "somebody else" in await other.refused("username trestle")
    assert await ann.say("username") == "Your user name is ann_1."
    assert "once a day" in await ann.refused("username off")
    assert "ann_1@" in await ann.say(f"whois {nick}")  # Made anew, by the same nick.
    assert "away: eating" in await other.say(f"whois {nick}")
    assert network.connector._network.usernames(network.store).of(user_id("Ann")) == "ann_1"
    # What it says in between, of the channel that the connection comes back into, is there too.
    told = (await ann.say("raw INFO")).splitlines()
    info = [one for one in told if one.startswith(("371 ", "374 "))]
    assert info[0].startswith("371 ")
    assert info[-1].startswith("374 ") or told[-1].endswith(" lines more")
    assert "line break" in await ann.refused("raw INFO\r\nQUIT")


def test_what_is_sent_raw_is_what_is_known_to_do_no_harm() -> None:
    assert typed.read_raw("topic #a :b c", TAKES_RAW).params == ("#a", "b c")
    refused = {
        "NICK x": "say nick instead. What is: ACCEPT, ADMIN,", "OPER a b": "OPER",
        "NICKSERV IDENTIFY x": "say msg NickServ instead", "QUIT": "say disconnect",
        "SETNAME :x": "SETNAME is not sent raw. What",
        "CPRIVMSG a #b :c": "", "CNOTICE a #b :c": "", "MONITOR C": "", "RELAYMSG #a b :c": "",
        "CHATHISTORY LATEST #a * 1": "", "PRIVMSG a :b": "say msg", "NONSENSE": "",
        "@x INFO": "no line", ":a INFO": "no line",
    }  # fmt: skip
    for said, why in refused.items():
        with pytest.raises(PermanentFailure, match=why or said.split()[0]):
            typed.read_raw(said, TAKES_RAW)


def test_what_is_done_on_each_connect_is_little_and_raw_only_where_it_is_allowed() -> None:
    def refuse(error: PermanentFailure) -> None:
        raise error

    said = "msg carl  here I am\n\nAWAY at lunch\nraw MODE me +i"
    made = typed.read_autocommands(said, TAKES_RAW, refuse)
    assert [(one.command, *one.params) for one in made] == [
        ("PRIVMSG", "carl", "here I am"), ("AWAY", "at lunch"), ("MODE", "me", "+i"),
    ]  # fmt: skip
    for refused, why in (
        (said, "do not let raw lines through"), ("away\n", "say away and a reason"),
        ("join #x", "begins with msg, away or raw"),
        ("msg carl", "a nick and a text"), ("away x\n" * 11, "at most 10"),
        (f"away {'x' * 400}", "over 400 bytes"),
    ):  # fmt: skip
        with pytest.raises(PermanentFailure, match=why):
            typed.read_autocommands(refused, TAKES_NONE, refuse)
    with pytest.raises(PermanentFailure, match="do not let raw lines through"):
        typed.read_raw("INFO", TAKES_NONE)


async def test_services_are_told_no_password_from_a_room() -> None:
    network = Network(1)
    relay, _ = network.relay()
    ann = Person(network, "Ann", relay)
    for said in (
        "NickServ IDENTIFY hunter2", "nickserv@services.test identify ann hunter2",
        "Q auth hunter2", "NickServ  SET PASSWORD hunter2", "any@services.test REGISTER hunter2 x",
    ):  # fmt: skip
        why = await ann.refused(f"msg {said}")
        assert "say login test in a direct chat" in why
        assert "hunter2" not in why


async def test_the_rooms_commands_act_with_the_power_that_the_channel_gives(
    server: IrcServer, channel: str
) -> None:
    network = Network(server.port)
    relay, relay_host = network.relay()
    ann = Person(network, "Ann", relay, channel)
    async with (
        irc_user(server.port, "carl") as carl,
        irc_user(server.port, "dora") as dora,
        running(relay, ann.client),
    ):
        await carl.join(channel)
        await dora.join(channel)
        await relay_host.wait_until_connected()
        await relay.join(chat(channel))
        assert f"gives it: /mode {channel} +o trestle" in await ann.refused("voice dora")
        await gives_power(carl, channel, "trestle")
        assert "set" in await ann.say("topic  good\nnews ")
        await dora.expect(" TOPIC ", "good news")
        assert await ann.say("topic") == f"{channel}: good news"
        await ann.say("voice dora")
        await dora.expect(" MODE ", "+v ", "dora")
        await ann.say("op dora")
        assert "@dora" in await ann.say("names")
        await ann.say("op -dora")
        await dora.expect(" MODE ", "-o ", "dora")
        modes = await ann.say("modes")
        assert re.fullmatch(rf"{channel} has the modes \+\w*\. Nobody is banned\.", modes)

        assert "dora is out" in await ann.say("kick dora too loud")
        assert f"too loud ({user_id('Ann')})" in await dora.expect(" KICK ")
        assert "nobody of that name" in await ann.refused("kick nobody_here")
        mask = (await ann.say("ban dora")).split()[0]
        assert mask in await ann.say("modes")
        dora.say(f"JOIN {channel}")
        await dora.expect(" 474 ")
        assert "no longer banned" in await ann.say(f"ban -{mask}")
        assert "has no ban" in await ann.refused(f"ban -{mask}")
        assert await ann.say("modes") == modes
        await dora.join(channel)

        # Where the person is an operator there, the person does it.
        await ann.client.send(message(channel, "hello"))
        await gives_power(carl, channel, "Ann")
        await ann.say("kick dora again")
        kicked = await dora.expect(" KICK ")
        assert kicked.startswith(":Ann!")
        assert kicked.endswith("again")
        # One of ours shares a host with all others of ours: the name is banned, as it is seen.
        mask = (await ann.say("ban Ann")).split()[0]
        assert mask.startswith(("*!ann@", "*!~ann@"))
        await ann.client.leave(chat(channel), "left")
        with pytest.raises(PermanentFailure, match="banned"):
            await ann.client.send(message(channel, "hello"))
        assert mask in await ann.say("ban -Ann")
        before = len(relay_host.of(RemoteMembers))
        assert "made like" in await ann.say("sync")
        (*_, members) = await relay_host.wait_for(RemoteMembers, before + 1)
        assert {user.name for user in members.users} == {"carl"}
        assert not [one for one in relay_host.of(RemoteJoin) if one.user.name == "Ann"]


def test_a_networks_own_command_of_a_name_that_is_the_hosts_is_not_listed_beside_it() -> None:
    class Connector(IrcConnector):
        commands = (*COMMANDS, replace(COMMANDS[0], name="query", usage="query <text>"))

    listed = [one for one in declared(Connector) if one.name == "query"]
    assert listed == [QUERY]


async def test_a_moderator_sets_modes_that_the_network_has_and_invites(
    server: IrcServer, channel: str
) -> None:
    network = Network(server.port)
    relay, relay_host = network.relay()
    ann = Person(network, "Ann", relay, channel)
    async with (
        irc_user(server.port, "carl") as carl,
        irc_user(server.port, "dora") as dora,
        running(relay, ann.client),
    ):
        await carl.join(channel)
        await relay_host.wait_until_connected()
        await relay.join(chat(channel))
        carl.say(f"MODE {channel} +i")
        await carl.sync()
        assert "operator's power" in await ann.refused("mode +m")
        assert "operator's power" in await ann.refused("invite dora")
        await gives_power(carl, channel, "trestle")

        assert await ann.say("invite dora") == f"dora is invited to {channel}."
        assert "trestle!" in await dora.expect(" INVITE dora ", channel)
        await dora.join(channel)
        assert "already" in await ann.refused("invite dora")
        assert "nobody of that name" in await ann.refused("invite nobody_here")

        assert await ann.say("mode  +m-i+l 20") == f"Done in {channel}: mode +m-i+l 20."
        await dora.expect(" MODE ", "+m-i")
        await dora.expect(" MODE ", "+l", "20")
        await ann.say("mode +vb dora *!*@else.example")
        await dora.expect(" MODE ", "+v", "dora")
        said = await ann.say("modes")
        assert "*!*@else.example" in said
        assert "m" in said.partition(" has the modes ")[2].partition(".")[0]
        await ann.say("mode -bm *!*@else.example")
        await dora.expect(" MODE ", "-m")
        await dora.expect(" MODE ", "-b", "*!*@else.example")

        assert "no channel mode there; these are: " in await ann.refused("mode +m!")
        assert "takes a value" in await ann.refused("mode +ml")
        assert "takes the value '20'" in await ann.refused("mode -l+m 20")
        assert "is everybody" in await ann.refused("mode +b *!*@*")
        assert "no IRC nick" in await ann.refused("mode +v #dora")
        assert "say which modes" in await ann.refused("mode +")
        assert "at most 6" in await ann.refused("mode +vvvvvvv a b c d e f g")
        assert "takes a number" in await ann.refused("mode +l many")
        assert "a key is a secret" in await ann.refused("mode +k sesame")
        assert (await ann.say("mode -l")).endswith(": mode -l.")
        assert (await ann.say("mode -l")).endswith(" Nothing was changed by -l.")
        assert "the server: " in await ann.refused("mode +o nobody_here")


async def test_a_person_ends_and_renews_the_own_connection(
    server: IrcServer, channel: str
) -> None:
    network = Network(server.port)
    relay, _ = network.relay()
    ann, otto = Person(network, "Ann", relay), Person(network, "Otto", relay)
    async with irc_user(server.port, "carl") as carl, running(ann.client, otto.client):
        await carl.join(channel)
        assert "You are not connected" in await ann.say("disconnect")
        for one in (ann, otto):
            await one.client.send(message(channel, "hello"))
        assert "connected anew, as Ann on" in await ann.say("reconnect")
        for said in ("reconnect", "disconnect"):
            assert "once a minute" in await ann.refused(said)
        await carl.expect(":Ann!", " QUIT ", "Reconnects")
        await carl.expect(":Ann!", " JOIN ")

        assert "Your connection ends" in await otto.say("disconnect")
        await carl.expect(":Otto!", " QUIT ", "Disconnected")
        assert "You are not connected. Your next" in await otto.say("status")
        assert "You are not connected. Your next" in await otto.say("disconnect")
        assert "You are connected, as Otto on" in await otto.say("reconnect")
        await otto.client.send(message(channel, "back"))
        await carl.expect(":Otto!", "PRIVMSG", "back")


async def gives_power(operator: IrcUser, channel: str, nick: str) -> None:
    """Have an operator make somebody another."""
    operator.say(f"MODE {channel} +o {nick}")
    await operator.expect(" MODE ", "+o ", nick)


async def test_what_is_done_on_each_connect_and_the_certificate_are_kept(
    server: IrcServer,
) -> None:
    secure = {"host": "127.0.0.1", "port": server.tls_port, "ca_file": str(server.authority)}
    network = Network(0, servers=[secure])
    relay, _ = network.relay()
    ann = Person(network, "Ann", relay)
    async with running(ann.client), irc_user(server.port, "carl") as carl:
        assert "raw" in await ann.refused("autocommand raw OPER a b")
        assert "begins with" in await ann.refused("autocommand join #x")
        assert "(1 line)" in await ann.say("autocommand msg carl here I am")
        # It is right where several networks are bridged, too.
        assert "Say !trestle test certfp new to" in await ann.say("certfp")
        assert "no certificate" in await ann.say("certfp off")
        made = await ann.say("certfp new")
        known_by = certfp.fingerprint(ann.host.kept[CERTIFICATE].reveal().encode())
        assert f"!trestle test msg NickServ CERT ADD {known_by}" in made
        assert known_by in await ann.say("certfp")
        assert await ann.say("nick") == "You are Ann."
        await carl.expect("Ann!", "PRIVMSG carl", "here I am")
    host = Host(network.store)
    login = Login(
        id=ann.client._login.id, kind=LoginKind.AUTOMATIC, owner=user_id("Ann"), name="Ann",
        secrets=ann.host.kept,
    )  # fmt: skip
    client = network.connector.connect(login, host)
    assert client.keepsakes.read(AUTOCOMMAND) == "msg carl here I am"
    async with irc_user(server.port, "carl") as carl, running(client), client.at_hand():
        await carl.expect("Ann!", "here I am")


async def test_what_a_person_chose_is_shown_and_taken_back(
    server: IrcServer, channel: str
) -> None:
    secure = {"host": "127.0.0.1", "port": server.tls_port, "ca_file": str(server.authority)}
    network = Network(0, servers=[secure])
    relay, _ = network.relay()
    una = Person(network, "Una", relay, channel)
    async with running(una.client), irc_user(server.port, "rolf") as rolf:

        async def is_away() -> bool:
            rolf.heard.clear()
            rolf.say("WHOIS Una")
            await rolf.expect(" 318 ")
            return any(" 301 rolf Una :at lunch" in one for one in rolf.heard)

        await rolf.join(channel)
        assert await una.say("away at  lunch") == "You are away: at lunch."
        assert await is_away()
        assert await una.say("away") == "You are here again."
        assert not await is_away()

        assert await una.say("autocommand") == "Nothing is done on connect."
        await una.say("autocommand away at lunch")
        assert await una.say("autocommand") == "On each connect:\naway at lunch"
        assert await una.say("autocommand off") == "Nothing is done on connect any more."
        await una.say("certfp new")
        assert "certificate is forgotten" in await una.say("certfp off")
        assert una.host.kept == {}
        assert await una.say("nick") == "You are Una."
        assert not await is_away()

        assert "characters there" in await una.refused(f"nick {'n' * 31}")
        # In a channel's room it is that channel, and all of it the reason.
        await una.client.send(message(channel, "hello"))
        assert f"You left {channel}." in await una.say("part off to bed")
        assert "off to bed" in await rolf.expect(":Una!", " PART ")
