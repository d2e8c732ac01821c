"""Secrets come from files and variables, and are refused where everybody can read them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from pydantic import BaseModel, ConfigDict, SecretBytes, SecretStr

from bridge.cli import main
from bridge.config import load, read, read_document, read_essentials
from bridge.networks.irc.settings import IrcSettings
from bridge.networks.irc.settingvalues import SecretText
from bridge.running.roster import check_modules
from bridge.sdk.errors import ConfigError
from bridge.sdk.ids import InstanceId
from bridge.sdk.secret import Secret
from bridge.settings.confidential import exposed_keys, refuse_exposed_keys
from bridge.settings.options import check_module, check_options, secrets_in
from bridge.settings.records import ModuleSettings, Settings
from tests.admin.commands import run_program, trestle
from tests.admin.documents import AS_TOKEN, GOOD, HS_TOKEN, changed, write
from tests.rigs.yaml import dump

IRC = {"module": "irc", "servers": [{"host": "irc.example.org"}]}
PASSWORD = "a-password-for-tests"


class _Gate(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    name: str
    key: SecretText


class _Gates(BaseModel):
    """A module's settings with a secret inside a list."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    gates: Sequence[_Gate] = ()
    ca_file: Path | None = None


def private_file(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text + "\n")
    file.chmod(0o600)
    return file


def irc_of(settings: Settings, name: str = "libera") -> IrcSettings:
    return check_module(IrcSettings, settings.modules[InstanceId(name)])


def test_a_modules_secret_may_stand_in_a_file_beside_the_settings(folder: Path) -> None:
    private_file(folder, "irc-password", PASSWORD)
    document = changed("modules/libera", {**IRC, "password_file": "irc-password"})
    config = write(folder, dump(document))
    read_options = irc_of(load(config))
    assert [secret.reveal() for secret in secrets_in(read_options)] == [PASSWORD]
    (folder / "irc-password").chmod(0o644)
    with pytest.raises(ConfigError) as refused:
        check_modules(load(config))
    assert refused.value.path == "modules.libera.password_file"
    assert f"run `chmod 600 {folder / 'irc-password'}`" in str(refused.value)


def test_a_secret_inside_a_list_may_stand_in_a_file_too(folder: Path) -> None:
    file = private_file(folder, "gate", PASSWORD)
    given = {"gates": [{"name": "north", "key_file": str(file)}], "ca_file": "no-secret.pem"}
    found = check_options(_Gates, given, "modules.wall")
    assert found.gates[0].key.reveal() == PASSWORD
    assert found.ca_file == Path("no-secret.pem")
    both = {"gates": [{"name": "north", "key": "x", "key_file": str(file)}]}
    with pytest.raises(ConfigError) as refused:
        check_options(_Gates, both, "modules.wall")
    assert refused.value.path == "modules.wall.gates[0].key_file"
    assert refused.value.reason == "give either key or key_file, not both"


def test_a_text_of_the_wrong_form_is_told_in_our_words() -> None:
    options = {"servers": [{"host": "x"}], "webirc": {"password": "x", "gateway": "a b"}}
    with pytest.raises(ConfigError, match=r"webirc\.gateway: does not have the form that it must"):
        check_options(IrcSettings, options, "modules.libera")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("own_network", "perhaps", "must be true or false"),
        ("most_lines", "many", "must be a whole number"),
        ("most_lines", 1.5, "must be a whole number"),
        ("flood_rate", "fast", "must be a number"),
        ("servers", [], "is too short: at least 1"),
        ("username", "", "is too short: at least 1"),
        ("contact", "x" * 101, "must have at most 100 characters"),
        ("ipv6_prefix", "2001:db8::1/64", "must be an IPv6 network: 2001:db8:1:2::/64"),
    ],
)
def test_what_a_setting_takes_instead_is_said(name: str, value: object, reason: str) -> None:
    options = {"servers": [{"host": "x"}], name: value}
    with pytest.raises(ConfigError) as refused:
        check_options(IrcSettings, options, "modules.libera")
    assert (refused.value.path, refused.value.reason) == (f"modules.libera.{name}", reason)


