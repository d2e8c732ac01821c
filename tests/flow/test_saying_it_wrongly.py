"""Who says a command by halves, or by another name, reads how it is said."""

from dataclasses import replace
from pathlib import Path

from bridge.model import InstanceRules, Permission
from bridge.sdk.ids import InstanceId
from bridge.settings.records import DatabaseSettings, Settings
from tests.flow.chats import Chat, answer
from tests.flow.networks import irc_module
from tests.flow.rooms import enter
from tests.rigs.irc_user import irc_user
from tests.rigs.ircd import IrcServer
from tests.rigs.trestle import Town, make_modules, running


async def test_help_finds_a_word_wherever_it_is_known_and_says_what_may_be_meant(
    town: Town, irc: IrcServer, folder: Path, database_settings: DatabaseSettings
) -> None:
    modules = irc_module(irc) | {"far": irc_module(irc, nick="farther")["near"]}
    settings = town.settings_for(folder, database_settings, modules=make_modules(modules))
    async with running(settings):
        alice = await town.person("alice")
        room = await enter(alice, room_version="11")
        for said, heard in (
            ("help set", "!trestle set [network] [key value] — see or change"),
            ("help Bridge", "(needs power in the room)"),
            ("help whois", "!trestle near whois <nick> — say who somebody is"),
            ("help whois", "!trestle far whois <nick>"),
            ("help Near WHOIS", "!trestle near whois <nick>"),
            ("help near", "!trestle near kick <nick> [reason]"),
            ("near help Kick", "!trestle near kick <nick> [reason]"),
            ("help near whios", "near takes no such command. Did you mean whois?"),
            ("help whios", "called 'whios' here that you use. Did you mean whois?"),
            ("help uncertain_things", "called 'uncertain_things' here that you use. Say"),
            ("near whios carl", "near takes no such command. Did you mean whois?"),
            ("whios carl", "I do not know 'whios'. Did you mean whois?"),
            ("hello", "I do not know 'hello'. Say !trestle help for a list."),
        ):
            assert heard in await answer(alice, room, said)


async def test_who_leaves_out_what_a_command_needs_reads_how_it_is_said(
    town: Town, irc: IrcServer, settings: Settings
) -> None:
    async with running(settings), irc_user(irc.port, "carl") as carl:
        await carl.join("#halves")
        alice = await town.person("alice")
        room = await enter(alice, room_version="11")
        assert "bridged to #halves" in await answer(alice, room, "bridge Near #halves")
        for said, usage in (
            ("kick", "kick <nick> [reason]"), ("whois", "whois <nick>"),
            ("ban", "ban [-]<nick or mask>"), ("ban -", "ban [-]<nick or mask>"),
            ("op -", "op [-]<nick> ..."), ("msg carl", "msg <nick> <text>"),
            ("mode", "mode <flags> [values]"), ("invite", "invite <nick>"),
            ("join", "join <chat> [key]"), ("near query", "query <person>"),
            ("near names #other", "names alone"), ("near sync now", "sync alone"),
            ("near disconnect please", "disconnect alone"),
        ):  # fmt: skip
            told = await answer(alice, room, said)
            assert told.rstrip(".") == f"I could not do that: say !trestle {usage.rstrip('.')}"

        away = await enter(alice, room_version="11")
        assert "say part <#channel> [reason], or" in await answer(alice, away, "part")
        assert "you are not in #halves" in await answer(alice, room, "part")
        await alice.say(room, "hello")
        await carl.expect("PRIVMSG #halves", "hello")
        assert "You left #halves" in await answer(alice, room, "part off to lunch")
        await carl.expect(" PART #halves", "off to lunch")


