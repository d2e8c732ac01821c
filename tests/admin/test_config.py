"""Reading config.yaml: each thing that is wrong is a sentence that names its place."""

import os
import re
from pathlib import Path

import pytest

from bridge.config import load, read_settings
from bridge.matrix.registration import read_registration
from bridge.model import Announce, InstanceRules, Members, Permission, Puppets
from bridge.running.roster import check_modules
from bridge.sdk.errors import ConfigError
from bridge.sdk.ids import InstanceId
from bridge.settings.records import Address, Settings
from tests.admin.commands import trestle
from tests.admin.documents import AS_TOKEN, GOOD, HS_TOKEN, MISSING, changed, write
from tests.rigs.yaml import dump


def refusal(folder: Path, document: object) -> str:
    with pytest.raises(ConfigError) as refused:
        read_settings(document, folder=folder)
    assert str(refused.value) == f"{refused.value.path}: {refused.value.reason}"
    assert AS_TOKEN not in str(refused.value)
    return str(refused.value)


def test_what_the_core_asks_of_a_module_stands_beside_its_options(folder: Path) -> None:
    rules = {
        "permissions": {"*": "relay", "@you:example.org": "admin"}, "puppets": "login",
        "announce": "before", "announce_in": "direct", "alias_template": "#irc_{chat}",
        "privacy": True, "members": "none", "most_rooms": 0, "alias_rooms_hourly": 7,
    }  # fmt: skip
    settings = read_settings(
        changed("modules/dice", {"module": "dice", "sides": 8, **rules}), folder=folder
    )
    module = settings.modules[InstanceId("dice")]
    assert module.options == {"sides": 8}
    assert module.rules == InstanceRules(
        permissions={"*": Permission.RELAY, "@you:example.org": Permission.ADMIN},
        puppets=Puppets.LOGIN, announce=Announce.BEFORE, announce_direct=True,
        alias_template="#irc_{chat}",
        privacy=True, members=Members.NONE, most_rooms=0, alias_rooms_hourly=7,
    )  # fmt: skip
    plain = read_settings(dict(GOOD), folder=folder).modules[InstanceId("dice")]
    assert plain.rules == InstanceRules()
    former = read_settings(
        changed("modules/dice", {"module": "dice", "members": "all"}), folder=folder
    ).modules[InstanceId("dice")]
    assert former.rules.members is Members.FULL


def test_the_least_that_must_be_said_is_enough(folder: Path) -> None:
    settings = load(write(folder, dump(GOOD)))
    assert settings.appservice.listen == Address("127.0.0.1", 29333)
    assert settings.appservice.url == "http://127.0.0.1:29333"
    assert settings.database.url == "embedded"
    assert settings.state_dir == folder / "state"
    assert settings.logging.format == "console"


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("homserver", "homserver: there is no such key; did you mean homeserver?"),
        ("homeserver/uri", "homeserver.uri: there is no such key; did you mean url?"),
        ("as_token", "as_token: there is no such key here; it belongs under appservice"),
        ("listen", "listen: there is no such key here; it belongs under"),
        ("ops/zebra", "ops.zebra: there is no such key; the keys here are listen"),
        ("modules/dice/sides", "modules.dice.sides"),
    ],
)
def test_an_unknown_key_is_named_with_the_way_out(folder: Path, path: str, sentence: str) -> None:
    file = write(folder, dump(changed(path, "something")))
    ended = trestle("run", "-c", file)
    assert ended.code == 2
    assert sentence in ended.errors  # As the log, where that is on by then.
    assert ended.errors.count("\n") == 1


@pytest.mark.parametrize(
    "path",
    ["homeserver", "homeserver/url", "homeserver/server_name", "appservice",
     "appservice/as_token", "appservice/hs_token", "appservice/sender_localpart"],
)  # fmt: skip
def test_what_is_missing_is_named(folder: Path, path: str) -> None:
    named, _, reason = refusal(folder, changed(path, MISSING)).partition(": ")
    assert named.startswith(path.replace("/", "."))
    assert reason == "is missing"
    assert "is missing" in refusal(folder, changed(path, None))


@pytest.mark.parametrize("text", ["CHANGE ME", "change_me", "<your token>", "xxx", "...",
                                  "replace-me", "YOUR_TOKEN", " CHANGE ME "])  # fmt: skip