def test_a_secret_that_is_no_text_is_told_in_our_words(folder: Path) -> None:
    for name, value, reason in (
        ("password", 12345678, "must be text; put it in quotes"),
        ("password_file", None, "must be the path of a file"),
    ):
        document = changed("modules/libera", {**IRC, name: value})
        checked = trestle("config", "check", "-c", write(folder, dump(document)))
        assert checked.output == f"modules.libera.{name}: {reason}\n"


def test_paths_of_secrets_inside_lists_begin_at_the_settings_folder(folder: Path) -> None:
    options = {"servers": [{"host": "x"}], "certificate_file": "relay.pem", "module": "irc"}
    settings = read_document(changed("modules/libera", options), folder=folder).get()
    assert irc_of(settings).certificate_file == folder / "relay.pem"


def test_a_variable_beats_the_file_for_a_modules_secret(folder: Path) -> None:
    document = changed("modules/libera", {**IRC, "password": "the-one-in-the-file"})
    environment = {"TRESTLE_MODULES_LIBERA_PASSWORD": PASSWORD}
    settings = read_document(document, folder=folder, environment=environment).get()
    assert [secret.reveal() for secret in secrets_in(irc_of(settings))] == [PASSWORD]
    assert PASSWORD not in repr(settings)
    document["modules"]["libera"] = {**IRC, "password_file": "not-there"}
    settings = read_document(document, folder=folder, environment=environment).get()
    assert [secret.reveal() for secret in secrets_in(irc_of(settings))] == [PASSWORD]


class _Safe(BaseModel):
    """A stranger's settings: authors are told to take pydantic's class."""

    word: SecretStr
    others: tuple[SecretBytes, ...] = ()


def test_a_secret_of_a_strangers_module_is_one_too() -> None:
    given = ModuleSettings(
        instance=InstanceId("safe"), module="safe", options={"word": "in the file"},
        environment={"WORD": Secret(PASSWORD)},
    )  # fmt: skip
    assert [one.reveal() for one in secrets_in(check_module(_Safe, given))] == [PASSWORD]
    with pytest.raises(ConfigError, match=r"modules\.safe\.word: everybody on this machine"):
        check_module(_Safe, replace(given, exposed=Path("config.yaml")))
    several = check_options(_Safe, {"word": "x", "others": ["y", "z"]}, "modules.safe")
    assert [one.reveal() for one in secrets_in(several)] == ["x", "y", "z"]
    with pytest.raises(ConfigError, match="placeholder"):
        check_options(_Safe, {"word": "CHANGE ME"}, "modules.safe")


def test_a_variable_for_an_option_that_is_no_secret_is_refused(folder: Path) -> None:
    environment = {"TRESTLE_MODULES_LIBERA_NICK": "someone"}
    settings = read_document(
        changed("modules/libera", IRC), folder=folder, environment=environment
    ).get()
    with pytest.raises(ConfigError) as refused:
        check_modules(settings)
    assert refused.value.path == "modules.libera"
    assert refused.value.reason == (
        "TRESTLE_MODULES_LIBERA_NICK is set, but there is no secret option of that name; "
        "secret options: password, sasl_password"
    )


def test_the_program_takes_all_its_secrets_from_the_environment(folder: Path) -> None:
    document = changed("modules/libera", IRC)
    document["appservice"] = {"sender_localpart": "_trestle.x"}
    config = write(folder, dump(document), 0o644)
    environment = {
        "TRESTLE_APPSERVICE_AS_TOKEN": AS_TOKEN, "TRESTLE_APPSERVICE_HS_TOKEN": HS_TOKEN,
        "TRESTLE_MODULES_LIBERA_PASSWORD": PASSWORD,
    }  # fmt: skip
    checked = run_program("config", "check", "-c", config, env=environment)
    assert (checked.code, checked.errors) == (0, "")
    alone = run_program("config", "check", "-c", config)
    assert alone.code == 2
    assert "appservice.as_token: is missing" in alone.said


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("modules/libera", {**IRC, "password": PASSWORD}, "modules.libera.password"),
        ("database/url", f"postgresql://u:{PASSWORD}@h/x", "database.url"),
        ("database/owner_url", f"postgresql://h/x?password={PASSWORD}", "database.owner_url"),
    ],
)
def test_settings_that_everybody_can_read_may_hold_no_password(
    folder: Path, path: str, value: object, named: str
) -> None:
    document = changed(path, value)
    for name, token in (("as_token", AS_TOKEN), ("hs_token", HS_TOKEN)):
        private_file(folder, name, token)
        del document["appservice"][name]
        document["appservice"][f"{name}_file"] = name
    config = write(folder, dump(document), 0o644)
    with pytest.raises(ConfigError) as refused:
        check_modules(load(config))
    assert refused.value.path == named
    assert f"run `chmod 600 {config}`" in str(refused.value)
    assert PASSWORD not in str(refused.value)
    config.chmod(0o640)
    check_modules(load(config))


