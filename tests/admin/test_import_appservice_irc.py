"""``trestle import appservice-irc``, as docs/how-to/import.md says: from its Postgres."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest_asyncio
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from bridge.settings.records import DatabaseSettings
from tests.admin.commands import trestle
from tests.admin.importing import (
    config_in,
    homeserver_beside,
    log_out,
    opt_in,
    opted_out,
    sign_in,
    state_of,
)
from tests.rigs.cluster import Cluster
from tests.rigs.scripted_homeserver import Answer, Asked, refuse

ALICE, BOB, GONE = "@alice:test.example", "@bob:test.example", "@gone:test.example"
ODD = "@odd:test.example"
DOMAIN, OTHER = "irc.own.example", "irc.other.example"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SCHEMA = """
CREATE TABLE schema (version INTEGER UNIQUE NOT NULL);
INSERT INTO schema VALUES (9);
CREATE TABLE rooms (
    origin TEXT NOT NULL, room_id TEXT NOT NULL, type TEXT NOT NULL, irc_domain TEXT NOT NULL,
    irc_channel TEXT NOT NULL, irc_json JSON NOT NULL, matrix_json JSON NOT NULL,
    CONSTRAINT cons_rooms_unique UNIQUE (room_id, irc_domain, irc_channel)
);
CREATE TABLE pm_rooms (
    room_id TEXT UNIQUE, irc_domain TEXT NOT NULL, irc_nick TEXT NOT NULL, matrix_user_id TEXT,
    virtual_user_id TEXT
);
CREATE TABLE client_config (
    user_id TEXT, domain TEXT NOT NULL, config JSON, password TEXT,
    CONSTRAINT cons_client_config_unique UNIQUE (user_id, domain)
);
CREATE TABLE admin_rooms (room_id TEXT UNIQUE, user_id TEXT);
INSERT INTO admin_rooms VALUES ('!talk:test.example', '@alice:test.example');
CREATE TABLE deactivated_users (user_id TEXT PRIMARY KEY, ts BIGINT NOT NULL);
CREATE TABLE user_features (user_id TEXT UNIQUE NOT NULL, features TEXT);
CREATE TABLE room_visibility (room_id TEXT UNIQUE NOT NULL, visibility TEXT);
INSERT INTO room_visibility VALUES ('!town:test.example', 'public');
INSERT INTO room_visibility VALUES ('!made:test.example', 'private');
"""


def sealed(password: str) -> str:
    """Seal it as Node's ``publicEncrypt`` does by itself."""
    text = base64.b64encode(bytes(16)) + b" " + password.encode()
    sha1 = hashes.SHA1()  # noqa: S303 - the format's own
    way = padding.OAEP(mgf=padding.MGF1(sha1), algorithm=sha1, label=None)
    return base64.b64encode(KEY.public_key().encrypt(text, way)).decode()


def room(
    origin: str, name: str, domain: str, channel: str, kind: str = "channel"
) -> tuple[str, ...]:
    return (origin, f"!{name}:test.example", kind, domain, channel, "{}", "{}")


def person(user: str, domain: str, password: str | None = None, **config: Any) -> tuple[Any, ...]:
    return (user, domain, json.dumps(config), password)


@pytest_asyncio.fixture
async def former(cluster: Cluster) -> str:
    """Its database, with something of each kind."""
    url = (await cluster.fresh()).url
    connection = await asyncpg.connect(url)
    await connection.execute(SCHEMA)
    await connection.executemany("INSERT INTO rooms VALUES ($1, $2, $3, $4, $5, $6, $7)", [
        room("provision", "town", DOMAIN, "#town"), room("alias", "made", DOMAIN, "#made"),
        room("join", "twice", DOMAIN, "#town"), room("config", "odd", DOMAIN, "+modeless"),
        room("config", "other", OTHER, "#elsewhere"), room("join", "pm", DOMAIN, "carl", "pm"),
    ])  # fmt: skip
    await connection.executemany("INSERT INTO client_config VALUES ($1, $2, $3, $4)", [
        person(ALICE, DOMAIN, sealed("two words"), nick="Alice", username="wonder"),
        person(BOB, DOMAIN, base64.b64encode(bytes(256)).decode(), nick="bob", ipv6="fd00::1"),
        person(GONE, DOMAIN, nick="gone"), person(BOB, OTHER, nick="bob"),
    ])  # fmt: skip
    await connection.execute(
        "INSERT INTO pm_rooms VALUES ('!pm:test.example', $1, 'carl', $2, '@irc_carl:x')",
        DOMAIN, ALICE,
    )  # fmt: skip
    await connection.execute("INSERT INTO deactivated_users VALUES ($1, 0)", GONE)
    await connection.execute(
        "INSERT INTO user_features VALUES ($1, $2)", ALICE, json.dumps({"mentions": False})
    )
    # One document is cut short, and one holds half of a pair.
    await connection.execute("INSERT INTO user_features VALUES ($1, $2)", BOB, '{"mentions": fal')
    await connection.execute(
        "INSERT INTO client_config VALUES ($1, $2, $3)", ODD, DOMAIN, '{"nick": "\\ud83d"}'
    )
    await connection.close()
    return url


