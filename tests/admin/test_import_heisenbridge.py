"""``trestle import heisenbridge``, as docs/how-to/import.md says: its account data, as its bot."""

import json
import re
import shlex
import signal
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bridge.networks.irc.client import certfp
from bridge.settings.records import DatabaseSettings
from bridge.storage.pool import only_one
from tests.admin.commands import LIMIT, command, trestle
from tests.admin.importing import choices_of, config_in, end_bridges, homeserver_beside, state_of
from tests.rigs.scripted_homeserver import Answer, Asked, ScriptedHomeserver, refuse

BOT, OURS = "@heisenbridge:test.example", "@trestle:test.example"
ALICE, BOB = "@alice:test.example", "@bob:test.example"
PEM = certfp.make("alice", datetime(2026, 1, 1, tzinfo=UTC)).decode()


def chat(kind: str, name: str, network: str, **more: object) -> dict[str, Any]:
    return {"type": kind, "user_id": ALICE, "name": name, "network": network, "key": None, **more}


def network(owner: str, name: str, **more: object) -> dict[str, Any]:
    return {"type": "NetworkRoom", "user_id": owner, "name": name, "password": None, **more}


KEPT: dict[str, dict[str, Any] | None] = {
    "!control:test.example": {"type": "ControlRoom", "user_id": ALICE},
    "!own-net:test.example": network(
        ALICE, "Own", nick="Alice", username="wonder", password="server-pass",
        sasl_username="alice", sasl_password="sasl-pass", tls_cert=PEM,
        autocmd="msg nickserv identify auto-pass",
    ),
    "!bobs-net:test.example": network(BOB, "Own", nick="alice"),
    "!plain-net:test.example": network(
        BOB, "plain", nick="bob", username="much-too-long-a-name", password="clear-pass"
    ),
    "!nowhere:test.example": network(BOB, "nowhere", nick="bob"),
    "!alone:test.example": chat("ChannelRoom", "#town", "Own"),
    "!mine:test.example": chat("ChannelRoom", "#mine", "Own", key="sesame"),
    "!town:test.example": chat("PlumbedRoom", "#Town", "Own"),
    "!doubt:test.example": chat("PlumbedRoom", "#a[b]", "Own"),
    "!sealed:test.example": chat("PlumbedRoom", "#sealed", "Own"),
    "!shut:test.example": chat("PlumbedRoom", "#shut", "Own"),
    "!low:test.example": chat("PlumbedRoom", "#low", "Own"),
    "!ill:test.example": chat("PlumbedRoom", "#ill", "Own"),
    "!twelve:test.example": chat("PlumbedRoom", "#twelve", "Own"),
    "!python:test.example": chat("PlumbedRoom", "#python", "liberachat"),
    "!query:test.example": chat("PrivateRoom", "carl", "Own"),
    "!nothing:test.example": None,
}  # fmt: skip
LEFT = (
    "#town on Own (!alone:test.example): the chat is bridged to !town:test.example",
    "only the network tells how this name is compared",
    "#sealed on Own (!sealed:test.example): the room is encrypted",
    "#shut on Own (!shut:test.example): @trestle:test.example is not let in",
    f"#low on Own (!low:test.example): {OURS} does not get the rights that {BOT} has",
    "#ill on Own (!ill:test.example): the homeserver answered 500",
    "#python on liberachat (!python:test.example): it belongs to those who run it",
    "the nick: alice is kept for another Matrix user",
    f"{BOB} on plain: the user name", f"{BOB} on plain: what it signs in with",
    "no network here is called 'nowhere'; say which it is with --network nowhere=",
    f"{ALICE} on Own: the commands on connect",
    f"the private chat of {ALICE} with carl", "!nothing:test.example: heisenbridge keeps",
    "Brought over: 3 rooms, 2 people. There already: 0. Stays behind: 14.",
)  # fmt: skip
LEVELS = {"users": {BOT: 100, ALICE: 50}, "users_default": 0}
TWELVE = {"users": {}, "events": {"m.room.tombstone": 150}}
CREATED = {"sender": BOT, "content": {"room_version": "12"}}
SHUT, LOW = ({**LEVELS, "invite": 101}, {**LEVELS, "events": {"m.room.power_levels": 101}})


