"""What is said to one connection alone becomes a direct chat, and what is said there a PRIVMSG."""

import asyncio
from dataclasses import replace

import pytest

from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import (
    MessageKind,
    RemoteMessage,
    RemoteReaction,
    RemoteRedaction,
    RemoteRemark,
    RemoteRename,
    RemoteTyping,
    Sender,
    Typing,
)
from bridge.sdk.ids import RemoteChatId
from tests.irc.stage import (
    Network,
    a_speaker,
    direct,
    message,
    refusal,
    running,
    speaking,
    synced,
    user_id,
)
from tests.rigs.scripted_irc import scripted_server


async def test_what_a_person_says_to_a_puppet_alone_comes_as_a_direct_message() -> None:
    async with a_speaker() as (_, host, peer, _):
        peer.say(
            ":B[ob!b@h PRIVMSG alice :\x02hi\x02", ":b{OB!b@h PRIVMSG Alice :\x01ACTION waves\x01"
        )
        peer.say(":bob!b@h NOTICE Alice :psst", ":irc.test NOTICE Alice :the server says")
        peer.say(":bob!b@h NOTICE Alice :\x01VERSION secret client\x01")
        peer.say(":bob!b@h PRIVMSG #room :to all", ":Alice!a@h PRIVMSG bob :said back to us")
        peer.say(":Alice!a@h PRIVMSG Alice :to ourselves")
        await synced(peer)
        assert direct(host) == [
            ("b{ob", "text", "hi"), ("b{ob", "emote", "waves"), ("bob", "notice", "psst"),
        ]  # fmt: skip
        assert [one.sender.name for one in host.of(RemoteMessage)] == ["B[ob", "b{OB", "bob"]
        assert len({one.id for one in host.of(RemoteMessage)}) == 3
    assert not any(one.startswith("NOTICE") for one in peer.heard)


async def test_what_is_done_to_messages_and_who_writes_comes_into_a_direct_chat_too() -> None:
    tags, lol = "message-tags draft/message-redaction", "+draft/reply=m1;+draft/react=lol"
    async with a_speaker(capabilities=tags) as (puppet, host, peer, _):
        peer.say(
            "@+typing=active :bob!b@h TAGMSG Alice", f"@msgid=m2;{lol} :bob!b@h TAGMSG alice",
            "@msgid=m3;+draft/reply=m1 :bob!b@h PRIVMSG Alice :indeed",
            f"@msgid=m4;{lol.replace('react', 'unreact')} :bob!b@h TAGMSG Alice",
            f"@msgid=m5;{lol} :bob!b@h TAGMSG #room", f"@msgid=m6;{lol} :Alice!a@h TAGMSG bob",
            f"@msgid=m7;{lol} :NickServ!s@services.test TAGMSG Alice",
            "@+typing=active :irc.test TAGMSG Alice", ":bob!b@h REDACT Alice m3 :oops",
        )  # fmt: skip
        await host.wait_for(RemoteRedaction, 2)
        writes, reacted, said, unreacted, gone = host.events
        assert isinstance(writes, RemoteTyping)
        assert (writes.chat, writes.user.name, writes.is_typing) == ("bob", "bob", True)
        assert isinstance(reacted, RemoteReaction)
        assert (reacted.chat, reacted.target, reacted.key) == ("bob", "m1", "lol")
        assert isinstance(said, RemoteMessage)
        assert (said.reply_to, said.direct) == ("m1", True)
        assert isinstance(unreacted, RemoteRedaction)
        assert unreacted.target == reacted.alias
        assert isinstance(gone, RemoteRedaction)
        assert (gone.chat, gone.target, gone.reason) == ("bob", "m3", "oops")
        for name in ("nickserv", "alice", "bob"):
            await puppet.send_typing(Typing(
                chat=RemoteChatId(name), is_typing=True,
                sender=Sender(user_id=user_id("Alice"), name="Alice"),
            ))  # fmt: skip
        assert await peer.expect("@+typing") == "@+typing=active TAGMSG bob"