def test_settings_without_a_secret_may_be_read_by_everybody(folder: Path) -> None:
    document = changed("database/url", "postgresql:///x?host=/run/postgresql")
    for name, token in (("as_token", AS_TOKEN), ("hs_token", HS_TOKEN)):
        private_file(folder, name, token)
        del document["appservice"][name]
        document["appservice"][f"{name}_file"] = name
    check_modules(load(write(folder, dump(document), 0o644)))


def test_a_key_that_everybody_can_read_is_refused_by_its_path(folder: Path) -> None:
    keys = folder / "state" / "keys" / "day"
    keys.mkdir(parents=True)
    (folder / "state" / "postgres").mkdir()
    day, password = keys / "2026-01-01", folder / "state" / "postgres" / "owner.password"
    for file in (day, password):
        private_file(file.parent, file.name, "x")
    refuse_exposed_keys(folder / "state")
    for file in (day, password):
        file.chmod(0o604)
        [found] = exposed_keys(folder / "state")
        assert found.reason == (
            f"everybody on this machine can read {file}, and it holds a key; "
            f"run `chmod 600 {file}`"
        )
        started = run_program("run", "-c", write(folder, dump(GOOD)))
        assert started.code == 2
        assert f"run `chmod 600 {file}`" in started.errors
        file.chmod(0o600)


def test_a_backup_needs_of_the_settings_only_where_everything_is(folder: Path) -> None:
    text = "homeserver: {url: https://x, server_name: hs}\nappservice: {nosuch: 1}\n"
    config = write(folder, text)
    found = read_essentials(config)
    assert (found.server_name, found.database.url) == ("hs", "embedded")
    assert found.state_dir == folder / "state"
    with pytest.raises(ConfigError, match=r"database\.url: must be"):
        read_essentials(write(folder, f"{config.read_text()}database: {{url: 5}}"))


def test_what_the_system_refuses_is_a_sentence(folder: Path) -> None:
    config = write(folder, dump(GOOD))
    group = type(main)("trestle")
    group.add_command(click.Command("read", callback=(folder / "nowhere").read_text))
    told = CliRunner().invoke(group, ["read"])
    assert told.exit_code == 1
    assert told.output == f"trestle: {folder}/nowhere: No such file or directory\n"

    def wait() -> None:
        raise TimeoutError

    group.add_command(click.Command("wait", callback=wait))
    told = CliRunner().invoke(group, ["wait"])
    assert told.output == "trestle: no answer in time; try again\n"
    (folder / "registration.yaml").mkdir()
    refused = trestle("backup", folder / "x", "--with-config", "-c", config)
    assert f"{folder}/registration.yaml cannot be read: Is a directory" in refused.errors


def test_all_that_is_wrong_is_found_in_one_reading(folder: Path) -> None:
    document = changed("homeserver/url", "ftp://x")
    document["appservice"]["hs_token"] = "CHANGE ME"
    document["limits"] = {"tries": 0}
    document["modules"] = {"Dice": {"module": "dice"}, "luck": 5}
    found = [error.path for error in read(write(folder, dump(document))).problems]
    assert found == [
        "homeserver.url", "appservice.hs_token", "modules.Dice", "modules.luck", "limits.tries",
    ]  # fmt: skip


def test_a_key_of_the_admins_own_may_hold_anchors(folder: Path) -> None:
    anchor = "x-irc: &quick\n  module: irc\n  servers: [{host: a}]\n"
    use = "modules:\n  libera:\n    <<: *quick\n    nick: span\n"
    config = write(folder, anchor + dump(GOOD).replace("modules:\n", use))
    assert irc_of(load(config)).nick == "span"


def test_an_instances_settings_are_equal_whoever_may_read_the_file() -> None:
    one = ModuleSettings(instance=InstanceId("x"), module="dice", exposed=Path("config.yaml"))
    assert one == ModuleSettings(instance=InstanceId("x"), module="dice")
