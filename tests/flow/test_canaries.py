"""Forty secrets and forty texts pass through a run; afterwards they stand nowhere in clear."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from bridge.config import load
from bridge.demo.matrix_user import MatrixUser
from bridge.demo.processes import free_port
from bridge.sdk.ids import InstanceId
from bridge.settings.records import DatabaseSettings
from bridge.storage.postgres import EmbeddedPostgres
from tests.flow.chats import direct_chat, order
from tests.flow.logins import new_session
from tests.flow.networks import irc_module
from tests.flow.rooms import bridge
from tests.rigs.irc_user import IrcUser, irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.ngircd import run_ngircd
from tests.rigs.program import TrestleProgram, trestle_program
from tests.rigs.trestle import Town, make_modules

CONTROL = f"control-{secrets.token_hex(6)}"
"""The name of the bridged channel, which is not secret: it shows that the search finds things."""


@dataclass(slots=True)
class Canaries:
    """What must be found nowhere, and what was said to us or by us where it must not be."""

    secrets: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)

    def secret(self, known: str = "") -> str:
        """Plant one, or a known one."""
        self.secrets.append(known or f"sec-{secrets.token_hex(12)}")
        return self.secrets[-1]

    def text(self) -> str:
        """Plant one."""
        self.texts.append(f"say-{secrets.token_hex(12)}")
        return self.texts[-1]

    @property
    def all(self) -> Sequence[str]:
        """Every one."""
        return [*self.secrets, *self.texts]


async def say_things(
    birds: Canaries, alice: MatrixUser, room: str, carl: IrcUser, dora: IrcUser
) -> str:
    """Texts, both ways, that arrive, are refused, changed, taken back; give the last event."""
    for _ in range(8):
        text = birds.text()
        event = await alice.say(room, text)
        await carl.expect(f":{text}")
        carl.say(f"PRIVMSG #{CONTROL} :{(answer := birds.text())}")
        await alice.wait_for_text(room, answer)
    dora.say(f"PART #{CONTROL} :{birds.text()}", f"JOIN #{CONTROL}")
    dora.say(f"PRIVMSG trestle :{birds.text()}", f"PRIVMSG trestle :\x01PING {birds.text()}\x01")
    await dora.sync()
    for _ in range(4):
        image = {"msgtype": "m.image", "body": birds.text(), "url": "mxc://test.example/x"}
        await alice.send(room, image)
    lines = "\n".join([*(birds.text() for _ in range(3)), *("line" for _ in range(200))])
    await alice.say(room, lines)
    new = {"msgtype": "m.text", "body": birds.text()}
    edit = {"rel_type": "m.replace", "event_id": event}
    await alice.send(room, {**new, "m.new_content": new, "m.relates_to": edit})
    await alice.call("PUT", f"v3/rooms/{room}/redact/{event}/r1", {"reason": birds.text()})
    for words in ("{}", "bridge near {}", "bridge {} x", "parked retry {}", "set {} {}"):
        await order(alice, room, f"!trestle {words.replace('{}', birds.text())}", "")
    for words in ("near key {}", f"bridge near #{CONTROL} {{}}", "near join nowhere {}"):
        await order(alice, room, f"!trestle {words.format(birds.secret())}", "")
    await order(alice, room, "!trestle ping", "")
    return event


async def give_tokens(birds: Canaries, town: Town, bob: MatrixUser, room: str) -> None:
    """Tokens for a double puppet: many that are refused, and one that is kept."""
    chat, eve = await direct_chat(bob), await town.person("eve")
    for bad in (
        await new_session(town, eve), await new_session(town, bob, keys=True),
        *(birds.secret() for _ in range(2)),
    ):  # fmt: skip
        await order(bob, chat, f"double-puppet token {bad}", "I could not do that")
        birds.secrets += [bad] * (bad not in birds.secrets)
    shown = birds.secret(await new_session(town, bob))
    await order(bob, room, f"!trestle double-puppet token {shown}", "others could read")
    kept = birds.secret(await new_session(town, bob))
    await order(bob, chat, f"double-puppet token {kept}", "by the token that you gave")


async def knock(birds: Canaries, program: TrestleProgram, manager: str) -> None:
    """Wrong tokens at every door, and bodies that are none."""
    appservice = program.settings.appservice
    hs = f"http://{appservice.listen}/_matrix/app/v1/transactions/x"
    api = f"http://{manager}/_trestle/v1"
    right = {"Authorization": f"Bearer {appservice.hs_tokens[0].reveal()}"}

    def wrong() -> dict[str, str]:
        return {"Authorization": f"Bearer {birds.secret()}"}

    openid = {"token_type": "Bearer", "matrix_server_name": "test.example", "expires_in": 3600}
    asked: list[tuple[str, str, dict[str, str], Any]] = [
        *(("PUT", f"{hs}{n}", wrong(), {"events": []}) for n in range(7)),
        *(("PUT", f"{hs}?access_token={birds.secret()}", {}, {"events": []}) for _ in range(2)),
        *(("GET", f"{api}/account", wrong(), None) for _ in range(5)),
        *(("GET", f"{api}/{birds.secret()}", {}, None) for _ in range(2)),
        *(("POST", f"{api}/links/take", {}, {"token": birds.secret()}) for _ in range(3)),
        *(
            ("POST", f"{api}/register", {}, {**openid, "access_token": birds.secret()})
            for _ in range(4)
        ),
        ("GET", f"http://127.0.0.1:{program.ops_port}/metrics?token={birds.secret()}", {}, None),
        ("GET", f"http://127.0.0.1:{program.ops_port}/{birds.secret()}", {}, None),
        *(("PUT", f"{hs}broken{n}", right, f'{{"events": ["{birds.text()}'.encode())
          for n in range(4)),
        ("PUT", f"{hs}odd", right, {"events": [birds.text(), {"type": birds.text()}, {
            "type": "m.room.message", "event_id": 7, "content": {"body": birds.text()},
        }]}),
    ]  # fmt: skip
    async with aiohttp.ClientSession() as session:
        for number, (method, url, headers, body) in enumerate(asked):
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            async with session.request(method, url, headers=headers, data=data) as reply:
                birds.seen[f"answer {number} of {method}"] = await reply.text()
        async with session.get(f"http://127.0.0.1:{program.ops_port}/metrics") as reply:
            birds.seen["metrics"] = await reply.text()


async def dump(state: Path) -> str:
    """Every row of every table as text."""
    server = EmbeddedPostgres(state)
    await server.start()
    try:
        connection = await asyncpg.connect(
            user="postgres", password=server.password, host=str(server.socket_dir),
            database="trestle",
        )  # fmt: skip
        tables = await connection.fetch(
            "SELECT oid::regclass::text AS name FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        rows: list[str] = []
        for table in tables:
            name = table["name"]
            found = await connection.fetch(f"SELECT t::text FROM {name} t")  # noqa: S608
            rows += [f"{name}: {row[0]}" for row in found]
        await connection.execute("CHECKPOINT")
        await connection.close()
    finally:
        await server.stop()
    return "\n".join(rows)


def files_of(state: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of the state directory."""
    for path in state.rglob("*"):
        if path.is_file():
            yield str(path.relative_to(state)), path.read_bytes()