class Former:
    """heisenbridge's rooms, as a homeserver keeps them."""

    def __init__(self, homeserver: ScriptedHomeserver) -> None:
        self.homeserver = homeserver
        self.kept: dict[str, dict[str, Any] | None] = dict(KEPT)
        self.levels: dict[str, Mapping[str, Any]] = {
            "!shut:test.example": SHUT, "!low:test.example": LOW,
            "!twelve:test.example": TWELVE,
        }  # fmt: skip
        self.for_all: dict[str, Any] | None = None
        self.is_busy = True
        self.is_ill = False
        homeserver.rooms = {room: {BOT} for room in KEPT}
        homeserver.rules += [self.fail, self.answer]

    def fail(self, asked: Asked) -> Answer | None:
        """Be busy once, and fail over ``!ill`` always, with ``is_ill`` over more."""
        match asked.method, asked.parts:
            case "POST", ("rooms", *_) if self.is_busy:
                self.is_busy = False
                return refuse(429, "M_LIMIT_EXCEEDED", retry_after_ms=1)
            case _, ("rooms", "!ill:test.example", *_):
                return refuse(500, "M_UNKNOWN")
            case _, ("account", "whoami") if self.is_ill:
                return refuse(503, "M_UNKNOWN")
        return None

    def answer(self, asked: Asked) -> Answer | None:
        """Keep data and levels; ``!shut`` lets nobody in, ``!low`` lets nobody change levels,
        ``!sealed`` is encrypted, ``!twelve`` is of that version."""
        if asked.user == BOT and asked.token != "Bearer old-token":
            return refuse(401, "M_UNKNOWN_TOKEN")
        match asked.method, asked.parts:
            case "GET", ("rooms", "!twelve:test.example", "state", "m.room.create", ""):
                return Answer(content=CREATED)
            case "GET", ("user", _, "account_data", "irc"):
                found = self.for_all
                return refuse(404, "M_NOT_FOUND") if found is None else Answer(content=found)
            case "GET", ("user", _, "rooms", room, "account_data", "irc"):
                found = self.kept[room]
                return refuse(404, "M_NOT_FOUND") if found is None else Answer(content=found)
            case "PUT", ("user", _, "rooms", room, "account_data", "irc"):
                self.kept[room] = asked.content
            case "POST", ("rooms", "!shut:test.example", "join"):
                return refuse(403, "M_FORBIDDEN")
            case "PUT", ("rooms", "!low:test.example", "state", "m.room.power_levels", ""):
                return refuse(403, "M_FORBIDDEN")
            case "GET", ("rooms", "!sealed:test.example", "state", "m.room.encryption", ""):
                return Answer(content={"algorithm": "m.megolm.v1.aes-sha2"})
            case "GET", ("rooms", room, "state", "m.room.power_levels", ""):
                return Answer(content=dict(self.levels.get(room, LEVELS)))
            case "PUT", ("rooms", room, "state", "m.room.power_levels", ""):
                self.levels[room] = asked.content
        return None

    def changes(self) -> list[str]:
        """What was asked that changes something."""
        return [asked.path for asked in self.homeserver.asked if asked.method != "GET"]

    def check_rooms(self) -> None:
        """Our bot came in with the old one's rights, but not where it cannot bridge."""
        assert self.levels["!town:test.example"]["users"] == {BOT: 100, ALICE: 50, OURS: 100}
        assert self.levels["!twelve:test.example"] == {**TWELVE, "users": {OURS: 150}}
        assert OURS in self.homeserver.rooms["!mine:test.example"]
        assert OURS not in self.homeserver.rooms["!sealed:test.example"]

    def keep_an_older_password(self) -> None:
        """Have what the vault has, but for a password that was changed there since."""
        kept = KEPT["!own-net:test.example"]
        assert kept is not None
        self.kept["!own-net:test.example"] = {**kept, "sasl_password": "older-pass"}

    def check_blanked(self, password: str | None = None) -> None:
        """What lies in the vault is taken out, and nothing else."""
        blanked = self.kept["!own-net:test.example"]
        assert blanked is not None
        found = (blanked["sasl_password"], blanked["password"], blanked["tls_cert"])
        assert found == (password, None, None)
        assert blanked["nick"] == "Alice"
        mine = self.kept["!mine:test.example"]
        assert mine == {**(KEPT["!mine:test.example"] or {}), "key": None}
        kept = self.kept["!plain-net:test.example"]
        assert kept is not None
        assert kept["password"] == "clear-pass"