@pytest.mark.parametrize("path", ["appservice/as_token", "appservice/sender_localpart"])
def test_a_placeholder_is_no_value(folder: Path, path: str, text: str) -> None:
    said = refusal(folder, changed(path, text))
    assert said == f"{path.replace('/', '.')}: is a placeholder; put your own value here"


def test_a_modules_placeholder_is_none_either_and_a_secret_with_such_words_is_kept(
    folder: Path,
) -> None:
    irc = {"module": "irc", "servers": [{"host": "x"}], "sasl_account": "u"}
    for text in ("CHANGE ME", "exchangeme-s3cr3tX9", "<{s3cr3t}>", "my your token is 9"):
        document = changed("modules/libera", {**irc, "sasl_password": text})
        document["modules"]["libera"]["relay_name"] = "<{name}>"
        document["web"] = {"policy": "We may change messages."}
        settings = read_settings(document, folder=folder)
        if text != "CHANGE ME":
            check_modules(settings)
            continue
        with pytest.raises(ConfigError) as refused:
            check_modules(settings)
        assert str(refused.value).startswith("modules.libera.sasl_password: is a placeholder")


def test_no_network_is_called_as_a_word_of_the_bot_and_a_bot_of_a_module_may_be(
    folder: Path,
) -> None:
    irc = {"module": "irc", "servers": [{"host": "x"}]}
    for word in ("help", "set", "status"):
        check_modules(read_settings(changed(f"modules/{word}", {"module": "dice"}), folder=folder))
        with pytest.raises(ConfigError) as refused:
            check_modules(read_settings(changed(f"modules/{word}", irc), folder=folder))
        assert str(refused.value) == (
            f"modules.{word}: no network can be called so: `!trestle {word}` is a command of the "
            "bot's own, and those of the network would not be heard; give it another name"
        )


def test_a_variable_with_a_slip_of_the_pen_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        read_settings(GOOD, folder=folder, environment={"TRESTLE_APPSERVICE_AS_TOKN": AS_TOKEN})
    assert str(refused.value).endswith("did you mean TRESTLE_APPSERVICE_AS_TOKEN?")
    read_settings(GOOD, folder=folder, environment={"TRESTLE_DATABASE_PORT": "tcp://10.0.0.1"})
    assert AS_TOKEN not in str(refused.value)


def test_a_token_where_its_file_belongs_is_not_quoted_and_a_pipe_keeps_nobody_waiting(
    folder: Path,
) -> None:
    os.mkfifo(folder / "pipe")
    for name, words in ((AS_TOKEN, "and not the secret itself"), ("pipe", "is no file")):
        document = changed("appservice/as_token", MISSING)
        document["appservice"]["as_token_file"] = name
        assert words in refusal(folder, document)


