"""Into many channels at a time, as the server lets it."""

import asyncio
from typing import Any, cast

from bridge.networks.irc.channels.channels import Channels
from bridge.networks.irc.connections.connection import Connection
from bridge.networks.irc.connections.flood import Flood
from bridge.networks.irc.settings import IrcSettings
from bridge.networks.irc.wire import Source, line, parse
from tests.irc.stage import Network, chat, refusal_of_join, running
from tests.rigs.scripted_irc import scripted_server


async def test_channels_are_asked_for_as_many_at_a_time_as_the_server_takes() -> None:
    names = ["#room", "#b", "#c", "#d", "#e"]
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        relay, _ = Network(server.port).relay()
        async with running(relay) as run:
            peer = await server.accept()
            await peer.welcome("NICKLEN=30 TARGMAX=JOIN:2,PRIVMSG:1")
            joins = {
                name: tasks.create_task(
                    refusal_of_join(relay, name) if name == "#c" else relay.join(chat(name))
                )
                for name in names
            }
            for line in ("JOIN #room,#b", "JOIN #c,#d", "JOIN #e"):
                await peer.expect(line)
            peer.say(":irc.test 474 {nick} #c :Cannot join channel (+b)")
            for name in ("#room", "#b", "#d", "#e"):
                peer.say(f":{{nick}}!t@h JOIN {name}", f":irc.test 366 {{nick}} {name} :End")
            await asyncio.wait(joins.values())
            assert "banned" in (joins["#c"].result() or "")
            peer.reset()
            await run.wait_for_error()
        again = tasks.create_task(relay.run())
        other = await server.accept()
        await other.welcome("NICKLEN=30")
        await other.expect("JOIN #room,#b,#d,#e")
        again.cancel()


async def test_who_still_asks_for_bans_when_another_is_let_in_asks_for_no_second_join() -> None:
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        address = {"host": "127.0.0.1", "port": server.port, "tls": False}
        settings = IrcSettings.model_validate({"servers": [address], "own_network": True})
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        peer = await server.accept()
        connection = Connection(
            (cast(Any, reader), writer), settings.servers[0], settings, Flood(9, 9.0)
        )
        connection.own = Source("trestle")
        answers = asyncio.Semaphore(1)

        async def ask(_: str) -> None:
            await answers.acquire()

        channels = Channels(connection, 60, ask)
        first, second = (tasks.create_task(channels.enter("#room")) for _ in range(2))
        await peer.expect("JOIN #room")
        answer = parse(b":trestle!t@h JOIN #room")
        assert answer is not None
        channels.handle(answer)
        await first
        answers.release()
        await second
        connection.write(line("PRIVMSG", "#room", "in"))
        assert await peer.read() == "PRIVMSG #room :in"
        writer.close()
        await writer.wait_closed()


async def test_where_the_network_puts_us_while_nickserv_is_asked_we_do_not_stay_unknown() -> None:
    """Many networks have everybody who connects join a channel: a JOIN of ours to that one is
    never answered."""
    async with scripted_server() as server, asyncio.TaskGroup() as tasks:
        settings = {"sasl_account": "acc", "sasl_password": "pw", "nickserv": "NickServ"}
        relay, _ = Network(server.port, **settings).relay()
        async with running(relay):
            joining = tasks.create_task(relay.join(chat("#lobby")))
            peer = await server.accept()
            await peer.welcome()
            await peer.expect("PRIVMSG NickServ :IDENTIFY acc pw")
            peer.say(
                ":{nick}!t@h JOIN #lobby", ":irc.test 353 {nick} = #lobby :{nick}",
                ":irc.test 366 {nick} #lobby :End", ":{nick}!t@h JOIN #other",
                ":NickServ!s@services NOTICE {nick} :You are now identified for acc.",
            )  # fmt: skip
            inside = {"#lobby", "#other"}
            while not joining.done() or inside != {"#lobby"}:
                verb, name, *_ = (await peer.read()).split()
                if verb == "PART":
                    inside.remove(name)
                elif verb == "JOIN" and name not in inside:
                    inside.add(name)
                else:
                    continue
                peer.say(f":{{nick}}!t@h {verb} {name}", "PING :on")