def write_registration(folder: Path, word: str = "old") -> Path:
    path = folder / "heisenbridge.yaml"
    path.write_text(f"id: hb\nas_token: {word}-token\nsender_localpart: heisenbridge\n")
    return path


def foretell(words: list[object], settings: DatabaseSettings, state_dir: Path) -> str:
    """Have said what would happen, once there is a database; give all that was said."""
    early = trestle("import", *words, "--dry-run")
    assert (early.code, early.output) == (2, "")
    assert "the database is empty" in early.errors
    assert "start Trestle once" in early.errors
    assert state_of(settings, state_dir) == {}
    tried = trestle("import", *words, "--dry-run")
    assert tried.code == 0, tried.said
    assert "Nothing was changed." in tried.output
    for sentence in LEFT[:-1]:  # What the import refuses, it has foretold.
        assert sentence in tried.output, sentence
    assert "Would be brought over: 3 rooms, 2 people." in tried.output
    assert "!mine:test.example, with its key" in tried.output
    assert state_of(settings, state_dir) == {}
    return early.said + tried.said


def check_ended(words: list[object], settings: DatabaseSettings, state_dir: Path) -> None:
    """What was ended since does not come back, and is named."""
    end_bridges(settings, state_dir, unbridged="#mine", refused="#python")
    after = json.loads(trestle("import", *words, "--agreed", "--json").output)
    assert after["rooms"] == []
    ended = [line for line in after["left"] if "say `!trestle bridge" in line]
    assert [line.partition(";")[0] for line in ended] == [
        "#python on liberachat (!python:test.example): those who run it did not want the bridge "
        "here",
        "#mine on Own (!mine:test.example): it was bridged to this room before, and that was "
        "ended here",
    ]