ENDLESS = "holds values inside values, too deep or without end"
NO_TEXT = "holds a NUL (\\0) or half a character, which no text may hold"
NO_VALUE = "is not YAML: it holds a number or a date that there cannot be"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("state_dir: &a [*a]", ENDLESS), ("rooms: &a {x: {module: dice, y: *a}}", ENDLESS),
        (f"state_dir: {'[' * 2000}{']' * 2000}", ENDLESS),
        (f"state_dir: {'[' * 60}{']' * 60}", ENDLESS), ('state_dir: "a\\0b"', NO_TEXT),
        ('as_token: "\\ud800"', NO_TEXT), ("? {a: 1}\n: 2", "found unhashable key"),
        (f"limits: {{tries: {'9' * 9000}}}", NO_VALUE), ("a: 2001-99-99", NO_VALUE),
        (f"ops: {{listen: 'x:{'9' * 9000}'}}", " is no address; write host:port"),
    ],
)  # fmt: skip
def test_an_odd_file_is_refused_in_words(folder: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        load(write(folder, dump(GOOD) + text))


@pytest.mark.parametrize("text", ["short", "with a bell \x07 in it....", "ümläuts are no tokens"])
def test_what_is_no_token_is_refused_unquoted(folder: Path, text: str) -> None:
    said = refusal(folder, changed("appservice/hs_token", text))
    assert said.startswith("appservice.hs_token: is no token")
    assert text not in said


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("permissions", {"@x*:example.org": "none"}, "permissions.@x*:example.org: must be `*`"),
        ("permissions", {5: "user"}, "permissions.5: must be `*`"),
        ("limits/watchdog", 0.1, "limits.watchdog: must be 1 or more"),
        ("homeserver", "https://x", "homeserver: must be keys and values"),
        ("homeserver/url", 5, "homeserver.url: must be text; put it in quotes"),
        ("homeserver/url", "ftp://x", "homeserver.url: 'ftp://x' is no URL"),
        ("homeserver/url", "https://x?y", "homeserver.url: must end with its path"),
        ("homeserver/url", "https://[x", "homeserver.url: 'https://[x' is no URL"),
        ("homeserver/url", "https://a..b/", "homeserver.url: there can be no host 'a..b'"),
        ("homeserver/url", "https://a b", "homeserver.url: there can be no host 'a b'"),
        ("homeserver/server_name", "a b", "homeserver.server_name: 'a b' is no server name"),
        ("appservice/as_token", 12345678901234567890, "appservice.as_token: must be text"),
        ("appservice/as_token", HS_TOKEN, "appservice.as_token: must differ from hs_token"),
        ("appservice/sender_localpart", "A B", "appservice.sender_localpart: may hold a-z"),
        ("appservice/listen", 29333, "appservice.listen: must be text"),
        (
            "appservice/listen",
            "29333",
            "appservice.listen: '29333' is no address; write host",
        ),
        ("appservice/listen", "x:99999", "appservice.listen: 'x:99999' is no address"),
        ("appservice/listen", "[]:80", "appservice.listen: there can be no host ''"),
        ("appservice/listen", "a b:80", "appservice.listen: there can be no host 'a b'"),
        ("appservice/listen", "::1:80", "appservice.listen: '::1:80': put the IPv6 address in"),
        ("appservice/legacy_query_token", "yes", "appservice.legacy_query_token: must be true or"),
        ("appservice/max_body_bytes", "64 MiB", "appservice.max_body_bytes: must be a whole"),
        ("appservice/max_body_bytes", 0, "appservice.max_body_bytes: must be more than 0"),
        ("database/url", "mysql://x", "database.url: must be `embedded` or begin with postgresql"),
        ("database/url", "postgresql://u:p#w@h/x", "database.url: is no URL of a Postgres"),
        ("database/url", "postgresql://u@h,a..b/x", "database.url: is no URL of a Postgres"),
        ("state_dir", 5, "state_dir: must be text"),
        ("ops/listen", True, "ops.listen: must be text"),
        ("web/manager_url", "manager", "web.manager_url: 'manager' is no URL"),
        ("web/homeservers", ["x"], "web.homeservers: must be pairs, {a: b}"),
        ("web/homeservers", {"x": 5}, "web.homeservers: must hold texts"),
        ("fetching/allow", "feeds.lan", "fetching.allow: must be a list, [a, b]"),
        ("fetching/allow", [80], "fetching.allow: must hold texts"),
        ("logging/format", "xml", "logging.format: 'xml' is none of console, json"),
        ("logging/level", "loud", "logging.level: 'loud' is none of debug, info"),
        ("limits/item_deadline", "long", "limits.item_deadline: must be a number"),
        ("limits/tries", 2.5, "limits.tries: must be a whole number"),
        ("permissions", ["*"], "permissions: must be keys and values"),
        ("permissions/@x", "user", "permissions.@x: must be `*`, a server name or a Matrix id"),
        ("permissions/*", "king", "permissions.*: 'king' is no level: none, relay, user or admin"),
        ("modules", ["dice"], "modules: must name instances"),
        ("modules/Dice", {"module": "dice"}, "modules.Dice: an instance's id is a lower-case"),
        ("modules/luck", {}, "modules.luck: must say which module it is: `module: irc`"),
        ("modules/luck", "dice", "modules.luck: must say which module it is"),
        ("modules/dice/puppets", "all", "modules.dice.puppets: 'all' is none of automatic, login"),
        ("modules/dice/announce", 5, "modules.dice.announce: 5 is none of first, before"),
        ("modules/dice/announce_in", "mail", "modules.dice.announce_in: 'mail' is none of room"),
        ("modules/dice/privacy", "yes", "modules.dice.privacy: must be true or false"),
        ("modules/dice/members", "half", "modules.dice.members: 'half' is none of full, speakers"),
        ("modules/dice/permissions", "user", "modules.dice.permissions: must be keys and values"),
        ("modules/dice/permissions/*", "king", "modules.dice.permissions.*: 'king' is no level"),
    ],
)
def test_a_wrong_value_is_named_by_its_path(
    folder: Path, path: str, value: object, sentence: str
) -> None:
    assert refusal(folder, changed(path, value)).startswith(sentence)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "servers: is missing"),
        ({"servers": "irc.example.org"}, "servers: must be a list"),
        ({"servers": []}, "servers: "),
        ({"servers": ["irc.example.org"]}, "servers[0]: must be keys and values"),
        ({"servers": [{"host": 5}]}, "servers[0].host: must be text; put it in quotes"),
        ({"servers": [{"host": "x", "port": 70000}]}, "servers[0].port: must be less than"),
        ({"servers": [{"host": "x", "tsl": True}]}, "servers[0].tsl: there is no such key"),
        ({"servers": [{"host": "x"}], "mode": "all"}, "mode: must be 'puppets' or 'relay'"),
        ({"servers": [{"host": "x"}], "nick": "9 lives"}, "nick: '9 lives' is no IRC nick"),
        ({"servers": [{"host": "x"}], "sasl_account": "x"}, " sasl_account and sasl_password go"),
        ({"servers": [{"host": "x"}], "passwort": "x"}, "passwort: there is no such key; did you"),
    ],
)
def test_a_wrong_option_of_a_module_is_named_by_its_path(
    folder: Path, options: dict[str, object], sentence: str
) -> None:
    file = write(folder, dump(changed("modules/libera", {"module": "irc", **options})))
    ended = trestle("registration", "-c", file)
    assert ended.code == 2
    assert ended.errors.startswith("trestle: modules.libera")
    assert sentence in ended.errors
    assert ended.errors.count("\n") == 1
    assert not (folder / "registration.yaml").exists()