async def test_services_open_no_chat_and_are_told_no_password_from_one() -> None:
    async with a_speaker(nickserv="Keeper@services.test") as started:
        puppet, host, peer, _ = started
        for nick in ("NickServ", "Keeper", "ChanServ"):
            peer.say(f":{nick}!s@x.test NOTICE Alice :your code is 4711")
        peer.say(":help!h@services.test PRIVMSG Alice :welcome")
        await synced(peer)
        assert direct(host) == []
        for text in ("IDENTIFY alice hunter2", "register hunter2 a@b.c", "set password hunter2"):
            with pytest.raises(PermanentFailure, match="say login test in a direct chat") as error:
                await puppet.send(message("nickserv", text))
            assert "hunter2" not in str(error.value)
        await puppet.send(message("nickserv", "info bob"))
        await peer.expect("PRIVMSG nickserv :info bob")
        # Somebody asked: what comes now is the answer.
        peer.say(":NickServ!s@services.test NOTICE Alice :bob is registered")
        await synced(peer)
        assert direct(host) == [("nickserv", "notice", "bob is registered")]
    assert not any("hunter2" in one for one in peer.heard)


@pytest.mark.parametrize("name", ["&x@services.test", "+x@services.test"])
async def test_a_channel_is_no_service_whatever_sign_its_name_begins_with(name: str) -> None:
    async with scripted_server() as server:
        puppet, _ = Network(server.port).puppet("Alice")
        async with running(puppet), asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(puppet.send(message(name, "register hunter2 a@b.c")))
            peer = await server.accept()
            await peer.welcome("CHANTYPES=#&+")
            assert await peer.admit() == name
            await peer.expect(f"PRIVMSG {name} :register hunter2")
            await sending
            # Where names of channels do not begin so, it is a person's.
            peer.say(":irc.test 005 {nick} CHANTYPES=# :are supported", f":{{nick}} PART {name}")
            await synced(peer)
            with pytest.raises(PermanentFailure, match="say login test"):
                await puppet.send(message(name, "register hunter2 a@b.c"))


async def test_who_takes_the_nick_of_another_partner_is_told_apart_from_them() -> None:
    async with a_speaker() as (_, host, peer, _):
        peer.say(":bob!b@home PRIVMSG Alice :hi", ":eve!e@evil PRIVMSG Alice :hi, too")
        peer.say(":eve!e@evil NICK bob", ":bob!e@evil PRIVMSG Alice :it is me")
        await synced(peer)
        (remark,) = host.of(RemoteRemark)
        assert remark.chat == "bob"
        assert "bob is e@evil now, and was b@home before" in remark.text


async def test_a_partner_is_followed_under_another_nick_and_told_apart_from_the_next_of_it() -> (
    None
):
    async with a_speaker() as (_, host, peer, _):
        peer.say(":bob!b@h PRIVMSG Alice :hi", ":eve!e@h NICK mallory", ":bob!b@h NICK robert")
        await synced(peer)
        (rename,) = host.of(RemoteRename)
        assert (rename.chat, rename.old.id, rename.new.name) == ("bob", "bob", "robert")
        peer.say(":robert!b@h PRIVMSG Alice :still me", ":robert!b@h QUIT :one.test two.test")
        peer.say(":robert!b@h QUIT :sleep", ":eve!e@h QUIT :who")
        peer.say(":robert!b@h PRIVMSG Alice :back", ":robert!x@y PRIVMSG Alice :me, too")
        await synced(peer)
        remarks = [(one.chat, one.text) for one in host.of(RemoteRemark)]
        assert [chat for chat, _ in remarks] == ["robert", "robert"]
        assert "robert has left the network (sleep)" in remarks[0][1]
        assert "robert is x@y now, and was b@h before" in remarks[1][1]
        assert [text for _, _, text in direct(host)] == ["hi", "still me", "back", "me, too"]