def bridge_config(folder: Path) -> Path:
    """Its config.yaml, with the channels that it knows keys of; older ones name rooms alone."""
    path = folder / "appservice-irc.yaml"
    mappings = {
        "#Town": {"roomIds": ["!town:test.example"], "key": "sesame"},
        "#made": {"roomIds": ["!made:test.example"], "key": "two sesames"},
        "#old": ["!old:test.example"],
    }
    server = {"mappings": mappings, "sasl": True}
    path.write_text(json.dumps({"ircService": {"servers": {DOMAIN: server}}}))
    return path


def check_ended(
    words: list[Any], settings: DatabaseSettings, state_dir: Path, state: dict[str, object]
) -> None:
    """A sign-in that was ended since does not come back, also under another name."""
    login, kept = f"own {ALICE} wonder", {**state}
    del kept[login]
    log_out(settings, state_dir, ALICE)
    without_sasl = [word for word in words if word != "--sasl"]
    for given, name in ((words, "wonder"), (without_sasl, "Alice")):
        told = json.loads(trestle(*given, "--json").output)
        assert told["people"] == []
        assert f"{ALICE} on own: the sign-in as {name}: theirs was ended here; `login own` " in (
            "\n".join(told["left"])
        )
        assert state_of(settings, state_dir) == kept
    # Who has begun anew has what is missing there; it is no other login's.
    sign_in(settings, state_dir, ALICE, "wonder")
    trestle(*words)
    found = {"account": "wonder", "password": "newer words", "nick": "Alice"}
    assert state_of(settings, state_dir) == {**kept, login: found}
    forgotten = trestle("keys", "forget", ALICE, *words[words.index("-c") :][:2])
    assert forgotten.code == 0, forgotten.said
    assert json.loads(trestle(*words, "--json").output)["people"] == []
    assert state_of(settings, state_dir) == {**kept, login: {}}


def test_what_its_database_says_comes_over_once_and_what_does_not_is_named(
    folder: Path, database_settings: DatabaseSettings, former: str
) -> None:
    key = folder / "passkey.pem"
    key.write_bytes(KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ))  # fmt: skip
    with homeserver_beside() as homeserver:
        config = config_in(folder, database_settings, homeserver.url)
        words = ["import", "appservice-irc", "--database", former, "-c", config]
        words += ["--network", f"{DOMAIN}=own"]
        assert state_of(database_settings, folder / "state") == {}
        tried = trestle(*words, "--dry-run")
        assert tried.code == 0, tried.said
        unseen = "if @trestle:test.example is let in and the room is not encrypted"
        assert f"#town on own: !town:test.example, {unseen}" in tried.output
        assert "--password-key opens it" in tried.output
        assert all(asked.method == "GET" for asked in homeserver.asked)
        assert state_of(database_settings, folder / "state") == {}

        words += ["--password-key", key, "--sasl", "--bridge-config", bridge_config(folder)]
        foretold = trestle(*words, "--dry-run").said
        assert "#town on own: !town:test.example, with its key" in foretold
        assert "sesame" not in foretold
        assert state_of(database_settings, folder / "state") == {}
        done = trestle(*words)
        assert done.code == 0, done.said
        state = state_of(database_settings, folder / "state")
        assert state == {
            "own #town": ("!town:test.example", None), "own #made": ("!made:test.example", None),
            f"own nick:{ALICE}": "Alice", f"own username:{ALICE}": "wonder",
            f"own nick:{BOB}": "bob", "own None ": {"+key:#town": "sesame"},
            f"own {ALICE} wonder": {"account": "wonder", "password": "two words", "nick": "Alice"},
        }  # fmt: skip
        for sentence in (
            "(!twice:test.example): the chat is bridged to !town:test.example already",
            "'+modeless' is no channel", f"no network here is called '{OTHER}'",
            f"the private chat of {ALICE} with carl", f"{GONE} on {DOMAIN}: deactivated",
            f"the chat of {ALICE} with the old bridge's bot (!talk:test.example): say `help` to "
            "@trestle:test.example instead",
            f"{BOB} on {DOMAIN}: the password, which --password-key does not open",
            f"{BOB} on {DOMAIN}: the address fd00::1",
            f"{ALICE}: the features chosen there (mentions off)",
            "the list of 1 rooms that are to be found",
            f"{BOB}: what was chosen there, which is no JSON",
            f"{ODD} on {DOMAIN}: what was chosen there, which is no JSON",
            "#made on own: its key: that is no channel's key",
        ):  # fmt: skip
            assert sentence in done.output, sentence
        assert "two words" not in done.said
        assert "sesame" not in done.said
        again = trestle(*words, "--json")
        told = json.loads(again.output)
        assert (told["rooms"], told["people"], len(told["there"])) == ([], [], 5)
        assert state_of(database_settings, folder / "state") == state
        check_ended(words, database_settings, folder / "state", state)