# --- the file itself ---


def test_a_missing_file_says_how_to_get_one(folder: Path) -> None:
    for name in ("run", "doctor", "registration"):
        ended = trestle(name, "-c", folder / "nowhere.yaml")
        assert ended.code == 2
        assert ended.errors == (
            f"trestle: there is no {folder / 'nowhere.yaml'}; `trestle init` writes one\n"
        )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("homeserver:\n  url: [\n", ", line 3 is not YAML"),
        ("a: 1\n b: 2\n", ", line 2 is not YAML"),
        ("a: 1\na: 2\n", ", line 2: a key stands there twice"),
        (f"appservice:\n  as_token: {AS_TOKEN}: x\n", ", line 2 is not YAML"),
        ("a: \x07\n", " is not YAML: it holds characters that YAML does not allow"),
        ("- homeserver\n", "the settings must be keys and values"),
        ("", "homeserver: is missing"),
    ],
)
def test_what_is_not_yaml_is_named_by_its_line_and_not_quoted(
    folder: Path, text: str, sentence: str
) -> None:
    file = write(folder, text)
    ended = trestle("run", "-c", file)
    assert ended.code == 2
    assert sentence in ended.errors
    assert AS_TOKEN not in ended.errors
    assert ended.errors.count("\n") == 1


def test_a_folder_or_bytes_are_no_settings(folder: Path) -> None:
    assert trestle("run", "-c", folder).errors == (
        f"trestle: {folder} cannot be read: Is a directory\n"
    )
    os.mkfifo(folder / "pipe")
    nothing = "a pipe that gives nothing, or no end"
    for place, what in ((folder / "pipe", nothing), (Path("/dev/zero"), "a device")):
        for words in (["config", "check"], ["config", "upgrade"], ["status"]):
            assert trestle(*words, "-c", place).errors == (
                f"trestle: {place} cannot be read: it is {what}; give a file\n"
            )
    with pytest.raises(ConfigError, match="it is a pipe that gives nothing"):
        read_registration(folder / "pipe")
    (folder / "config.yaml").write_bytes(b"a: \xff\xff")
    ended = trestle("run", "-c", folder / "config.yaml")
    assert ended.code == 2
    assert "is not YAML" in ended.errors


def test_tokens_that_everybody_can_read_are_refused(folder: Path) -> None:
    file = write(folder, dump(GOOD), 0o644)
    with pytest.raises(ConfigError, match=f"run `chmod 600 {file}`"):
        load(file)
    file.chmod(0o640)  # A group is the admin's own affair.
    load(file)