def shapes(word: str) -> Sequence[bytes]:
    """A word as it may stand somewhere: as it is, and in the hexadecimal of a bytea."""
    return word.encode(), word.encode().hex().encode()


def near_and_far(birds: Canaries, irc: IrcServer, password: str) -> Any:
    """One network that lets us in, and one that does not."""
    modules = make_modules(irc_module(irc, password=birds.secret(password), most_lines=5))
    far = irc_module(
        irc, password=birds.secret(), sasl_account="trestle", sasl_password=birds.secret()
    )
    modules |= {
        InstanceId("far"): replace(module, instance=InstanceId("far"))
        for module in make_modules(far).values()
    }
    return modules


@asynccontextmanager
async def network_of(birds: Canaries) -> AsyncIterator[tuple[Any, IrcUser, IrcUser]]:
    """An IRC server with a password, the modules for it, and two people in the channel."""
    password = f"sec-{secrets.token_hex(8)}"
    async with (
        run_ngircd(password) as irc,
        irc_user(irc.port, "carl", password) as carl,
        irc_user(irc.port, "dora", password) as dora,
    ):
        for user in (carl, dora):
            await user.join(f"#{CONTROL}")
        yield near_and_far(birds, irc, password), carl, dora


async def run_through(birds: Canaries, town: Town, folder: Path) -> None:
    """Have everything pass through one Trestle, and gather what it shows."""
    web = f"127.0.0.1:{free_port()}"
    for token in (town.settings.appservice.as_token, *town.settings.appservice.hs_tokens):
        birds.secret(token.reveal())
    async with (
        network_of(birds) as (modules, carl, dora),
        trestle_program(
            town.settings_for(folder, DatabaseSettings(), modules=modules), folder,
            env={"TRESTLE_APPSERVICE_HS_TOKEN_OLD": birds.secret()},
            logging={"format": "json", "level": "debug"},
            web={"listen": web, "manager_url": "http://manager.example"},
        ) as program,
    ):  # fmt: skip
        alice, bob = await town.person("alice"), await town.person("bob")
        room = await bridge(alice, f"#{CONTROL}")
        await bob.join(room)
        event = await say_things(birds, alice, room, carl, dora)
        await give_tokens(birds, town, bob, room)
        await knock(birds, program, web)
        for words in (("parked", "list"), ("trace", event), ("status",), ("keys", "check")):
            birds.seen[words[0]] = await program.ask(*words)
        listing = await asyncio.create_subprocess_exec(
            "ps", "axwwo", "args", stdout=asyncio.subprocess.PIPE
        )
        birds.seen["ps"] = (await listing.communicate())[0].decode()
    settings = await asyncio.to_thread(load, program.config)
    birds.seen["repr"] = f"{settings!r} {settings} {settings.modules!r}"
    birds.seen["log"] = program.log_text()
    birds.seen["dump"] = await dump(folder / "state")


async def test_forty_secrets_and_forty_texts_stand_nowhere_in_clear(
    town: Town, folder: Path
) -> None:
    birds = Canaries()
    await run_through(birds, town, folder)
    assert (len(birds.secrets), len(birds.texts)) == (40, 40)
    found = {
        f"{word} in {place}"
        for place, text in birds.seen.items()
        for word in birds.all
        if any(shape.decode() in text for shape in shapes(word))
    }
    in_files = []
    for name, data in await asyncio.to_thread(lambda: list(files_of(folder / "state"))):
        found |= {
            f"{word} in {name}"
            for word in birds.all
            if any(shape in data for shape in shapes(word))
        }
        in_files += [name] * (CONTROL.encode() in data)
    assert found == set()
    # The search would have found them.
    assert CONTROL in birds.seen["dump"]
    assert any(name.startswith("postgres/data/base/") for name in in_files)
    assert any(name.startswith("postgres/data/pg_wal/") for name in in_files)
    for place, sign in (
        ("metrics", "trestle_"), ("ps", "bridge run"), ("log", '"ready"'), ("repr", "far"),
        ("parked", "pictures"), ("trace", "received"),
    ):  # fmt: skip
        assert sign in birds.seen[place], birds.seen[place][:2000]
