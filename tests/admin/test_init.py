"""``trestle init``: what it asks, what it writes, and that its result runs as it is."""

import os
import re
import stat
from pathlib import Path

import pytest

from bridge.config import load
from bridge.model import Permission
from tests.admin.commands import Outcome, at_a_terminal, command, init, read_yaml, trestle, typed

FILES = ("config.yaml", "registration.yaml")
HOST = "modules.irc.servers[0].host"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_registration_that_is_written_anew_stays_its_groups(folder: Path) -> None:
    assert init(folder).code == 0
    file = folder / "registration.yaml"
    assert file.stat().st_mode & 0o777 == 0o600
    if os.geteuid() == 0:
        os.chown(file, 0, 65534)
    group = file.stat().st_gid
    for before, after in ((0o640, 0o640), (0o644, 0o600)):
        file.chmod(before)
        assert trestle("registration", "-c", folder / "config.yaml").code == 0
        assert (file.stat().st_mode & 0o777, file.stat().st_gid) == (after, group)


GATE = """
from pydantic import BaseModel, Field, SecretStr
from bridge.sdk import ModuleInfo


class Settings(BaseModel):
    word: SecretStr = Field(description="The word.")


class Gate:
    info = ModuleInfo(id="gate", name="Gate", summary="Lets in who knows the word.")
    settings = Settings
    commands = ()

    def __init__(self, settings, host):
        pass
"""