def test_the_command_that_mends_holds_in_a_folder_with_a_space(folder: Path) -> None:
    (folder / "my home").mkdir()
    file = write(folder / "my home", dump(GOOD), 0o644)
    with pytest.raises(ConfigError, match=f"run `chmod 600 '{file}'`"):
        load(file)


# --- secrets elsewhere ---


def with_files(folder: Path, **files: str) -> Path:
    """Settings whose tokens stand in files beside them, as orchestrators hand them in."""
    document = changed("appservice/as_token", MISSING)
    del document["appservice"]["hs_token"]
    for name, text in {"as_token": AS_TOKEN, "hs_token": HS_TOKEN, **files}.items():
        document["appservice"][f"{name}_file"] = f"secrets/{name}"
        (folder / "secrets").mkdir(exist_ok=True)
        (folder / "secrets" / name).write_text(f"{text}\n")
        (folder / "secrets" / name).chmod(0o600)
    return write(folder, dump(document), 0o644)


def test_tokens_in_files_of_their_own_are_found_beside_the_settings(folder: Path) -> None:
    here = Path.cwd()
    settings = load(with_files(folder, hs_token_old="the-token-before-this"))
    assert settings.appservice.as_token.reveal() == AS_TOKEN
    accepted = [token.reveal() for token in settings.appservice.hs_tokens]
    assert accepted == [HS_TOKEN, "the-token-before-this"]
    os.chdir(folder)
    try:
        assert load(Path("config.yaml")).appservice == settings.appservice
    finally:
        os.chdir(here)


def test_a_bad_file_of_a_token_is_named_by_key_and_path(folder: Path) -> None:
    config, file = with_files(folder), folder / "secrets" / "as_token"

    def said() -> str:
        ended = trestle("run", "-c", config)
        assert ended.code == 2
        return ended.errors

    file.chmod(0o644)
    start = "trestle: appservice.as_token_file: "
    assert said() == (
        f"{start}everybody on this machine can read {file}; run `chmod 600 {file}`\n"
    )
    file.chmod(0o600)
    file.write_text("\n")
    assert said() == f"{start}{file} is empty\n"
    file.write_text("CHANGE ME BEFORE YOU RUN IT")
    assert said().startswith("trestle: appservice.as_token: is a placeholder")
    file.unlink()
    assert said() == f"{start}{file} cannot be read: No such file or directory\n"
    config.write_text(
        config.read_text().replace("as_token_file", f"as_token: {AS_TOKEN}\n  as_token_file")
    )
    config.chmod(0o600)
    assert "appservice.as_token: give either as_token or as_token_file, not both" in said()


def test_a_token_may_come_by_the_environment(folder: Path) -> None:
    document = changed("appservice/as_token", MISSING)
    environment = {"TRESTLE_APPSERVICE_AS_TOKEN": AS_TOKEN}
    settings = read_settings(document, folder=folder, environment=environment)
    assert settings.appservice.as_token.reveal() == AS_TOKEN


def test_no_secret_is_in_what_is_printed_of_the_settings(folder: Path) -> None:
    document = changed("database/url", "postgresql://u:the-password@h/x")
    options = {"module": "irc", "servers": [{"host": "x"}], "password": "the-password-too"}
    document["modules"]["libera"] = options
    settings: Settings = read_settings(document, folder=folder)
    for secret in (AS_TOKEN, HS_TOKEN, "the-password"):
        assert secret not in repr(settings)
        assert secret not in str(settings)


def test_a_database_may_be_reached_by_a_folder_of_sockets_however_long(folder: Path) -> None:
    url = f"postgresql://u@{'%2Fvar%2Flib%2F' + 'x' * 90}/trestle"
    assert read_settings(changed("database/url", url), folder=folder).database.url == url


def test_lists_and_pairs_of_texts_are_read(folder: Path) -> None:
    others = {"o.example": "https://m.o.example"}
    settings = read_settings(changed("web/homeservers", others), folder=folder)
    assert settings.web.homeservers == others
    assert settings.web.manager_url is None
    hosts = ["feeds.lan", "10.0.0.0/8"]
    settings = read_settings(changed("fetching/allow", hosts), folder=folder)
    assert settings.fetching.allow == tuple(hosts)