async def test_who_has_the_nick_of_a_partner_and_is_not_that_person_is_not_followed() -> None:
    async with a_speaker(capabilities="account-tag") as (_, host, peer, _):
        peer.say("@account=bob :bob!b@h PRIVMSG Alice :hi", ":bob!b@h QUIT :bye")
        peer.say(":mallory!m@evil NICK bob", ":bob!m@evil ACCOUNT mallory")
        peer.say(":bob!m@evil NICK mallory", ":mallory!m@evil NICK bob")
        peer.say("@account=mallory :bob!m@evil PRIVMSG Alice :it is me")
        await synced(peer)
        assert host.of(RemoteRename) == []
        _, other, remark = host.of(RemoteRemark)
        assert other.text.startswith("bob goes by mallory now. Nothing shows that it is who you")
        assert "bob is m@evil now, and was b@h before: it may be somebody else" in remark.text
        # By the account it is the same person from another place.
        peer.say("@account=bob :bob!b@h PRIVMSG Alice :back", ":bob!b@h ACCOUNT bobs")
        peer.say("@account=bobs :bob!x@y NICK bobby")
        (rename,) = await host.wait_for(RemoteRename)
        assert (rename.chat, rename.new.id) == ("bob", "bobby")


async def test_who_has_said_nothing_so_far_is_not_followed_and_that_is_told() -> None:
    async with a_speaker() as (puppet, host, peer, _):
        await puppet.send(message("bob", "hi"))
        peer.say(":bob!b@h ACCOUNT bob", ":bob!b@h NICK Bob", ":Bob!b@h NICK robert")
        (remark,) = await host.wait_for(RemoteRemark)
        assert remark.chat == "bob"
        assert remark.text.startswith("Bob goes by robert now. Nothing shows that it is who you")
        assert remark.text.endswith("!trestle query robert begins one with robert.")
        await puppet.send(message("bob", "still there?"))
        await peer.expect("PRIVMSG Bob :still there?")


async def test_whose_host_changed_unseen_is_not_followed_and_that_is_told() -> None:
    async with a_speaker() as (_, host, peer, _):
        peer.say(":bob!b@home PRIVMSG Alice :hi", ":bob!b@home QUIT :Changing host")
        peer.say(":bob!b@cloak JOIN #room", ":bob!b@cloak NICK robert")
        await synced(peer)
        assert host.of(RemoteRename) == []
        remark = host.of(RemoteRemark)[-1]
        assert (remark.chat, remark.text.split(".")[0]) == ("bob", "bob goes by robert now")


async def test_what_is_answered_to_a_nick_in_another_charset_is_said_to_nobody_else() -> None:
    async with a_speaker() as (puppet, host, peer, _):

        async def say(text: str, charset: str) -> None:
            peer.say_bytes(f":Élan!e@h {text}\r\n".encode(charset))
            await synced(peer)

        await say("PRIVMSG Alice :psst", "cp1252")
        ((chat, _, _),) = direct(host)
        answer = replace(message("", "to you alone"), chat=RemoteChatId(chat))
        why = "Élan writes that name in another charset than UTF-8: what is said to it would reach"
        assert why in await refusal(puppet.send(answer))
        await say("QUIT :gone", "utf-8")  # That is somebody else.
        await say("NICK Élan", "cp1252")
        peer.say(":irc.test 301 Alice Élan :at lunch")
        await synced(peer)
        assert why in await refusal(puppet.send(answer))
        assert not host.of(RemoteRemark)
        await say("PRIVMSG Alice :it is me", "utf-8")
        await puppet.send(answer)
        await peer.expect("PRIVMSG Élan :to you alone")
        await say("QUIT :gone", "cp1252")
        assert not host.of(RemoteRemark)
        await say("QUIT :gone", "utf-8")
        assert next(one.text for one in host.of(RemoteRemark)).startswith("Élan has left")
        assert [one[0] for one in direct(host)] == [chat, chat]
        await say("PRIVMSG Alice :psst", "cp1252")
        peer.say_bytes(":Élan!e@h NICK ellen\r\n".encode("cp1252"))
        await synced(peer)
        await puppet.send(message("ellen", "and you"))
        await peer.expect("PRIVMSG ellen :and you")