def test_rooms_nicks_and_sign_ins_come_over_once_and_what_does_not_is_named(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    with homeserver_beside() as homeserver:
        former = Former(homeserver)
        config = config_in(folder, database_settings, homeserver.url)
        words: list[object] = [
            "heisenbridge", "--registration", write_registration(folder), "-c", config,
            "--network", "LiberaChat=libera",
        ]  # fmt: skip
        told = foretell(words, database_settings, folder / "state")
        assert former.changes() == []

        done = trestle("import", *words, "--blank-passwords")
        assert done.code == 0, done.said
        state = state_of(database_settings, folder / "state")
        assert state == {
            "own #town": ("!town:test.example", None),
            "own #mine": ("!mine:test.example", ALICE),
            "own #twelve": ("!twelve:test.example", None),
            f"own nick:{ALICE}": "Alice",
            f"own username:{ALICE}": "wonder",
            f"plain nick:{BOB}": "bob",
            "own None ": {"+key:#mine": "sesame"},
            f"own {ALICE} alice": {
                "account": "alice", "password": "sasl-pass", "server_password": "server-pass",
                "nick": "Alice", "+certificate": PEM.strip(),
            },
        }  # fmt: skip
        for sentence in LEFT:
            assert sentence in done.output, sentence
        told += done.said
        assert "#mine on own: !mine:test.example, with its key" in done.output
        for secret in ("-pass", "old-token", "PRIVATE KEY", "sesame"):
            assert secret not in told
        former.check_rooms()
        former.check_blanked()

        former.keep_an_older_password()
        again = trestle("import", *words, "--agreed", "--json", "--blank-passwords")
        former.check_blanked(password="older-pass")
        answer = json.loads(again.output)
        assert answer["people"] == []
        assert answer["rooms"] == ["#python on libera: !python:test.example"]
        assert {"#Town on own", "#mine on own", f"{ALICE} on own"} <= {
            line.partition(": ")[0] for line in answer["there"]
        }
        expected = state | {"libera #python": ("!python:test.example", None)}
        assert state_of(database_settings, folder / "state") == expected

        check_ended(words, database_settings, folder / "state")


FOR_ALL = {
    "owner": ALICE, "allow": {"@*:near.example": "admin"}, "member_sync": "full", "max_lines": 4,
    "networks": {"Own": {"servers": []}, "plain": {"servers": []}, "lost": {"servers": []}},
    "idents": {ALICE: "alice7-of-old", BOB: "bobby", "nobody": "x"}, "use_pastebin": False,
}  # fmt: skip
CHOSEN: dict[str, dict[str, Any] | None] = {
    "!own-net:test.example": network(ALICE, "Own", nick="Alice", ircname="Alice A."),
    "!bobs-net:test.example": network(BOB, "Own", nick="bob", username="own-word", ircname=None),
    "!mine:test.example": chat("ChannelRoom", "#mine", "Own", member_sync="off", max_lines=4),
    "!town:test.example": chat(
        "PlumbedRoom", "#town", "Own", topic_sync=None, member_sync="half", relaytag="t",
        allow_notice=True, use_displaynames=False, use_zwsp=False, max_lines=5,
    ),
    "!both:test.example": chat(
        "PlumbedRoom", "#both", "Own", topic_sync="any", member_sync="lazy", max_lines=4
    ),
    "!one:test.example": chat("PlumbedRoom", "#one", "Own", topic_sync="irc", member_sync="full"),
}  # fmt: skip
NOT_CHOSEN = (
    f"{ALICE}, owner of heisenbridge: who may do what here stands under `permissions`",
    "@*:near.example, admin of heisenbridge: who may",
    "all new rooms: member_sync full, max_lines 4, as set in heisenbridge; ",
    "the network lost: no network here is called 'lost'; say which it is with --network lost=",
    "nobody on Own: that is no Matrix user", f"{ALICE} on Own: ircname Alice A., as set",
    "#town on Own (!town:test.example): relaytag t, allow_notice on, use_displaynames off, "
    "max_lines 5, as set in heisenbridge; what a room chooses here, `set` in it tells",
    "#one on Own (!one:test.example): the topic went to IRC alone",
)  # fmt: skip


def test_what_heisenbridge_has_for_all_and_what_rooms_chose_comes_over_or_is_named(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    with homeserver_beside() as homeserver:
        former = Former(homeserver)
        former.kept, former.for_all = dict(CHOSEN), FOR_ALL
        homeserver.rooms = {room: {BOT, OURS} for room in CHOSEN}
        homeserver.rules.remove(former.fail)
        config = config_in(folder, database_settings, homeserver.url)
        words: list[object] = [
            "import", "heisenbridge", "--registration", write_registration(folder), "-c", config
        ]  # fmt: skip
        state = state_of(database_settings, folder / "state")
        foretold = trestle(*words, "--dry-run")
        assert foretold.code == 0, foretold.said
        assert state_of(database_settings, folder / "state") == state
        done = trestle(*words)
        assert done.code == 0, done.said
    for sentence in NOT_CHOSEN:
        assert sentence in foretold.output, sentence
        assert sentence in done.output, sentence
    for room in ("#mine", "#both"):  # All is as in every new room there, or comes over.
        assert f"{room} on Own (" not in done.output
    assert choices_of(database_settings, folder / "state") == {
        "#town": ("nothing", None), "#mine": ("all", "none"), "#both": ("topic", "speakers"),
        "#one": ("topic", "full"),
    }  # fmt: skip
    state = state_of(database_settings, folder / "state")
    assert {key: value for key, value in state.items() if " username:" in key} == {
        f"own username:{ALICE}": "alice7-o", f"plain username:{ALICE}": "alice7-o",
        f"own username:{BOB}": "own-word", f"plain username:{BOB}": "bobby",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("number", "code", "told"),
    [
        (signal.SIGINT, 130, r"trestle: cut off\. Brought over so far: \d rooms, 0 people; they "
         r"stay\. Give the same command again for the rest: nothing is brought over twice\n"),
        (signal.SIGKILL, -signal.SIGKILL, ""),
    ],
)  # fmt: skip
def test_an_import_that_is_cut_off_amid_its_rooms_is_completed_by_the_next(
    folder: Path, database_settings: DatabaseSettings, number: int, code: int, told: str
) -> None:
    with homeserver_beside() as homeserver:
        former, cut = Former(homeserver), [number]
        config = config_in(folder, database_settings, homeserver.url)
        words = [
            "import", "heisenbridge", "--registration", write_registration(folder), "-c", config,
            "--blank-passwords", "--json",
        ]  # fmt: skip
        process = subprocess.Popen(
            command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

        def cut_off(asked: Asked) -> Answer | None:
            """When our bot comes into one of the rooms, and others are there."""
            if cut and asked.parts == ("rooms", "!twelve:test.example", "join"):
                process.send_signal(cut.pop())
            return None

        homeserver.rules.insert(0, cut_off)
        said = "".join(process.communicate(timeout=LIMIT))
        assert (process.returncode, cut) == (code, [])
        assert re.fullmatch(told, said), said
        rooms = {"own #town", "own #mine", "own #twelve"}
        left = rooms - state_of(database_settings, folder / "state").keys()
        assert "own #twelve" in left < rooms
        again = json.loads(trestle(*words).output)
        assert len(again["rooms"]) == len(left)
        assert rooms <= state_of(database_settings, folder / "state").keys()
        former.check_blanked()
        last = json.loads(trestle(*words).output)
        assert (last["rooms"], last["people"]) == ([], [])


def test_what_keeps_an_import_from_beginning_is_a_sentence(
    folder: Path, database_settings: DatabaseSettings
) -> None:
    with homeserver_beside() as homeserver:
        former = Former(homeserver)
        config = config_in(folder, database_settings, homeserver.url)
        good, where = write_registration(folder), ("-c", config)
        words = ("heisenbridge", "--registration")
        with only_one(folder / "state"):
            running = trestle("import", *words, good, *where)
        assert "another Trestle is at work" in running.errors
        wrong = trestle("import", *words, write_registration(folder, "stale"), *where)
        assert wrong.code == 1
        assert "does not let us act as @heisenbridge:test.example" in wrong.errors
        assert "stale-token" not in wrong.said
        former.is_ill = True
        ill = trestle("import", *words, write_registration(folder), *where)
        assert (ill.code, ill.output) == (1, "")
        assert "the homeserver answered 503" in ill.errors
    away = trestle("import", *words, good, *where, "--dry-run")
    assert "the homeserver cannot be reached" in away.errors
    nowhere = trestle("import", *words, folder / "nowhere.yaml", *where)
    assert "nowhere.yaml is not there; give the registration that the homeserver has" in (
        nowhere.errors
    )
    (folder / "empty.yaml").write_text("id: hb\n")
    empty = trestle("import", *words, folder / "empty.yaml", *where)
    assert "has no sender_localpart and as_token" in empty.errors
    unknown = trestle("import", *words, good, *where, "--network", "x=y")
    assert "--network x=y: write the other bridge's name, =, and one of libera, own, plain" in (
        unknown.errors
    )
    assert state_of(database_settings, folder / "state") == {}


def test_the_commands_of_the_page_are_there_with_their_options() -> None:
    text = (Path(__file__).parents[2] / "docs/how-to/import.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert lines
    for line in lines:
        program, *_ = shlex.split(line)
        if program in {"install", "rm"}:
            continue
        # As who has the state, who must be told where the settings are.
        assert line.startswith("runuser -u trestle -- trestle "), line
        assert line.endswith(" -c /etc/trestle/config.yaml"), line
        words = shlex.split(line)[5:]
        said = trestle(*words, "--help")
        assert said.code == 0
        for option in (word for word in words if word.startswith("--")):
            assert option in said.output, line
