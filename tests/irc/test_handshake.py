"""Signing in, line by line."""

import base64
from collections.abc import Iterator

import pytest

from bridge.networks.irc.names.nicks import candidates
from bridge.networks.irc.protocol import endings
from bridge.sdk.errors import LoginRequired, ModuleNotReady
from bridge.sdk.secret import Secret
from tests.irc.handshakes import begin, feed, identity, sasl


def test_a_plain_sign_in_tells_nick_and_capabilities() -> None:
    handshake, first = begin(identity())
    assert first == ["CAP LS 302", "NICK bob", "USER bob 0 * :@bob:example.org"]
    assert feed(handshake, ":s CAP * LS * :sts=port=1 server-time", ":s CAP * LS :message-tags"
    ) == ["CAP REQ :message-tags server-time"]  # fmt: skip
    assert feed(handshake, ":s CAP * ACK :message-tags server-time") == ["CAP END"]
    assert feed(handshake, ":s 001 bob :Welcome", ":s 005 bob NICKLEN=20 :are supported") == []
    assert not handshake.done
    feed(handshake, ":s 376 bob :End")
    assert handshake.done
    assert handshake.nick == "bob"
    assert handshake.offers.held == {"message-tags", "server-time"}


def test_a_server_without_capabilities_lets_us_in_too() -> None:
    handshake, _ = begin(identity(password=Secret("pass word")))
    assert feed(handshake, ":s 421 * CAP :Unknown command", ":s 001 bob :Hi", ":s 422 bob :No"
    ) == []  # fmt: skip
    assert handshake.done


def test_the_server_password_goes_first() -> None:
    _, first = begin(identity(password=Secret("pass word")))
    assert first[:2] == ["CAP LS 302", "PASS :pass word"]


def test_a_long_real_name_is_cut_for_the_line_to_be_taken() -> None:
    _, first = begin(identity(realname="@bob:example.org " + "ö" * 500))
    assert first[-1].startswith("USER bob 0 * :@bob:example.org öö")
    assert len(first[-1].encode()) < 510


def test_a_nick_in_use_gets_the_next_candidate() -> None:
    handshake, _ = begin(identity())
    assert feed(handshake, ":s 433 * bob :In use") == ["NICK bob_"]
    assert feed(handshake, ":s 432 * bob_ :Erroneous") == ["NICK bob__"]
    feed(handshake, ":s 001 bob__ :Hi", ":s 376 bob__ :End")
    assert handshake.nick == "bob__"


def test_when_no_nick_is_taken_the_sentence_names_the_first() -> None:
    handshake, _ = begin(identity(nicks=iter(["bob", "bob_"])))
    feed(handshake, ":s 433 * bob :In use")
    with pytest.raises(ModuleNotReady, match=r"refused the nick bob and 1 more like it: reserved"):
        feed(handshake, ":s 432 * bob_ :reserved for services")


@pytest.mark.parametrize(
    ("personal", "numeric", "kind"),
    [(True, 432, LoginRequired), (True, 433, ModuleNotReady), (False, 432, ModuleNotReady)],
)
def test_only_a_person_whose_nicks_are_all_forbidden_must_do_something(
    personal: bool, numeric: int, kind: type[Exception]
) -> None:
    handshake, _ = begin(identity(nicks=iter(["bob", "bob_"]), personal=personal))
    feed(handshake, ":s 432 * bob :not here")
    with pytest.raises(kind, match="refused the nick bob"):
        feed(handshake, f":s {numeric} * bob_ :not here")


def test_sasl_plain_signs_in_before_the_end_of_capabilities() -> None:
    handshake, _ = begin(sasl())
    assert feed(handshake, ":s CAP * LS :sasl=EXTERNAL,PLAIN") == ["CAP REQ sasl"]
    assert feed(handshake, ":s CAP * ACK :sasl") == ["AUTHENTICATE PLAIN"]
    token = base64.b64encode(b"acc\0acc\0xxxxxx").decode()
    assert feed(handshake, "AUTHENTICATE +") == [f"AUTHENTICATE {token}"]
    assert feed(handshake, ":s 900 * * acc :You are", ":s 903 * :Done") == ["CAP END"]
    feed(handshake, ":s 001 bob :Hi", ":s 376 bob :End")
    assert handshake.done


