"""Who of those that one talks with alone comes and goes, by the examples of ``MONITOR``."""

import asyncio
from collections.abc import Sequence

from bridge.networks.irc.network.network import Network as IrcNetwork
from bridge.networks.irc.private.lookout import Lookout
from bridge.networks.irc.private.partners import MOST_PARTNERS, Partners
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.settings import IrcSettings
from bridge.networks.irc.wire import LINE_BYTES
from bridge.sdk.events import RemoteMessage, RemoteRemark, RemoteRename
from bridge.sdk.ids import RemoteChatId
from tests.irc.lines import incoming
from tests.irc.stage import Network, chat, message, running, synced
from tests.rigs.scripted_irc import scripted_server

MONITOR = "NICKLEN=30 CASEMAPPING=rfc1459 MONITOR=10"


class Post:
    """A lookout with a clock that the test moves."""

    def __init__(self, *chats: str, monitor: str | None = "100") -> None:
        self.time = 1000.0
        self.partners = Partners(lambda: self.time)
        self.limits = Isupport({} if monitor is None else {"MONITOR": monitor})
        self.network = IrcNetwork(IrcSettings.model_validate({"servers": [{"host": "irc.test"}]}))
        self.network.learn(self.limits)
        self.have(*chats)
        self.connect()

    def connect(self) -> None:
        """Have another connection."""
        self.lookout = Lookout(self.limits, self.network, self.partners)

    def have(self, *chats: str) -> None:
        """Have these direct chats, the newest last."""
        self.partners.have_chats({RemoteChatId(one): one for one in chats})

    def speak(self, nick: str) -> None:
        """Have something said in a chat."""
        self.partners.speak(RemoteChatId(nick), nick)

    def asked(self) -> list[str]:
        """What the server is asked for now."""
        return [one.encode().decode().removesuffix("\r\n") for one in self.lookout.ask()]

    def hear(self, text: str, seconds: float = 0) -> list[str]:
        """Have the server say something, and time pass; what is told."""
        told: Sequence[RemoteRemark] = self.lookout.hear(incoming(f":irc.test {text}"))
        self.time += seconds
        return [f"{one.chat}: {one.text}" for one in (*told, *self.lookout.due())]


async def test_the_newest_chats_are_watched_as_far_as_the_server_lets_us() -> None:
    # One place is left to who takes back our own nick.
    post = Post("anna", "b[ob", "nickserv", "carl", monitor="3")
    assert post.asked() == ["MONITOR + b[ob,carl"]
    post.speak("anna")
    assert post.asked() == ["MONITOR - b[ob", "MONITOR + anna"]
    post.have("anna")
    assert post.asked() == ["MONITOR - carl"]
    assert post.asked() == []
    post.connect()
    assert post.asked() == ["MONITOR + anna"]
    # The server has less room than it said.
    post.have("anna", "dora")
    assert post.asked() == ["MONITOR + dora"]
    assert post.hear("734 me 1 dora :Monitor list is full.") == []
    assert post.asked() == ["MONITOR - anna", "MONITOR + dora"]
    for few in (None, "0", "1", "what"):
        assert Post("anna", monitor=few).asked() == []
    many = Post(*(f"somebody{number}" for number in range(MOST_PARTNERS + 10)), monitor="").asked()
    assert all(len(one) < LINE_BYTES - 10 for one in many)
    names = ",".join(one.removeprefix("MONITOR + ") for one in many).split(",")
    assert (len(names), names[-1]) == (200, f"somebody{MOST_PARTNERS + 9}")


async def test_who_goes_is_told_once_a_conversation_and_who_is_back_soon_not_at_all() -> None:
    post = Post("carl", "dora")
    # Of those with whom nobody talks nothing is told.
    assert post.hear("730 me :carl!c@h,dora!d@h") == []
    assert post.hear("731 me :carl,dora", 1000) == post.hear("730 me :carl!c@h,dora!d@h") == []
    post.speak("carl")
    assert post.hear("731 me carl", 100) == post.hear("730 me CARL!c@h", 1000) == []
    assert post.hear("731 me :carl", 100) == []
    (gone,) = post.hear("731 me :carl,dora", 100)
    assert gone.startswith("carl: carl is not on the network now, or goes by another name.")
    assert post.hear("730 me :carl!c@h") == ["carl: carl is on the network again."]
    assert post.hear("731 me :carl", 1000) == post.hear("730 me :carl!c@h") == []
    # To one who is away already somebody speaks: now it is news.
    post.hear("731 me :carl", 1000)
    post.speak("carl")
    carl = post.partners.find(RemoteChatId("carl"))
    assert carl is not None
    carl.mask = "c@h"
    (back,) = post.hear("730 me :carl!x@y")
    assert back.endswith("again, as x@y, and was c@h before: it may be somebody else.")
    # Who left while there was no connection.
    post.time += 1
    post.speak("carl")
    post.connect()
    assert len(post.hear("731 me :carl,nobody", 150)) == 1
    assert post.hear("730 me :nobody!n@h") == []


