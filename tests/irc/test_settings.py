"""What can never work is refused with the settings, before anything is connected."""

import pytest

from bridge.networks.irc.settings import IrcSettings
from bridge.sdk.errors import ConfigError
from bridge.settings.options import check_options

SERVER = {"host": "irc.test"}


def refusal(changes: dict[str, object]) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        check_options(IrcSettings, {"servers": [SERVER]} | changes, "modules.libera")
    return refused.value


@pytest.mark.parametrize(
    ("changes", "where", "said"),
    [
        ({"relays": ["a b"]}, "relays[0]", "'a b' is no IRC nick"),
        ({"relays": ["irker", ""]}, "relays[1]", "'' is no IRC nick"),
        ({"relays": ["#channel"]}, "relays[0]", "'#channel' is no IRC nick"),
        ({"nick": "n" * 60}, "nick", "a nick has at most 50 characters, on most networks 30"),
        ({"nick": "my bridge"}, "nick", "'my bridge' is no IRC nick"),
        ({"username": "u" * 60}, "username", "must have at most 50 characters"),
        ({"nickserv": "#channel"}, "nickserv", "'#channel' is no IRC nick"),
        ({"nickserv": "NickServ@"}, "nickserv", "'' is no server of services"),
        ({"ident_listen": "a b:113"}, "ident_listen", "'a b' is no host"),
        ({"ident_listen": "0.0.0.0:0"}, "ident_listen", "give it as address:port"),
        ({"servers": [{"host": "irc..test"}]}, "servers[0].host", "'irc..test' is no host"),
        ({"servers": [{"host": "irc\0.test"}]}, "servers[0].host", "is no host"),
        ({"servers": [{"host": "x" * 64}]}, "servers[0].host", "is no host"),
    ],
)
def test_what_no_server_takes_is_refused_by_its_name(
    changes: dict[str, object], where: str, said: str
) -> None:
    error = refusal(changes)
    assert error.path == f"modules.libera.{where}"
    assert said in error.reason


def test_nicks_that_some_network_has_are_taken() -> None:
    options = {
        "servers": [SERVER], "relays": ["irker", "Жук", "2bot"], "nick": "[m]",
        "nickserv": "Q@CServe.quakenet.org",
    }  # fmt: skip
    found = check_options(IrcSettings, options, "modules.libera")
    assert found.relays == ("irker", "Жук", "2bot")