async def test_what_is_chosen_is_read_in_any_case_and_its_refusal_names_all_values(
    town: Town, settings: Settings
) -> None:
    async with running(settings):
        alice = await town.person("alice")
        room = await enter(alice, room_version="11")
        await answer(alice, room, "bridge NEAR #chosen")
        for said, heard in (
            ("set members x", "members takes full, speakers, none or default."),
            ("set puppets x", "puppets takes automatic, login, relay or default."),
            ("set uncertain x", "uncertain takes resend or hold."),
            ("set privacy", "privacy takes on, off or default."),
            ("set relay Somebody", "relay takes mine or bot."),
            ("set Members Full", "members is full for #chosen on near now."),
            ("set Near UNCERTAIN hold", "uncertain is hold for #chosen on near now."),
            ("set relay_name {name} of Trestle", "relay_name is {name} of Trestle for"),
            ("set relay_name Default", "relay_name is default for"),
            ("pause near #other", "this room is not bridged there, but to: near #chosen."),
            ("unbridge naer", "this room is not bridged there, but to: near #chosen."),
            ("pause Near", "until you say !trestle resume"),
            ("unbridge Near", "no longer bridged"),
        ):
            assert heard in await answer(alice, room, said)


async def test_fixed_words_are_read_in_any_case_and_help_names_all_that_is_taken(
    town: Town, settings: Settings
) -> None:
    async with running(settings):
        alice = await town.person("alice")
        room = await enter(alice, room_version="11")
        await answer(alice, room, "bridge near #folded")
        for said, heard in (
            ("parked Retry ALL", "Nothing of that kind is parked of this room."),
            ("parked Drop All", "Nothing of that kind is parked of this room."),
            (f"policy Apply {room}", "does not follow"),
            (f"policy near OFF {room}", "does not follow"),
            ("optout Everywhere", "Nothing that you say is bridged anywhere any more."),
            ("optin EVERYWHERE", "What you say is bridged again."),
            ("double-puppet Off", "If I had a token of yours, it is forgotten."),
            ("username OFF", " already."),
            ("key sesame", "The key of #folded is kept"),
            ("key None", "No key of #folded is kept any more."),
            ("near key Off", "No key of #folded is kept any more."),
            ("help key", "!trestle near key [key|off] — "),
            (
                "help parked",
                "|retry rest|drop <name>|drop all [reason] [number]]",
            ),
            ("help policy", "[list|apply list [yes]|off list]"),
        ):
            assert heard in await answer(alice, room, said)
        chat = (await Chat.begun_by(alice)).room
        assert await answer(alice, chat, "sessions End ALL") == "Ended: 0."


async def test_a_word_that_forgets_a_key_is_none(town: Town, settings: Settings) -> None:
    async with running(settings):
        alice = await town.person("alice")
        room = await enter(alice, room_version="11")
        for word in ("off", "None"):
            assert "forget a key" in await answer(alice, room, f"bridge near #keyless {word}")


async def test_who_has_no_power_sees_the_topic_and_whether_there_is_a_key_and_sets_neither(
    town: Town, irc: IrcServer, settings: Settings
) -> None:
    async with running(settings), irc_user(irc.port, "carl") as carl:
        await carl.join("#seen")
        carl.say("TOPIC #seen :tea and cake")
        await carl.expect("TOPIC #seen")
        alice, bob = await town.person("alice"), await town.person("bob")
        room = await enter(alice, room_version="11")
        await answer(alice, room, "bridge near #seen")
        await bob.join(room)
        await bob.wait_for_text(room, "This room is bridged to #seen")
        for said, heard in (
            ("topic", "#seen: tea and cake"),
            ("topic coffee", "you need the power"),
            ("key", "A key of #seen is not kept."),
            ("key sesame", "you need the power"),
            ("help topic", "(needs power in the room where something follows)"),
        ):
            assert heard in await answer(bob, room, said)


async def test_a_network_that_somebody_may_not_use_is_none_of_theirs_in_any_case(
    town: Town, irc: IrcServer, folder: Path, database_settings: DatabaseSettings
) -> None:
    modules = make_modules(irc_module(irc))
    alice, near = await town.person("alice"), InstanceId("near")
    rules = InstanceRules(permissions={alice.id: Permission.RELAY})
    modules[near] = replace(modules[near], rules=rules)
    settings = town.settings_for(folder, database_settings, modules=modules)
    async with running(settings):
        room = await enter(alice, room_version="11")
        for said in ("bridge near #theirs", "bridge NEAR #theirs"):
            assert "do not let you do that" in await answer(alice, room, said)
        assert "called 'whois' here that you use" in await answer(alice, room, "help whois")