async def test_that_a_partner_is_away_is_told_once_and_that_they_are_back() -> None:
    async with a_speaker() as (puppet, host, peer, _):
        peer.say(":irc.test 301 Alice bob :not asked for", ":bob!b@h AWAY :nor this")
        await synced(peer)
        await puppet.send(message("bob", "hi"))
        clock = ":irc.test 301 Alice bob :since 12:0"
        away = ":irc.test 301 Alice Bob :\x02at\x02 lunch"
        peer.say(away, away, ":bob!b@h AWAY :at lunch", ":bob!b@h AWAY", ":bob!b@h AWAY", away)
        peer.say(":bob!b@h PRIVMSG Alice :I am here", away, *(f"{clock}{n}" for n in range(9)))
        await synced(peer)
        said = [(one.chat, one.text) for one in host.of(RemoteRemark)]
    gone = ("bob", "Bob is away: at lunch")
    assert said == [gone, ("bob", "bob is back."), gone]


async def test_an_invitation_comes_from_whoever_invites() -> None:
    async with a_speaker() as (_, host, peer, _):
        peer.say(":bob!b@h INVITE Alice #den", ":bob!b@h INVITE eve #den")
        peer.say(":bob!b@h INVITE Alice den", ":ChanServ!s@services.test INVITE Alice #den")
        await synced(peer)
        invited = "invites you into #den (the command for it: !trestle join #den)"
        assert direct(host) == [("bob", "emote", invited)]


async def test_what_the_bridge_refuses_is_told_to_who_said_it_once() -> None:
    async with a_speaker() as (_, host, peer, _):
        host.failures = [PermanentFailure("they take none") for _ in range(3)]
        peer.say(":eve!e@h NOTICE Alice :no answer to a notice")
        peer.say(*(f":bob!b@h PRIVMSG Alice :{one}" for one in ("one", "two", "three")))
        await host.wait_for(RemoteMessage)
        await synced(peer)
    notices = [one for one in peer.heard if one.startswith("NOTICE")]
    assert notices == ["NOTICE bob :Your message was not carried to Matrix: they take none."]


async def test_where_the_settings_let_nobody_private_messages_are_answered_with_that() -> None:
    async with a_speaker(private_messages=False) as (_, host, peer, _):
        peer.say(":bob!b@h PRIVMSG Alice :hi", ":bob!b@h PRIVMSG Alice :hi?")
        peer.say("@+typing=active :eve!e@h TAGMSG Alice", ":eve!e@h REDACT Alice yes")
        await synced(peer)
        assert host.of(RemoteMessage) == []
    (notice,) = [one for one in peer.heard if one.startswith("NOTICE")]
    assert "Private messages are not carried there" in notice


async def test_a_direct_message_needs_no_channel_and_is_refused_for_nobody_and_for_ourselves() -> (
    None
):
    async with scripted_server() as server:
        network = Network(server.port)
        async with speaking(server, network) as (puppet, _, peer, _):
            await puppet.send(message("bob", "hi"))
            await puppet.send(message("bob", "beep", kind=MessageKind.NOTICE))
            await peer.expect("PRIVMSG bob :hi")
            await peer.expect("NOTICE bob :beep")
            with pytest.raises(PermanentFailure, match="own connection"):
                await puppet.send(message("alice", "to myself"))
            peer.pong = None
            async with asyncio.TaskGroup() as tasks:
                sent = tasks.create_task(refusal(puppet.send(message("gone", "hi"))))
                await peer.expect("PRIVMSG gone :hi")
                peer.say(":irc.test 401 Alice gone :No such nick/channel")
                marker = (await peer.expect("PING ")).removeprefix("PING ")
                peer.say(f":irc.test PONG irc.test :{marker}")
            assert "nobody and no channel has that name" in sent.result()
        assert not any(one.startswith("JOIN") for one in peer.heard if "#room" not in one)