def test_a_channel_in_several_spellings_is_one_and_a_room_that_is_gone_is_named(
    folder: Path, database_settings: DatabaseSettings, former: str
) -> None:
    async def add() -> None:
        connection = await asyncpg.connect(former)
        await connection.executemany("INSERT INTO rooms VALUES ($1, $2, $3, $4, $5, $6, $7)", [
            room("alias", "caps", DOMAIN, "#PARK"), room("provision", "park", DOMAIN, "#park"),
            room("provision", "park", DOMAIN, "#Park"), room("provision", "void", DOMAIN, "#void"),
        ])  # fmt: skip
        await connection.close()

    def is_gone(asked: Asked) -> Answer | None:
        return refuse(404, "M_NOT_FOUND") if "!void:test.example" in asked.parts else None

    asyncio.run(add())
    with homeserver_beside() as homeserver:
        homeserver.rules.append(is_gone)
        config = config_in(folder, database_settings, homeserver.url)
        words = ["import", "appservice-irc", "--database", former, "-c", config, "--json"]
        done = json.loads(trestle(*words, "--network", f"{DOMAIN}=own").output)
        there = state_of(database_settings, folder / "state")
    assert there["own #park"] == ("!park:test.example", None)
    assert "own #void" not in there
    left = "\n".join(done["left"])
    assert "(!caps:test.example): the chat is bridged to !park:test.example already" in left
    assert "(!void:test.example): @trestle:test.example is not let in (" in left


def test_who_is_deactivated_there_is_not_bridged_here_until_they_say_otherwise(
    folder: Path, database_settings: DatabaseSettings, former: str
) -> None:
    state_dir, said = folder / "state", f"{GONE}: optout everywhere, since deactivated"
    with homeserver_beside() as homeserver:
        config = config_in(folder, database_settings, homeserver.url)
        words = ["import", "appservice-irc", "--database", former, "-c", config, "--json"]
        assert opted_out(database_settings, state_dir, GONE) == (False, [])
        foretold = json.loads(trestle(*words, "--dry-run").output)
        assert opted_out(database_settings, state_dir, GONE) == (False, [])
        done = json.loads(trestle(*words).output)
        for told in (foretold, done):
            assert [line for line in told["people"] if line.startswith(said)]
        by_us = ["opt out everywhere by the command line"]
        assert opted_out(database_settings, state_dir, GONE) == (True, by_us)
        again = json.loads(trestle(*words).output)
        assert [line for line in again["there"] if line.startswith(said)]
        assert opted_out(database_settings, state_dir, GONE) == (True, by_us)
        opt_in(database_settings, state_dir, GONE)
        after = json.loads(trestle(*words).output)
        assert [line for line in after["left"] if line.startswith(said) and "`optin`" in line]
        assert not opted_out(database_settings, state_dir, GONE)[0]


def test_a_database_that_cannot_be_read_is_a_sentence(
    folder: Path, database_settings: DatabaseSettings, former: str
) -> None:
    config = config_in(folder, database_settings, "http://127.0.0.1:9")
    words = ("import", "appservice-irc", "-c", config, "--dry-run", "--database")
    assert state_of(database_settings, folder / "state") == {}

    async def change(statement: str) -> None:
        connection = await asyncpg.connect(former)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(change("UPDATE schema SET version = 10"))
    assert "its database has the schema 10, and 9 is the newest" in trestle(*words, former).errors
    asyncio.run(change("DELETE FROM schema"))  # Made, and never begun with.
    for database in (former, database_settings.url):
        own = trestle(*words, database)
        assert "there is no matrix-appservice-irc in that database" in own.errors
    away = trestle(*words, "postgresql://u:hidden-word@127.0.0.1:9/x")
    assert "its database cannot be reached" in away.errors
    no_url = trestle(*words, "mysql://u:hidden-word@h/x")
    assert "that is no address of a database" in no_url.errors
    assert "hidden-word" not in away.said + no_url.said
    (folder / "key.pem").write_text("none")
    for text, sentence in (("a: [", "is not YAML"), ("a: b", "has no ircService.servers")):
        (folder / "old.yaml").write_text(text)
        assert sentence in trestle(*words, former, "--bridge-config", folder / "old.yaml").errors
    wrong = trestle(*words, former, "--password-key", folder / "key.pem")
    assert "is no RSA key" in wrong.errors
