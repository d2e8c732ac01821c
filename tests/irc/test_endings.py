"""Each end of a connection has its own right answer."""

import pytest

from bridge.networks.irc.protocol.endings import (
    BannedError,
    Cause,
    ClosedError,
    cause_of,
    ended,
    refused,
)
from bridge.sdk.errors import LoginRequired


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("Closing Link: bob[h] (K-Lined: spam)", Cause.BANNED),
        ("Closing link: (bob@h) [G-Lined: throttled flooding bots]", Cause.BANNED),
        ("Closing Link: bob[h] (Z:Lined (no))", Cause.BANNED),
        ("Closing Link: h (*** Banned )", Cause.BANNED),
        ("Closing Link: h (AKILLed: spam)", Cause.BANNED),
        ("Closing Link: h (R-Lined: regex)", Cause.BANNED),
        ("Closing Link: h (GZ-Lined: no)", Cause.BANNED),
        ("*** You are not welcome on this server (spam) Email a@irc.test for more information.",
         Cause.BANNED),
        ("Closing Link: h (You are listed in DroneBL. See http://dronebl.org/lookup?ip=192.0.2.1)",
         Cause.BANNED),
        ("Closing Link: h (K-Lined: you killed my bot)", Cause.BANNED),
        ("Closing Link: h (Killed (OperServ (AKILL: spam)))", Cause.BANNED),
        ("Closing Link: h (Killed (oper (you were banned from #room, so leave)))", Cause.KILLED),
        ("Closing Link: h (Killed (oper (stop the flood)))", Cause.KILLED),
        ("KILLed by oper: next time you are K-lined", Cause.KILLED),
        ("Closing Link: ghost[banned.example] (Ping timeout: 120 seconds)", Cause.TIMEOUT),
        ("Closing Link: h (SASL access only)", Cause.ACCOUNT),
        ("You need to identify via SASL to use this server", Cause.ACCOUNT),
        ("You must log in with SASL to join this server", Cause.ACCOUNT),
        ("Closing Link: bob by irc.test (No Authorization -- use another server)", Cause.FULL),
        ("Access denied: Bad password?", Cause.PASSWORD),
        ("Closing Link: h (Password mismatch)", Cause.PASSWORD),
        ("Closing link: (unknown@h) [Throttled: Reconnecting too fast]", Cause.THROTTLED),
        ("Trying to reconnect too fast.", Cause.THROTTLED),
        ("Your host is trying to (re)connect too fast -- throttled", Cause.THROTTLED),
        ("Closing link: (u@h) [No more connections allowed from your host via this connect class]",
         Cause.FULL),
        ("Your IP range has been attempting to connect too many times", Cause.THROTTLED),
        ("Closing Link: h (Too many user connections (global))", Cause.FULL),
        ("Closing Link: h (Too many host connections (local) [10])", Cause.FULL),
        ("Too many connections from your IP", Cause.FULL),
        ("Closing Link: h (No more connections allowed in your connection class)", Cause.FULL),
        ("Too many clones", Cause.FULL),
        ("Closing Link: h (Excess Flood)", Cause.FLOODED),
        ("Closing link: (u@h) [RecvQ exceeded]", Cause.FLOODED),
        ("Closing Link: h (Killed (services (Nickname Collision)))", Cause.COLLISION),
        ("Closing Link: h (irc.test (Nick collision))", Cause.COLLISION),
        ("Closing Link: h (Killed (NickServ (GHOST command used by bob)))", Cause.COLLISION),
        ("Closing Link: h (Killed (oper (be quiet)))", Cause.KILLED),
        ("KILLed by operator: test", Cause.KILLED),
        ("Closing Link: h (Ping timeout: 120 seconds)", Cause.TIMEOUT),
        ("Server shutting down", Cause.OTHER),
        ("Closing Link: h (Client Quit)", Cause.OTHER),
    ],
)  # fmt: skip
def test_the_servers_words_tell_the_cause(said: str, cause: Cause) -> None:
    assert cause_of(said) is cause


@pytest.mark.parametrize(
    ("said", "is_so"),
    [
        ("Closing Link: h (Z-Lined: no)", True),
        ("Closing Link: h (GZ-Lined: no)", True),
        ("Closing Link: h (D-lined)", True),
        ("You are listed in DroneBL", True),
        ("Your host is banned from this network", True),
        ("Closing Link: h (K-Lined: no)", False),
        ("Closing link: (u@h) [G-Lined: no]", False),
        ("You are banned from this server", False),
        ("Closing Link: z-lined[h] (K-Lined: no)", False),
    ],
)
def test_some_bans_say_that_they_are_of_the_address(said: str, is_so: bool) -> None:
    error = ended("irc.test", said)
    assert isinstance(error, BannedError)
    assert error.of_address is is_so


def test_a_network_for_who_has_an_account_asks_for_one_also_where_it_calls_that_a_ban() -> None:
    for personal, way in ((True, "Sign in with yours"), (False, "Set sasl_account")):
        for error in (
            ended("irc.test", "Closing Link: h (SASL access only)", personal=personal),
            refused("irc.test", "You need to identify via SASL to use this server",
                    personal=personal),
        ):  # fmt: skip
            assert isinstance(error, LoginRequired)
            assert not isinstance(error, BannedError)
            assert way in str(error)


@pytest.mark.parametrize("personal", [True, False])
def test_a_ban_is_never_got_round(personal: bool) -> None:
    error = ended("irc.test", "Closing Link: h (K-Lined: spam)", personal=personal)
    assert isinstance(error, LoginRequired)
    assert "K-Lined: spam" in str(error)
    assert "not got round" in str(error)


def test_a_network_without_room_is_left_alone_by_people_and_asked_again_by_the_relay() -> None:
    said = "Too many connections from your IP"
    assert isinstance(ended("irc.test", said, personal=True), LoginRequired)
    relay = ended("irc.test", said)
    assert isinstance(relay, ClosedError)
    assert relay.cause is Cause.FULL


@pytest.mark.parametrize(
    "cause", [one for one in Cause if one not in {Cause.BANNED, Cause.PASSWORD, Cause.ACCOUNT}]
)
def test_every_cause_is_a_sentence_with_the_servers_own_words(cause: Cause) -> None:
    words = {
        Cause.FULL: "too many clones", Cause.THROTTLED: "throttled", Cause.FLOODED: "excess flood",
        Cause.COLLISION: "nick collision", Cause.KILLED: "killed", Cause.TIMEOUT: "ping timeout",
        Cause.OTHER: "good bye",
    }  # fmt: skip
    error = ended("irc.test", f"\x02{words[cause]}\x02")
    assert isinstance(error, ClosedError)
    assert error.cause is cause
    assert str(error).startswith(("irc.test ", "An operator closed the connection to irc.test"))
    assert words[cause] in str(error)
    assert "\x02" not in str(error)
