"""Each Matrix user has one nick, each nick one user."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bridge.networks.irc.names.nicks import (
    MOST_RESERVED,
    Nicks,
    base_of,
    candidates,
    is_nick,
    username_of,
)
from bridge.networks.irc.names.targets import read_nick, read_own_nick
from bridge.networks.irc.protocol.isupport import Isupport
from bridge.networks.irc.settings import IrcSettings
from bridge.sdk.errors import ModuleNotReady, PermanentFailure
from bridge.sdk.ids import UserId
from tests.irc.stores import MemoryStore
from tests.rigs.scale import examples

LIMITS = Isupport().with_tokens(["NICKLEN=16", "CASEMAPPING=rfc1459"])
BOB = UserId("@bob:example.org")


@pytest.mark.parametrize(
    ("user", "name", "nick"),
    [
        ("@alice:example.org", "Alice", "Alice"),
        ("@alice:example.org", "Zoë Müller", "Zoe_Muller"),
        ("@alice:example.org", "Straße", "Strasse"),
        ("@alice:example.org", "Алиса", "alice"),
        ("@alice:example.org", "", "alice"),
        ("@alice:example.org", "4 Real", "_4_Real"),
        ("@a:example.org", "🎉", "matrix"),
        ("@_:example.org", "#chan,nel\r\nQUIT :x", "chan_nel_QUIT_x"),
        ("@_:example.org", "[Cool]|{guy}`", "[Cool]|{guy}`"),
    ],
)
def test_a_nick_is_named_after_the_user(user: str, name: str, nick: str) -> None:
    assert base_of(UserId(user), name) == nick


def test_a_user_name_is_made_of_the_user_id() -> None:
    assert username_of(UserId("@Alice.B=c/d_long_name:example.org")) == "alicebcd_l"
    assert username_of(UserId("@=:example.org")) == "matrix"


@examples(300)
@given(st.text(), st.text(), st.integers(2, 40))
def test_whatever_people_are_called_candidates_are_valid_and_differ(
    localpart: str, name: str, limit: int
) -> None:
    made = list(islice(candidates(base_of(UserId(f"@{localpart}:x"), name), limit), 12))
    assert all(is_nick(nick) and len(nick) <= limit for nick in made)
    assert len(set(made)) == len(made)


@examples(300)
@given(
    st.text(max_size=20),
    st.integers(5, 30),
    st.sampled_from(["{name}[m]", "m-{name}", "x{name}_y"]),
)
def test_candidates_are_like_what_the_settings_say_and_so_valid_and_differ(
    name: str, limit: int, form: str
) -> None:
    nicks = Nicks(MemoryStore(), "", form)
    made = list(islice(nicks.candidates(nicks.named_after(BOB, name), limit), 12))
    before, _, after = form.partition("{name}")
    assert all(is_nick(nick) and len(nick) <= limit for nick in made)
    assert all(nick.startswith(before) and nick.endswith(after) for nick in made)
    assert len(set(made)) == len(made)


async def test_new_nicks_have_the_mark_that_a_network_asks_for_and_chosen_ones_are_as_chosen() -> (
    None
):
    nicks, ben, kim = Nicks(MemoryStore(), "", "{name}[m]"), UserId("@b:x"), UserId("@kim:x")
    assert await nicks.assign(BOB, "Bob", LIMITS) == "Bob[m]"
    assert await nicks.assign(ben, "Bob", LIMITS) == "Bob_[m]"
    short = Isupport().with_tokens(["NICKLEN=9"])
    assert await nicks.assign(kim, "Kim the Great", short) == "Kim_th[m]"
    await nicks.choose(ben, "ben", LIMITS)
    assert await nicks.assign(ben, "Bob", LIMITS) == "ben"
    assert list(islice(nicks.candidates("ben", 9), 3)) == ["ben", "ben_", "ben__"]
    # Whoever has a nick keeps it.
    later = Nicks(nicks._store, "", "m-{name}")
    assert await later.assign(BOB, "Bob", LIMITS) == "Bob[m]"


@pytest.mark.parametrize(
    "form", ["", "[m]", "{name}{name}", "{name} m", "5{name}", "{name}[matrix]", "{nick}"]
)
def test_what_nicks_can_not_be_made_like_is_refused(form: str) -> None:
    server = {"host": "irc.test"}
    with pytest.raises(ValidationError, match="beside it at most 6 characters"):
        IrcSettings.model_validate({"servers": [server], "puppet_nick": form})


async def test_a_network_with_room_for_no_more_users_says_so() -> None:
    nicks = Nicks(MemoryStore())
    tiny = Isupport().with_tokens(["NICKLEN=2"])
    for number in range(10):
        await nicks.assign(UserId(f"@{number}:x"), "Bob", tiny)
    with pytest.raises(ModuleNotReady, match="All nicks like Bob"):
        await nicks.assign(BOB, "Bob", tiny)


@examples(60)
@given(
    st.lists(st.tuples(st.text(max_size=12), st.text(max_size=20)), max_size=25),
    st.sampled_from(["ascii", "rfc1459", "rfc1459-strict"]),
    st.integers(4, 32),
)
async def test_users_and_nicks_are_one_to_one(
    people: list[tuple[str, str]], mapping: str, length: int
) -> None:
    limits = Isupport().with_tokens([f"CASEMAPPING={mapping}", f"NICKLEN={length}"])
    store = MemoryStore()
    nicks = Nicks(store)
    given_out = {}
    for localpart, name in people:
        user = UserId(f"@{localpart}:example.org")
        given_out[user] = await nicks.assign(user, name, limits)
    assert len({limits.fold(nick) for nick in given_out.values()}) == len(given_out)
    again = Nicks(store)
    for user, nick in given_out.items():
        assert await again.assign(user, "another name", limits) == nick
        assert not again.is_anothers(nick, user, limits)
        assert again.is_anothers(nick, UserId("@somebody else"), limits)


async def test_names_that_the_network_takes_for_one_get_a_suffix() -> None:
    nicks = Nicks(MemoryStore())
    assert await nicks.assign(UserId("@a:x"), "Bob[x]", LIMITS) == "Bob[x]"
    assert await nicks.assign(UserId("@b:x"), "bob{X}", LIMITS) == "bob{X}_"
    assert await nicks.assign(UserId("@c:x"), "BOB[X]", LIMITS) == "BOB[X]__"
    assert await nicks.assign(UserId("@d:x"), "BOB[X]", LIMITS) == "BOB[X]2"


async def test_a_nick_belongs_to_its_subject_in_the_store() -> None:
    store = MemoryStore()
    await Nicks(store).assign(BOB, "Bob", LIMITS)
    assert store.rows == {"nick:@bob:example.org": b"Bob"}
    assert store.subjects == {"nick:@bob:example.org": BOB}


@pytest.mark.parametrize("tokens", [[], ["NICKLEN=9"]])
async def test_a_server_that_takes_only_shorter_nicks_shortens_none_for_good(
    tokens: list[str],
) -> None:
    store, short = MemoryStore(), Isupport().with_tokens(tokens)
    nicks, ben = Nicks(store), UserId("@ben:example.org")
    assert await nicks.assign(BOB, "Bob the Builder", LIMITS) == "Bob_the_Builder"
    assert await nicks.assign(ben, "Bob the Bean", LIMITS) == "Bob_the_Bean"
    for _ in range(2):
        assert await nicks.assign(ben, "Bob the Bean", short) == "Bob_the_B"
        assert await nicks.assign(BOB, "Bob the Builder", short) == "Bob_the__"
        assert nicks.is_anothers("bob_the_b", BOB, short)
        assert await nicks.find(BOB) == nicks.nick_of(BOB) == "Bob_the_Builder"
    for one in (nicks, Nicks(store)):
        assert await one.assign(BOB, "Bob the Builder", LIMITS) == "Bob_the_Builder"
        assert await one.assign(ben, "Bob the Bean", LIMITS) == "Bob_the_Bean"
    # What they went by for a while is anybody's.
    assert await nicks.assign(UserId("@c:x"), "Bob the B", LIMITS) == "Bob_the_B"


async def test_of_a_first_nick_is_kept_what_the_server_said_that_it_takes() -> None:
    nicks = Nicks(MemoryStore())
    assert await nicks.assign(BOB, "Bob the Builder", Isupport()) == "Bob_the_B"
    assert await nicks.find(BOB) is None
    assert await nicks.assign(BOB, "Bob the Builder", LIMITS) == "Bob_the_Builder"
    ten, carl = Isupport().with_tokens(["NICKLEN=10"]), UserId("@carl:example.org")
    assert await nicks.assign(carl, "Carl the Carpenter", ten) == "Carl_the_C"
    assert await nicks.find(carl) == "Carl_the_C"
    assert await nicks.assign(carl, "Carl the Carpenter", LIMITS) == "Carl_the_C"


async def test_of_two_nicks_that_a_network_made_one_the_first_is_kept() -> None:
    nicks = Nicks(MemoryStore())
    other = UserId("@eve:example.org")
    ascii_limits = Isupport().with_tokens(["CASEMAPPING=ascii", "NICKLEN=16"])
    assert await nicks.assign(BOB, "Bob[x]", ascii_limits) == "Bob[x]"
    assert await nicks.assign(other, "bob{x}", ascii_limits) == "bob{x}"
    assert await nicks.assign(other, "bob{x}", LIMITS) == "bob{x}_"
    assert await nicks.assign(BOB, "Bob[x]", LIMITS) == "Bob[x]"
    assert await nicks.assign(UserId("@c:x"), "BOB[X]", LIMITS) == "BOB[X]__"


async def test_the_relays_nick_is_nobodys_also_as_a_network_cuts_it() -> None:
    store = MemoryStore()
    store.rows["nick:@bob:example.org"] = b"trestle[x]"  # Had before it was the relay's.
    nicks = Nicks(store, "Trestle{X}-bridge")
    short = Isupport().with_tokens(["NICKLEN=10", "CASEMAPPING=rfc1459"])
    assert await nicks.assign(BOB, "Bob", short) == "trestle[x_"
    assert await nicks.foretell(UserId("@c:x"), "trestle{x}-bridge", LIMITS) == "trestle{x}-brid_"
    for nick in ("trestle[x]", "TRESTLE{X}-BRIDGE"):
        assert nicks.is_anothers(nick, BOB, short)
        assert not nicks.is_anothers(nick, None, short)
        with pytest.raises(PermanentFailure):
            await nicks.choose(BOB, nick, short)
    assert nicks.is_anothers("trestle[x_", None, short)


async def test_nicks_of_logins_are_kept_beside_the_own_one_and_of_them_so_many() -> None:
    store, carl = MemoryStore(), UserId("@carl:example.org")
    nicks = Nicks(store, "trestle")
    assert await nicks.assign(BOB, "Bob", LIMITS) == "Bob"
    made = [f"b{number}" for number in range(MOST_RESERVED + 1)]
    for nick in ("bob", *made, made[-1].upper()):
        await nicks.reserve(BOB, nick, LIMITS)
    assert store.rows["login nicks:@bob:example.org"].decode().split() == made[:0:-1]
    assert store.subjects["login nicks:@bob:example.org"] == BOB
    for one in (nicks, Nicks(store, "trestle")):
        assert await one.assign(BOB, "Bob", LIMITS) == "Bob"
        for nick in ("BOB", "B1", "Trestle"):
            with pytest.raises(PermanentFailure):
                await one.reserve(carl, nick, LIMITS)
        assert [nick for nick in ("b0", "b1", "Bob") if one.is_anothers(nick, carl, LIMITS)] == [
            "b1", "Bob"
        ]  # fmt: skip
    # One of a login may be the own one; it is kept when that is another.
    await nicks.reserve(BOB, "bob", LIMITS)
    await nicks.choose(BOB, "robert", LIMITS)
    for one in (nicks, Nicks(store, "trestle")):
        await one.load()
        assert one.is_anothers("bob", carl, LIMITS)
    for nick in made:
        await nicks.reserve(BOB, nick, LIMITS)
    await nicks.choose(BOB, "Bob", LIMITS)
    # Who takes another for their own has those of the logins still.
    await nicks.choose(BOB, "b1", LIMITS)
    await nicks.choose(BOB, "bobby", LIMITS)
    assert nicks.is_anothers("b1", carl, LIMITS)
    assert not nicks.is_anothers("Bob", carl, LIMITS)


@pytest.mark.parametrize("name", ["carl", "Ölaf", "東京", "x🦊", "ß-[1]"])
def test_the_nicks_of_others_may_have_letters_of_all_the_world(name: str) -> None:
    assert read_nick(f" {name} ") == name


@pytest.mark.parametrize(
    "name",
    ["", "1a", "-ö", "ö,b", "ö b", "ö\u3000b", "#ö", "@ö",
     "ö!x", "ö\u202eb", "ö\x07", "ö:", "ö" * 65],
)  # fmt: skip
def test_what_can_stand_in_no_line_as_a_nick_is_none(name: str) -> None:
    with pytest.raises(PermanentFailure, match="is no IRC nick"):
        read_nick(name)


def test_of_ours_nobody_has_a_nick_that_some_networks_refuse() -> None:
    assert read_own_nick("carl") == "carl"
    with pytest.raises(PermanentFailure, match="can take"):
        read_own_nick("Ölaf")