def test_a_secret_that_is_asked_for_is_taken_as_it_is_typed_and_not_shown(folder: Path) -> None:
    info = folder / "site" / "gate-1.0.dist-info"
    info.mkdir(parents=True)
    (info.parent / "trestle_gate.py").write_text(GATE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gate\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[trestle.bots]\ngate = trestle_gate:Gate\n")
    words = command(
        "init", "--directory", folder / "new", "--homeserver-url", "http://127.0.0.1:8008",
        "--server-name", "test.example", "--admin", "@me:test.example", "--module", "gate",
    )  # fmt: skip
    with typed(["env", f"PYTHONPATH={info.parent}:{os.getcwd()}", *words]) as person:
        person.wait_for("The word (modules.gate.word):")
        person.type("2 #words\n")
        assert person.end() == 0, person.shown
        assert "#words" not in person.shown
    assert read_yaml(folder / "new" / "config.yaml")["modules"]["gate"]["word"] == "2 #words"


def test_a_registration_is_printed_where_nothing_may_be_written(folder: Path) -> None:
    assert init(folder).code == 0
    file = folder / "registration.yaml"
    printed = trestle("registration", "-o", "-", "-c", folder / "config.yaml")
    assert (printed.code, printed.errors) == (0, "")
    assert printed.output == file.read_text()
    assert sorted(path.name for path in folder.glob("*.yaml")) == ["config.yaml", file.name]
    nowhere = folder / "config.yaml" / "registration.yaml"
    refused = trestle("registration", "-o", nowhere, "-c", folder / "config.yaml")
    assert (refused.code, "`-o -` prints it" in refused.errors) == (2, True), refused.said


def test_it_asks_for_what_it_must_and_again_after_a_slip(folder: Path) -> None:
    with at_a_terminal("init", "--directory", folder / "new") as person:
        person.wait_for("URL of the homeserver [http://127.0.0.1:8008]:")
        person.type("matrix.example.org\n")
        person.wait_for("it begins with https:// or http://")
        person.type("https://matrix.example.org/\n")
        person.wait_for("Server name (the part of your Matrix ids after the colon):")
        person.type("https://example.org\n")
        person.wait_for("without https://")
        person.type("example.org\n")
        person.wait_for("Your Matrix id, @you:example.org, to be the admin (Enter: none):")
        person.type("you\n")
        person.wait_for("'you' is no Matrix id; write all of it")
        person.type("@you:example.org\n")
        person.wait_for("irc (network): Bridges rooms to IRC channels")
        person.wait_for("Which to switch on")
        person.type("\n")
        person.wait_for("Which to switch on")
        person.type("irk\n")
        person.wait_for("did you mean irc?")
        person.type("irc:libera, dice\n")
        person.wait_for("modules.libera.servers[0].host")
        person.type("irc.example.org\n")
        person.wait_for("modules.libera.servers[0].tls")
        person.type("\n")
        person.wait_for("modules.libera.own_network")
        person.type("y\n")
        person.wait_for("modules.libera.contact")
        person.type("admin@example.org\n")
        person.wait_for("Put this into homeserver.yaml:")
        assert person.end() == 0, person.shown
    settings = load(folder / "new" / "config.yaml")
    assert settings.homeserver.url == "https://matrix.example.org"
    assert settings.homeserver.server_name == "example.org"
    assert settings.permissions == {
        "*": Permission.NONE, "example.org": Permission.USER, "@you:example.org": Permission.ADMIN,
    }  # fmt: skip
    libera, dice = settings.modules.values()
    assert (libera.instance, libera.module) == ("libera", "irc")
    assert libera.options == {
        "servers": [{"host": "irc.example.org", "tls": True}],
        "own_network": True,
        "contact": "admin@example.org",
    }
    assert (dice.instance, dice.module) == ("dice", "dice")


def test_everything_can_be_given_by_flags(folder: Path) -> None:
    made = init(
        folder,
        *("--set", f"{HOST}=irc.example.org"),
        *("--set", "modules.irc.servers[1].host=irc2.example.org"),
        *("--set", "appservice.listen=127.0.0.1:5000"),
        *("--set", "permissions={test.example: user, '@root:test.example': admin}"),
        *("--set", "ops.listen=null"),
        *("--admin", "@eve:test.example"),
        modules=["irc", "dice:luck"],
    )
    assert made.code == 0, made.said
    settings = load(folder / "config.yaml")
    assert list(settings.modules) == ["irc", "luck"]
    assert settings.modules["irc"].options == {  # type: ignore[index]
        "servers": [{"host": "irc.example.org"}, {"host": "irc2.example.org"}]
    }
    assert settings.appservice.url == "http://127.0.0.1:5000"
    assert settings.ops.listen is None
    assert settings.state_dir == folder / "state"
    assert list(settings.permissions.items()) == [
        ("test.example", Permission.USER), ("@root:test.example", Permission.ADMIN),
        ("@eve:test.example", Permission.ADMIN),
    ]  # fmt: skip


def test_none_switches_no_module_on(folder: Path) -> None:
    assert init(folder, modules=["none"]).code == 0
    assert list(load(folder / "config.yaml").modules) == []


def test_who_names_no_admin_is_told_what_that_means_and_how_to_mend_it(folder: Path) -> None:
    made = init(folder / "nobody")
    assert made.code == 0
    assert "Nobody is an admin: nobody is invited to a status room" in made.output
    assert "name an admin in permissions, `'@you:test.example': admin`." in made.output
    assert "is an admin" not in init(folder / "me", "--admin", "@me:test.example").output
    answered = trestle(
        "init", "--directory", folder / "asked", "--homeserver-url", "http://127.0.0.1:8008",
        "--server-name", "test.example", "--module", "none", answers="\n",
    )  # fmt: skip
    assert answered.code == 0, answered.said
    assert list(load(folder / "asked" / "config.yaml").permissions) == ["*", "test.example"]


def test_it_prints_the_lines_for_the_homeserver_and_what_comes_next(folder: Path) -> None:
    place = folder / "a place: with words"
    made = init(place)
    between = made.output.partition("homeserver.yaml:\n\n")[2].partition("\n\nRestart")[0]
    lines = folder / "lines.yaml"
    lines.write_text(between)
    assert read_yaml(lines) == {"app_service_config_files": [str(place / "registration.yaml")]}
    assert "must reach Trestle at http://127.0.0.1:29333" in between
    copy = f"#   install -o matrix-synapse -m 600 '{place}/registration.yaml' /etc/matrix-synapse/"
    assert copy in between
    assert f"trestle run -c '{place}/config.yaml'\n" in made.output
    assert f"`trestle doctor -c '{place}/config.yaml'`" in made.output


def test_both_files_are_their_owners_whatever_the_umask_says(folder: Path) -> None:
    before = os.umask(0)
    try:
        init(folder)
    finally:
        os.umask(before)
    assert {mode_of(folder / name) for name in FILES} == {0o600}
    assert sorted(path.name for path in folder.iterdir()) == sorted((*FILES, "state"))


def test_tokens_and_the_sender_are_random_and_the_bots_are_users_of_the_namespace(
    folder: Path,
) -> None:
    seen: list[str] = []
    for number in range(3):
        place = folder / str(number)
        init(place)
        config, registration = (read_yaml(place / name) for name in FILES)
        for key in ("as_token", "hs_token", "sender_localpart"):
            assert registration[key] == config["appservice"][key]
            seen.append(registration[key])
        users = [re.compile(one["regex"]) for one in registration["namespaces"]["users"]]
        assert all(one["exclusive"] for one in registration["namespaces"]["users"])
        for user in ("@trestle:test.example", "@_trestle_dice:test.example"):
            assert any(one.match(user) for one in users), user
        assert registration["rate_limited"] is False
    assert len(set(seen)) == len(seen)
    assert all(len(one) >= 32 for one in seen)


def test_nothing_is_written_over_without_leave(folder: Path) -> None:
    init(folder)
    before = [(folder / name).read_bytes() for name in FILES]
    again = init(folder)
    assert again.code == 2
    assert again.errors.startswith(f"trestle: {folder} holds config.yaml and registration.yaml")
    assert "--force" in again.errors
    assert [(folder / name).read_bytes() for name in FILES] == before

    asked = trestle("init", "--directory", folder, answers="\n\n\n")
    assert asked.code == 2
    assert asked.output == ""  # Not after all the questions.

    (folder / "config.yaml").unlink()
    assert "holds registration.yaml already" in init(folder).errors
    (folder / "registration.yaml").chmod(0o644)
    assert init(folder, "--force").code == 0
    assert {mode_of(folder / name) for name in FILES} == {0o600}
    assert (folder / "registration.yaml").read_bytes() != before[1]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--homeserver-url", "x"], "homeserver.url: 'x' is no URL; it begins with https://"),
        (["--server-name", "http://x"], "homeserver.server_name: 'http://x' is no server name"),
        (["--admin", "me"], "--admin: 'me' is no Matrix id; write all of it, @you:example.org"),
        (
            ["--module", "irc:set", "--set", "modules.set.servers[0].host=x"],
            "modules.set: no netw",
        ),
        (["--module", "irk"], "--module: there is no module called 'irk'; did you mean irc?"),
        (["--module", "irc"], f"{HOST}: is missing; --set '{HOST}=...' gives it"),
        (["--module", "irc", "--set", "modules.irc.servers=3"], "modules.irc.servers: must be a"),
        (["--module", "dice:UP"], "modules.UP: an instance's id is a lower-case letter"),
        (["--module", "dice:a", "--module", "irc:a"], "--module: two modules would be called a"),
        (["--module", "dice:irc", "--module", "irc"], "--module: two modules would be called irc"),
        (["--set", "modules.dice.sides=6"], "modules.dice.sides: there is no such key"),
        (["--set", "nonsense"], "--set takes key=value, not 'nonsense'"),
        (["--set", "a=["], "a: its value is not YAML"),
        (["--set", "homeserver.uri=x"], "homeserver.uri: there is no such key; did you mean url"),
        (["--set", "homeserver=5"], "homeserver: must be keys and values"),
        (["--set", "homeserver.url.x=5"], "homeserver.url.x: url is a value, not a section"),
        (["--set", "modules.irc.servers[7].host=x"], "modules.irc.servers[7].host: servers has 0"),
        (["--set", "ops.listen=x"], "ops.listen: 'x' is no address; write host:port"),
        (["--set", "limits.tries=many"], "limits.tries: must be a whole number"),
    ],
)
def test_what_is_wrong_is_a_sentence_and_no_file(
    folder: Path, flags: list[str], sentence: str
) -> None:
    made = init(folder / "new", *flags)
    assert (made.code, made.output) == (2, "")
    assert made.errors.startswith(f"trestle: {sentence}")
    assert made.errors.count("\n") == 1
    assert not (folder / "new").exists()