async def test_who_writes_their_nick_in_another_charset_is_not_watched_for() -> None:
    async with scripted_server() as server:
        puppet, host = Network(server.port, netsplit_seconds=0).puppet("Alice")
        puppet.watch_chats([chat("élan")])
        async with running(puppet), asyncio.TaskGroup() as tasks:
            sent = tasks.create_task(puppet.send(message("bob", "hi")))
            peer = await server.accept()
            await peer.welcome(MONITOR)
            await peer.expect("MONITOR + élan")
            await sent
            peer.say_bytes(":élan!e@h PRIVMSG Alice :psst\r\n".encode("cp1252"))
            await peer.expect("MONITOR - élan")
            # What the server has said before it read that is of whoever is called alike.
            peer.say(":irc.test 731 {nick} :élan", ":irc.test 730 {nick} :élan!x@y")
            peer.say(":irc.test 731 {nick} :élan", ":élan!e@h PRIVMSG Alice :psst")
            await peer.expect("MONITOR + élan")
            await host.wait_for(RemoteMessage, 2)
            assert not host.of(RemoteRemark)
            peer.say(":irc.test 731 {nick} :élan")
            await host.wait_for(RemoteRemark)


async def test_of_whom_it_turns_out_to_be_another_it_is_not_told_that_they_are_gone() -> None:
    post = Post("élan")
    assert post.asked() == ["MONITOR + élan"]
    post.speak("élan")
    assert post.hear("731 me :élan", 100) == []
    elan = post.partners.find(RemoteChatId("élan"))
    assert elan is not None
    elan.is_utf8 = False  # So it is in what was said before, and is heard only now.
    assert post.asked() == ["MONITOR - élan"]
    assert post.hear("731 me :élan", 1000) == post.hear("730 me :élan!x@y") == []
    # Nor is it waited for any longer.
    elan.is_utf8 = True
    assert post.lookout.due() == []


async def test_a_connection_watches_whom_it_talks_with_until_the_chat_ends() -> None:
    async with scripted_server() as server:
        puppet, host = Network(server.port, netsplit_seconds=0).puppet("Alice")
        puppet.watch_chats([chat("bob")])
        async with running(puppet) as run, asyncio.TaskGroup() as tasks:
            sent = tasks.create_task(puppet.send(message("bob", "hi")))
            peer = await server.accept()
            await peer.welcome(MONITOR, "extended-monitor chghost")
            await peer.expect("MONITOR + bob")
            await sent
            peer.say(":irc.test 730 {nick} :bob!b@h", ":bob!b@h PRIVMSG Alice :hi")
            # Who is told of by ``extended-monitor`` needs no channel with us.
            peer.say(":bob!b@h CHGHOST b new.host", ":bob!b@new.host PRIVMSG Alice :me")
            peer.say(":irc.test 731 {nick} :BOB")
            (gone,) = await host.wait_for(RemoteRemark)
            assert (gone.chat, len(host.of(RemoteMessage))) == ("bob", 2)
            assert gone.text.startswith("bob is not on the network now")
            peer.say(":irc.test 730 {nick} :bob!b@new.host", ":bob!b@new.host NICK bobby")
            await peer.expect("MONITOR - bob")
            await peer.expect("MONITOR + bobby")
            peer.say(":irc.test 731 {nick} :bob", ":bobby!b@new.host QUIT :off")
            await synced(peer)
            _, back = host.of(RemoteRemark)
            assert back.text == "bob is on the network again."
            peer.reset()
            await run.wait_for_error()
        puppet.watch_chats([chat("bobby")])
        async with running(puppet):
            peer = await server.accept()
            await peer.welcome(MONITOR)
            await peer.expect("MONITOR + bobby")
            puppet.watch_chats([])
            await peer.expect("MONITOR - bobby")


async def test_who_is_there_when_it_is_first_asked_for_is_followed_under_another_nick() -> None:
    async with scripted_server() as server:
        puppet, host = Network(server.port).puppet("Alice")
        puppet.watch_chats([chat("carl"), chat("dora")])
        async with running(puppet), asyncio.TaskGroup() as tasks:
            sent = tasks.create_task(puppet.send(message("carl", "hi")))
            peer = await server.accept()
            await peer.welcome(MONITOR)
            await peer.expect("MONITOR + dora,carl")
            await sent
            peer.say(":irc.test 731 {nick} :dora", ":irc.test 730 {nick} :carl!c@h,dora!x@y")
            # Who came only then may be anybody.
            peer.say(":dora!x@y NICK eve", ":carl!x@y NICK eva", ":carl!c@h NICK karl")
            (rename,) = await host.wait_for(RemoteRename)
            assert (rename.old.id, rename.new.id) == ("carl", "karl")
