"""`trestle config check`, `show` and `upgrade` as an admin uses them."""

import json
import os
from pathlib import Path

import pytest

from bridge import __version__
from bridge.config import load
from bridge.model import Members
from bridge.running.reload import AT_ONCE, NEEDS_RESTART
from bridge.sdk.ids import InstanceId
from bridge.settings.records import Settings, keys_of
from bridge.upgrade import shipped
from tests.admin.commands import init, read_yaml, trestle
from tests.admin.documents import AS_TOKEN, GOOD, HS_TOKEN, changed, filled_in, write
from tests.rigs.yaml import dump

PASSWORD = "a-password-for-tests"
IRC = {"module": "irc", "servers": [{"host": "irc.example.org"}], "password": PASSWORD}


def test_what_init_writes_is_right_and_up_to_date(folder: Path) -> None:
    assert init(folder).code == 0
    checked = trestle("config", "check", "-c", folder / "config.yaml")
    assert (checked.code, checked.output) == (0, f"{folder / 'config.yaml'} is right: dice.\n")
    upgraded = trestle("config", "upgrade", "-c", folder / "config.yaml", "--yes")
    assert (
        upgraded.output == f"{folder / 'config.yaml'} is up to date with Trestle {__version__}.\n"
    )


def test_check_names_all_that_is_wrong_modules_included(folder: Path) -> None:
    document = changed("modules/libera", {**IRC, "nick": "9 lives"})
    document["modules"]["luck"] = {"module": "dise"}
    document["rooms"] = [{"room": "#x:example.org", "bridge": {"dice": "#x"}, "bots": ["nobody"]}]
    config = write(folder, dump(document))
    checked = trestle("config", "check", "-c", config)
    assert checked.code == 2
    assert [line.partition(": ")[0] for line in checked.output.splitlines()] == [
        "modules.libera.nick", "modules.luck.module", "rooms[0].bridge", "rooms[0].bots", "rooms",
    ]  # fmt: skip
    assert "modules has no network called 'dice'; there are: libera" in checked.output
    rows = json.loads(trestle("config", "check", "-c", config, "--json").output)
    assert rows[1] == {
        "path": "modules.luck.module",
        "reason": "there is no module called 'dise'; did you mean dice?",
    }


def test_templates_by_which_aliases_could_be_of_two_networks_are_named(folder: Path) -> None:
    document = changed("modules/libera", {**IRC, "alias_template": "#irc_{chat}"})
    document["modules"]["oftc"] = {**IRC, "alias_template": "#irc_{network}_{chat}"}
    document["modules"]["home"] = {**IRC, "alias_template": "#{chat}"}
    config = write(folder, dump(document))
    checked = trestle("config", "check", "-c", config)
    assert checked.output.startswith("modules.home.alias_template: it begins with #")
    document["modules"]["home"]["alias_template"] = "#h_{chat}"
    checked = trestle("config", "check", "-c", write(folder, dump(document)))
    assert checked.code == 2
    assert checked.output.startswith(
        "modules.oftc.alias_template: aliases by it could not be told"
    )
    assert checked.output.count("\n") == 1


@pytest.mark.parametrize(
    ("rooms", "sentence"),
    [
        ({"#x:y": []}, "rooms: must be a list of rooms"),
        (["#x:y"], "rooms[0]: must be keys and values: room, bridge, bots"),
        ([{"bots": ["dice"]}], "rooms[0].room: must be a room's alias or id"),
        ([{"room": "x"}], "rooms[0].room: must be a room's alias or id"),
        ([{"room": "#x:y", "bot": ["dice"]}], "rooms[0].bot: there is no such key; did you mean"),
        ([{"room": "#x:y", "bots": [5]}], "rooms[0].bots: must be a text or a list of texts"),
        ([{"room": "#x:y", "bridge": ["a"]}], "rooms[0].bridge: must be networks and their chats"),
        ([{"room": "#x:y", "bridge": {"a": 5}}], "rooms[0].bridge.a: must be a text or a list"),
        ([{"room": "!x"}, {"room": "!x"}], "rooms[1]: !x stands there twice"),
    ],
)
def test_a_wrong_room_is_named_by_its_path(folder: Path, rooms: object, sentence: str) -> None:
    config = write(folder, dump(changed("rooms", rooms)))
    checked = trestle("config", "check", "-c", config)
    assert checked.code == 2
    assert checked.output.startswith(sentence)
    assert checked.output.count("\n") == 1