def test_a_needed_flag_is_asked_for_by_name() -> None:
    assert trestle("init", "--yes") == Outcome(
        2, "", "trestle: --homeserver-url is needed with --yes\n"
    )
    assert trestle("init", "--yes", "--homeserver-url", "http://x") == Outcome(
        2, "", "trestle: --server-name is needed with --yes\n"
    )
    said = trestle("init", "--yes", "--homeserver-url", "http://x", "--server-name", "x.org")
    assert said == Outcome(
        2, "", "trestle: --module is needed with --yes: for example irc, or none\n"
    )


def test_a_folder_that_cannot_be_written_is_a_sentence(folder: Path) -> None:
    (folder / "file").write_text("")
    made = init(folder / "file" / "below")
    assert made.code == 2
    assert "cannot be written: Not a directory" in made.errors


def test_nobody_to_answer_is_a_sentence_and_no_file(folder: Path) -> None:
    made = trestle("init", "--directory", folder / "new", answers="")
    assert made.code == 2
    assert "trestle: nobody is there to answer; `--help` lists flags that do" in made.errors
    assert not (folder / "new").exists()


def test_ctrl_c_at_a_question_ends_it_quietly_and_leaves_no_file(folder: Path) -> None:
    with at_a_terminal("init", "--directory", folder / "new") as person:
        person.wait_for("URL of the homeserver")
        assert person.interrupt() == 130
        assert person.shown.splitlines()[1:] in ([], [""])
    assert not (folder / "new").exists()


def test_the_registration_can_be_written_again_from_the_settings(folder: Path) -> None:
    init(folder)
    first = (folder / "registration.yaml").read_bytes()
    (folder / "registration.yaml").unlink()
    again = trestle("registration", "-c", folder / "config.yaml")
    assert again.code == 0
    assert "Restart the homeserver" in again.output
    assert (folder / "registration.yaml").read_bytes() == first
    assert mode_of(folder / "registration.yaml") == 0o600
    elsewhere = trestle("registration", "-c", folder / "config.yaml", "-o", folder / "x" / "y")
    assert elsewhere.code == 2
    assert "cannot be written: No such file or directory" in elsewhere.errors


def test_the_sql_for_a_databases_admin_is_printed_and_nothing_else() -> None:
    made = trestle("init", "--print-sql")
    assert made.code == 0
    assert made.output.rstrip().endswith(";")
    assert "config.yaml" not in made.output
    for role in ("trestle_owner", "trestle_core", "trestle_subject"):
        assert f"CREATE ROLE {role} NOLOGIN" in made.output