@pytest.mark.parametrize("length", [280, 291, 292, 600])
def test_a_long_password_goes_in_chunks(length: int) -> None:
    handshake, _ = begin(sasl(length))
    feed(handshake, ":s CAP * LS :sasl", ":s CAP * ACK :sasl")
    chunks = [text.split()[1] for text in feed(handshake, "AUTHENTICATE +")]
    assert all(len(chunk) == 400 for chunk in chunks[:-1])
    assert len(chunks[-1]) < 400
    token = "".join(chunks).removesuffix("+") if chunks[-1] == "+" else "".join(chunks)
    assert base64.b64decode(token) == b"acc\0acc\0" + b"x" * length


def test_sasl_is_not_given_up_for_what_is_refused_beside_it() -> None:
    handshake, _ = begin(sasl())
    asked = feed(handshake, ":s CAP * LS :sasl server-time setname")
    assert asked == ["CAP REQ :sasl server-time setname"]
    assert feed(handshake, ":s CAP * NAK :sasl server-time setname") == [
        "CAP REQ sasl", "CAP REQ server-time", "CAP REQ setname"
    ]  # fmt: skip
    assert feed(handshake, ":s CAP * ACK sasl", ":s CAP * NAK server-time") == []
    assert feed(handshake, ":s CAP * ACK setname") == ["AUTHENTICATE PLAIN"]


@pytest.mark.parametrize(
    ("lines", "error", "sentence"),
    [
        ([":s CAP * LS :sasl", ":s CAP * ACK :sasl", ":s 904 * :failed"],
         LoginRequired, "refused the account acc: failed"),
        ([":s CAP * LS :server-time"], ModuleNotReady, "does not offer to sign in by SASL"),
        ([":s CAP * LS :sasl=EXTERNAL"], ModuleNotReady, "does not offer to sign in by SASL"),
        ([":s CAP * LS :sasl", ":s CAP * NAK :sasl"], ModuleNotReady, "refuses it"),
        ([":s 421 * CAP :Unknown command"], ModuleNotReady, "does not know SASL"),
        ([":s 001 bob :Hi"], ModuleNotReady, "without looking at the account"),
        ([":s 464 * :Password incorrect"], LoginRequired, "refused the server password"),
        ([":s 465 * :You are banned: spam"], LoginRequired, "does not let us in: You are banned"),
    ],
)  # fmt: skip
def test_a_refusal_is_a_sentence(lines: list[str], error: type[Exception], sentence: str) -> None:
    handshake, _ = begin(sasl())
    with pytest.raises(error, match=sentence):
        feed(handshake, *lines)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("Closing Link: (K-Lined: spam)", LoginRequired),
        ("Closing link: (you have been G-lined: no bots)", LoginRequired),
        ("Closing Link: You are banned from this server", LoginRequired),
        ("Access denied: Bad password?", LoginRequired),
        ("Closing Link: (Throttled: Reconnecting too fast)", ModuleNotReady),
        ("Closing Link: (Too many connections)", ModuleNotReady),
    ],
)
def test_the_end_of_a_connection_says_what_the_server_said(
    said: str, error: type[Exception]
) -> None:
    ended = endings.ended("irc.example:6697", said)
    assert isinstance(ended, error)
    assert said in str(ended)


def test_candidates_are_asked_for_one_at_a_time() -> None:
    asked: list[str] = []

    def watch() -> Iterator[str]:
        for nick in candidates("bob", 9):
            asked.append(nick)
            yield nick

    handshake, _ = begin(identity(nicks=watch()))
    assert asked == ["bob"]
    feed(handshake, ":s 433 * bob :In use")
    assert asked == ["bob", "bob_"]


@pytest.mark.parametrize(("personal", "way"), [(True, "Sign in"), (False, "Set sasl_account")])
def test_a_server_that_says_by_a_code_that_it_wants_an_account_is_understood_in_any_words(
    personal: bool, way: str
) -> None:
    """As Ergo does, whose admins choose the words of the ``ERROR`` that follows."""
    handshake, _ = begin(identity(personal=personal))
    feed(handshake, ":s CAP * LS :")
    with pytest.raises(LoginRequired, match=f"Members only, friend. {way}"):
        feed(handshake, ":s FAIL * ACCOUNT_REQUIRED :Members only, friend")