def test_show_says_what_takes_effect_and_where_it_comes_from(folder: Path) -> None:
    (folder / "secret").write_text(HS_TOKEN)
    (folder / "secret").chmod(0o600)
    document = changed("modules/libera", IRC)
    del document["appservice"]["hs_token"]
    document["appservice"]["hs_token_file"] = "secret"
    document["database"] = {"url": f"postgresql://u:{PASSWORD}@h/x"}
    document["permissions"] = {"*": "none", "@a:example.org": "admin"}
    config = write(folder, dump(document))
    os.environ["TRESTLE_APPSERVICE_AS_TOKEN"] = AS_TOKEN[::-1]
    try:
        shown = trestle("config", "show", "-c", config)
        rows = json.loads(trestle("config", "show", "-c", config, "--json").output)
    finally:
        del os.environ["TRESTLE_APPSERVICE_AS_TOKEN"]
    assert shown.code == 0, shown.said
    for secret in (AS_TOKEN, AS_TOKEN[::-1], HS_TOKEN, PASSWORD):
        assert secret not in shown.said
        assert secret not in json.dumps(rows)
    found = {row["key"]: (row["value"], row["source"]) for row in rows}
    assert found["homeserver.url"] == ("https://matrix.example.org", "config.yaml, line 2")
    assert found["appservice.as_token"] == (
        "[hidden]", "environment TRESTLE_APPSERVICE_AS_TOKEN",
    )  # fmt: skip
    assert found["appservice.hs_token"] == ("[hidden]", f"file {folder / 'secret'}")
    assert found["appservice.url"] == ("http://127.0.0.1:29333", "from listen")
    assert found["database.url"][0] == "postgresql://u:[hidden]@h/x"
    assert found["limits.tries"] == (3, "default")
    assert found["permissions.@a:example.org"][0] == "admin"
    assert found["modules.libera.password"][0] == "[hidden]"
    assert found["modules.libera.nick"] == ("trestle", "default")
    assert found["modules.libera.servers"][0][0]["host"] == "irc.example.org"
    (folder / "shown.yaml").write_text(shown.output)
    read_again = read_yaml(folder / "shown.yaml")
    assert read_again["limits"]["tries"] == 3
    assert read_again["modules"]["libera"]["servers"][0]["port"] == 0
    assert read_again["ops"] == {"listen": "127.0.0.1:9184"}


def test_show_leaves_no_trace_in_how_others_write_yaml(folder: Path) -> None:
    assert trestle("config", "show", "-c", write(folder, dump(GOOD))).code == 0
    assert dump({"nothing": None}) == "nothing:\n"


def test_of_every_section_it_is_known_whether_it_needs_a_restart() -> None:
    assert sorted([*NEEDS_RESTART, *AT_ONCE, "modules"]) == sorted(keys_of(Settings))


# --- upgrade ---


def old_file(folder: Path) -> Path:
    """The example of the first version, filled in and made an admin's own."""
    text = filled_in(shipped()["0.1.0"])
    text = text.replace("modules:\n", "modules:   # ask Maria first\n")
    text = text.replace("  # tries: 3\n", "  tries: 7   # the network is flaky\n")
    sections = text.split("\n\n")
    return write(folder, "\n\n".join([*sections[:1], *sections[:0:-1]]), 0o640)


def test_upgrade_shows_the_difference_and_asks_before_it_changes_the_file(folder: Path) -> None:
    config = old_file(folder)
    text = config.read_text()
    shown = trestle("config", "upgrade", "-c", config, "--diff")
    assert shown.code == 0, shown.said
    assert "+# rooms:" in shown.output
    assert "* rooms is new" in shown.output
    declined = trestle("config", "upgrade", "-c", config, answers="n\n")
    assert declined.code == 1
    assert config.read_text() == text
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]
    accepted = trestle("config", "upgrade", "-c", config, answers="y\n")
    assert accepted.code == 0, accepted.said
    assert config.read_text() != text


def test_an_upgraded_file_is_right_says_the_same_and_is_not_changed_again(folder: Path) -> None:
    config = old_file(folder)
    before, text = load(config), config.read_text()
    upgraded = trestle("config", "upgrade", "-c", config, "--yes")
    assert upgraded.code == 0, upgraded.said
    copy = folder / f"config.yaml.before-{__version__}"
    assert copy.read_text() == text
    assert {path.stat().st_mode & 0o777 for path in (copy, config)} == {0o640}
    assert load(config) == before
    after = config.read_text()
    assert "modules:   # ask Maria first\n" in after
    assert "  tries: 7   # the network is flaky\n" in after
    assert after.index("limits:") < after.index("homeserver:")
    assert trestle("config", "check", "-c", config).code == 0
    again = trestle("config", "upgrade", "-c", config, "--yes")
    assert again.output == f"{config} is up to date with Trestle {__version__}.\n"
    assert config.read_text() == after
    assert sorted(path.name for path in folder.iterdir()) == [config.name, copy.name]


