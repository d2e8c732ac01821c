"""What can never work is refused with the settings, before anything is connected."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.networks.irc.client import certfp
from bridge.networks.irc.settings import IrcSettings
from bridge.sdk.errors import ConfigError
from bridge.settings.options import check_options

SERVER = {"host": "irc.test"}
NOW = datetime(2026, 11, 25, tzinfo=UTC)


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
        "servers": [SERVER], "relays": ["irker", "Жук"], "nickserv": "Q@CServe.quakenet.org",
        "nick": "[m]",
    }  # fmt: skip
    found = check_options(IrcSettings, options, "modules.libera")
    assert found.relays == ("irker", "Жук")


def test_files_that_are_not_there_or_hold_nothing_are_named(tmp_path: Path) -> None:
    away, empty, alone = tmp_path / "away.pem", tmp_path / "empty.pem", tmp_path / "alone.pem"
    empty.write_text("nothing")
    alone.write_bytes(certfp.make("relay", NOW).partition(b"-----BEGIN PRIV")[0])
    none, no_key = "it holds no certificate (PEM)", "with its key, as PEM and without a password"
    for file, said in ((away, "No such file or directory"), (empty, none), (tmp_path, "Is a dir")):
        error = refusal({"servers": [SERVER | {"ca_file": str(file)}]})
        assert error.path == "modules.libera.servers[0].ca_file"
        assert str(file) in error.reason
        assert said in error.reason
    for file, said in (
        (empty, no_key),
        (alone, no_key),
        (tmp_path / "folder" / "relay.pem", f"there is no folder {tmp_path / 'folder'}"),
    ):
        error = refusal({"certificate_file": str(file)})
        assert error.path == "modules.libera.certificate_file"
        assert said in error.reason


def test_a_certificate_that_is_to_be_made_and_one_that_is_there_are_taken(tmp_path: Path) -> None:
    for _ in range(2):
        options = {"servers": [SERVER], "certificate_file": str(tmp_path / "relay.pem")}
        found = check_options(IrcSettings, options, "modules.libera")
        certfp.ensure(found.certificate_file or tmp_path, "relay", NOW)