def test_members_all_of_before_is_full_to_the_new_version_and_stays_as_it_is_written(
    folder: Path,
) -> None:
    config = old_file(folder)
    config.write_text(
        config.read_text().replace("    module: irc\n", "    module: irc\n    members: all\n")
    )
    assert trestle("config", "check", "-c", config).code == 0
    assert trestle("config", "upgrade", "-c", config, "--yes").code == 0
    assert "    members: all\n" in config.read_text()
    assert load(config).modules[InstanceId("libera")].rules.members is Members.FULL
    wrong = config.read_text().replace("members: all", "members: everybody")
    config.write_text(wrong)
    said = trestle("config", "check", "-c", config).output
    assert said.startswith("modules.libera.members: 'everybody' is none of full, speakers, none")


def test_no_secret_is_shown_in_the_difference(folder: Path) -> None:
    config = old_file(folder)
    tokens = [load(config).appservice.as_token, *load(config).appservice.hs_tokens]
    config.write_text(
        config.read_text().replace("  libera:\n", f"  libera:\n    password: {PASSWORD}\n")
    )
    shown = trestle("config", "upgrade", "-c", config, "--diff")
    assert shown.code == 0, shown.said
    for name in ("as_token", "hs_token", "password"):
        assert f" {name}: [hidden]\n" in shown.output
    for secret in (*(token.reveal() for token in tokens), PASSWORD):
        assert secret not in shown.said


def test_no_secret_is_shown_in_the_difference_of_a_file_that_is_wrong(folder: Path) -> None:
    config = old_file(folder)
    secrets = ("anchored-s3cr3t-token", "abc-s3cr3t,def-s3cr3t-rest", "20261127", "s3cr3t@half")
    text = (
        f"appservice:\n  # What we show to the homeserver. `trestle init` makes it.\n"
        f"  as_token: &t {secrets[0]}\n  hs_token: {secrets[1]}\n  hs_token_old: {secrets[2]}\n"
        f"  tries: wrong\ndatabase:\n  url: postgresql://u:{secrets[3]}@h/db\n"
    )
    config.write_text(text)
    shown = trestle("config", "upgrade", "-c", config, "--diff")
    assert shown.code == 0, shown.said
    assert "postgresql://u:[hidden]@h/db" in shown.output
    assert "s3cr3t" not in shown.said
    assert secrets[2] not in shown.said  # A number, since it has no quotes.
    config.write_text(dump(changed("database/url", "postgresql://u:half@SECRETHALF@h/db")))
    assert "SECRETHALF" not in trestle("config", "show", "-c", config).said


def test_what_was_wrong_before_is_said_and_does_not_stand_in_the_way(folder: Path) -> None:
    config = old_file(folder)
    config.write_text(config.read_text().replace("  tries: 7", "  tries: none"))
    upgraded = trestle("config", "upgrade", "-c", config, "--yes")
    assert upgraded.code == 0, upgraded.said
    assert "* still wrong with it: limits.tries: must be a whole number" in upgraded.output


def test_a_file_of_a_newer_version_is_left_as_it_is(folder: Path) -> None:
    config = write(folder, f"# Settings of Trestle 99.0.\n{dump(GOOD)}")
    refused = trestle("config", "upgrade", "-c", config, "--yes")
    assert (refused.code, "is for Trestle 99.0, which is newer" in refused.errors) == (2, True)
    assert trestle("config", "check", "-c", config).code == 0


def test_a_link_to_the_settings_stays_a_link(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    real = old_file(folder / "elsewhere")
    (folder / "config.yaml").symlink_to(real)
    assert trestle("config", "upgrade", "-c", folder / "config.yaml", "--yes").code == 0
    assert (folder / "config.yaml").is_symlink()
    assert "# rooms:" in real.read_text()


def test_what_cannot_be_read_is_refused_by_every_command(folder: Path) -> None:
    for name in ("check", "show", "upgrade"):
        ended = trestle("config", name, "-c", folder / "nowhere.yaml")
        assert (ended.code, ended.errors) == (
            2, f"trestle: there is no {folder / 'nowhere.yaml'}; `trestle init` writes one\n",
        )  # fmt: skip
    config = write(folder, "a: [\n")
    told = json.loads(trestle("config", "check", "--json", "-c", config).output)
    assert "line 2 is not YAML" in told[0]["reason"]
    for name in ("check", "show", "upgrade"):
        ended = trestle("config", name, "-c", config)
        assert ended.code == 2
        assert ", line 2 is not YAML" in ended.errors
    config = write(folder, dump({**GOOD, "homserver": {}}))
    assert "did you mean homeserver?" in trestle("config", "show", "-c", config).errors
