"""Signing in to an account: each way, what is tried in turn, and whom we believe."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.networks.irc.protocol import sasl
from bridge.networks.irc.protocol.handshake import MOST_SAID, MOST_UNHEARD, Handshake, Identity
from bridge.sdk.errors import LoginRequired, ModuleNotReady
from bridge.sdk.secret import Secret
from tests.irc.handshakes import begin, feed, identity
from tests.irc.handshakes import sasl as with_account
from tests.rigs.scale import examples

# RFC 7677, section 3.
NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = (
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
)
CLIENT_FINAL = (
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def scram() -> sasl.ScramSha256:
    return sasl.ScramSha256("user", Secret("pencil"), NONCE)


def test_a_password_that_no_text_can_be_is_a_wrong_one() -> None:
    said = sasl.Plain("user", Secret("a\ud83d")).answer(b"")
    assert said == b"user\0user\0a?"
    with pytest.raises(ValueError, match="forbids"):
        sasl.ScramSha256("user", Secret("a\ud83d"))


def test_scram_says_what_the_rfc_says() -> None:
    exchange = scram()
    assert exchange.answer(b"").decode() == f"n,,n=user,r={NONCE}"
    assert exchange.answer(SERVER_FIRST.encode()).decode() == CLIENT_FINAL
    assert not exchange.trusts
    assert exchange.answer(SERVER_FINAL.encode()) == b""
    assert exchange.trusts


@pytest.mark.parametrize(
    ("first", "final"),
    [
        (SERVER_FIRST, SERVER_FINAL.replace("6rri", "7rri")),
        (SERVER_FIRST, "e=invalid-proof"),
        (SERVER_FIRST.replace("rOpr", "XXXX"), SERVER_FINAL),
        (SERVER_FIRST.replace("4096", "4095"), SERVER_FINAL),
        (SERVER_FIRST.replace("4096", "999999999"), SERVER_FINAL),
        (SERVER_FIRST.replace("i=4096", ""), SERVER_FINAL),
        ("\xff", SERVER_FINAL),
        ("", SERVER_FINAL),
    ],
)
def test_a_server_that_proves_nothing_is_not_believed(first: str, final: str) -> None:
    exchange = scram()
    with pytest.raises(ModuleNotReady):
        answer_all(exchange, b"", first.encode("latin-1"), final.encode())
    assert not exchange.trusts


def answer_all(exchange: sasl.Mechanism, *challenges: bytes) -> None:
    for challenge in challenges:
        exchange.answer(challenge)


@pytest.mark.parametrize(
    ("offered", "certificate", "account", "names"),
    [
        ("EXTERNAL,PLAIN,SCRAM-SHA-256", True, True, ["EXTERNAL", "SCRAM-SHA-256", "PLAIN"]),
        ("plain,scram-sha-256", True, True, ["SCRAM-SHA-256", "PLAIN"]),
        ("EXTERNAL,PLAIN", False, True, ["PLAIN"]),
        ("EXTERNAL,PLAIN", True, False, ["EXTERNAL"]),
        ("", False, True, ["PLAIN"]),
        ("ECDSA-NIST256P-CHALLENGE", True, True, []),
    ],
)
def test_what_tells_the_server_least_is_tried_first(
    offered: str, certificate: bool, account: bool, names: list[str]
) -> None:
    ways = sasl.choose(
        offered.split(","),
        account="acc" if account else None,
        password=Secret("pw") if account else None,
        certificate=certificate,
    )
    assert [way.name for way in ways] == names


@pytest.mark.parametrize(("account", "password"), [("acc", "p\U0001f600w"), ("a\x07c", "pw")])
def test_what_scram_cannot_say_is_said_by_plain(account: str, password: str) -> None:
    offered = ["SCRAM-SHA-256", "PLAIN"]
    ways = sasl.choose(offered, account=account, password=Secret(password), certificate=False)
    assert [way.name for way in ways] == ["PLAIN"]


@examples(100)
@given(st.binary(max_size=1300))
def test_a_challenge_of_any_length_is_put_together_again(raw: bytes) -> None:
    challenge = sasl.Challenge()
    *begun, last = [one.params[0] for one in sasl.encode(raw)]
    assert all(challenge.feed(chunk) is None for chunk in begun)
    assert challenge.feed(last) == raw


@pytest.mark.parametrize("chunks", [["A"], ["!!!!"], ["A" * 400] * 60])
def test_what_is_no_challenge_is_refused(chunks: list[str]) -> None:
    with pytest.raises(ModuleNotReady):
        feed_all(sasl.Challenge(), chunks)


def feed_all(challenge: sasl.Challenge, chunks: list[str]) -> None:
    for chunk in chunks:
        challenge.feed(chunk)


class ScramServer:
    """The server's part of RFC 5802, by the formulas of its section 3."""

    def __init__(self, password: str) -> None:
        self._password = password
        self._said = ""

    def first(self, client_first: str) -> str:
        """Answer the client's first message."""
        bare = client_first.removeprefix("n,,")
        nonce = bare.partition(",r=")[2] + "server"
        salt = base64.b64encode(b"salt of 16 bytes").decode()
        said = f"r={nonce},s={salt},i=4096"
        self._said = f"{bare},{said}"
        return said

    def final(self, client_final: str) -> str | None:
        """Answer its second; None if the proof is wrong."""
        without, _, proof = client_final.rpartition(",p=")
        salted = hashlib.pbkdf2_hmac("sha256", self._password.encode(), b"salt of 16 bytes", 4096)
        said = f"{self._said},{without}".encode()

        def keyed(key: bytes, text: bytes) -> bytes:
            return hmac.new(key, text, "sha256").digest()

        key = keyed(salted, b"Client Key")
        signature = keyed(hashlib.sha256(key).digest(), said)
        if bytes(a ^ b for a, b in zip(key, signature, strict=True)) != base64.b64decode(proof):
            return None
        return "v=" + base64.b64encode(keyed(keyed(salted, b"Server Key"), said)).decode()


def scram_exchange(who: Identity, password: str) -> tuple[Handshake, list[str]]:
    """Have the handshake go as far as the server's verdict."""
    handshake, _ = begin(who)
    server = ScramServer(password)
    feed(handshake, ":s CAP * LS :sasl=PLAIN,SCRAM-SHA-256")
    assert feed(handshake, ":s CAP * ACK :sasl") == ["AUTHENTICATE SCRAM-SHA-256"]
    said = feed(handshake, "AUTHENTICATE +")
    first = server.first(base64.b64decode(said[0].split()[1]).decode())
    said = feed(handshake, f"AUTHENTICATE {base64.b64encode(first.encode()).decode()}")
    final = server.final(base64.b64decode(said[0].split()[1]).decode())
    if final is None:
        return handshake, feed(handshake, ":s 904 * :SASL authentication failed")
    return handshake, feed(handshake, f"AUTHENTICATE {base64.b64encode(final.encode()).decode()}")


def test_scram_signs_in_and_the_server_has_to_prove_itself() -> None:
    handshake, said = scram_exchange(with_account(), "xxxxxx")
    assert said == ["AUTHENTICATE +"]
    assert feed(handshake, ":s 900 * * acc :You are", ":s 903 * :Done") == ["CAP END"]


def test_a_server_that_skips_its_proof_is_not_believed() -> None:
    handshake, _ = begin(with_account())
    feed(handshake, ":s CAP * LS :sasl=SCRAM-SHA-256", ":s CAP * ACK :sasl", "AUTHENTICATE +")
    with pytest.raises(ModuleNotReady, match="without having proven"):
        feed(handshake, ":s 903 * :Done")


@pytest.mark.parametrize("rounds", ["i=200001", "i=999999999999", "i=x", ""])
def test_no_server_has_us_work_for_it_as_long_as_it_likes(rounds: str) -> None:
    way = sasl.ScramSha256("acc", Secret("xxxxxx"), nonce="nonce")
    way.answer(b"")
    with pytest.raises(ModuleNotReady, match="more than 200000 rounds"):
        way.answer(f"r=noncemore,s=c2FsdA==,{rounds}".encode())


def test_what_one_way_refuses_the_next_may_take() -> None:
    handshake, said = scram_exchange(with_account(), "another")
    assert said == ["AUTHENTICATE PLAIN"]
    token = base64.b64encode(b"acc\0acc\0xxxxxx").decode()
    assert feed(handshake, "AUTHENTICATE +") == [f"AUTHENTICATE {token}"]
    with pytest.raises(LoginRequired, match="refused the account acc: SASL authentication failed"):
        feed(handshake, ":s 904 * :SASL authentication failed")


def test_a_server_that_lists_its_ways_only_when_asked_is_understood() -> None:
    handshake, _ = begin(with_account())
    feed(handshake, ":s CAP * LS :sasl")
    assert feed(handshake, ":s CAP * ACK :sasl") == ["AUTHENTICATE PLAIN"]
    assert feed(
        handshake,
        ":s 908 * SCRAM-SHA-256,PLAIN :are available SASL mechanisms",
        ":s 904 * :failed",
    ) == ["AUTHENTICATE SCRAM-SHA-256"]
    with pytest.raises(LoginRequired):
        feed(handshake, ":s 908 * SCRAM-SHA-256,PLAIN :are available", ":s 904 * :failed")


def test_a_certificate_signs_in_without_a_password() -> None:
    handshake, _ = begin(identity(certificate=True))
    assert feed(handshake, ":s CAP * LS :sasl=EXTERNAL,PLAIN") == ["CAP REQ sasl"]
    assert feed(handshake, ":s CAP * ACK :sasl") == ["AUTHENTICATE EXTERNAL"]
    assert feed(handshake, "AUTHENTICATE +") == ["AUTHENTICATE +"]
    with pytest.raises(LoginRequired, match="refused the certificate: no such"):
        feed(handshake, ":s 904 * :no such")


def test_what_is_broken_off_is_no_refusal_of_the_account() -> None:
    """Services have left the network, or do not answer."""
    handshake, _ = begin(identity(account="acc", account_password=Secret("pw")))
    feed(handshake, ":s CAP * LS :sasl=PLAIN", ":s CAP * ACK :sasl", "AUTHENTICATE +")
    with pytest.raises(ModuleNotReady, match="broke off signing in to the account acc: aborted"):
        feed(handshake, ":s 906 * :aborted")
    handshake, _ = begin(identity())
    feed(handshake, ":s CAP * LS :sasl=PLAIN")
    assert feed(handshake, "AUTHENTICATE +", ":s 906 * :aborted") == ["AUTHENTICATE *"]


@pytest.mark.parametrize("first", ["EXTERNAL", "SCRAM-SHA-256"])
def test_where_one_way_is_broken_off_the_next_is_tried(first: str) -> None:
    """Some services answer so whatever they cannot do."""
    who = identity(
        account="acc", account_password=Secret("pw"), certificate=first == "EXTERNAL"
    )  # fmt: skip
    for verdict, failure in (("906", ModuleNotReady), ("904", LoginRequired)):
        handshake, _ = begin(who)
        feed(handshake, f":s CAP * LS :sasl={first},PLAIN")
        assert feed(handshake, ":s CAP * ACK :sasl") == [f"AUTHENTICATE {first}"]
        assert feed(handshake, ":s 906 * :aborted") == ["AUTHENTICATE PLAIN"]
        with pytest.raises(failure, match="the account acc: verdict"):
            feed(handshake, f":s {verdict} * :verdict")


def test_where_the_last_way_is_broken_off_what_was_refused_before_is_no_verdict() -> None:
    """A certificate that nobody knows is refused each time; the password may be right."""
    handshake, _ = begin(with_account())
    feed(handshake, ":s CAP * LS :sasl=SCRAM-SHA-256,PLAIN", ":s CAP * ACK :sasl")
    assert feed(handshake, ":s 904 * :no such credentials") == ["AUTHENTICATE PLAIN"]
    with pytest.raises(ModuleNotReady, match="broke off signing in to the account acc: aborted"):
        feed(handshake, ":s 906 * :aborted")


def test_a_lone_certificate_that_is_broken_off_keeps_only_the_relay_out() -> None:
    lines = ":s CAP * LS :sasl=EXTERNAL", ":s CAP * ACK :sasl", ":s 906 * :aborted"
    handshake, _ = begin(persons())
    assert feed(handshake, *lines)[-1:] == ["CAP END"]
    handshake, _ = begin(identity(certificate=True))
    with pytest.raises(ModuleNotReady, match="broke off signing in to the certificate"):
        feed(handshake, *lines)


def persons(**changes: object) -> Identity:
    return identity(certificate=True, personal=True, **changes)


@pytest.mark.parametrize("nickserv", [None, "NickServ"])
def test_a_persons_certificate_that_is_not_known_yet_keeps_nobody_out(
    nickserv: str | None,
) -> None:
    account = {"account": "acc", "account_password": Secret("pw")} if nickserv else {}
    handshake, _ = begin(persons(nickserv=nickserv, **account))
    feed(handshake, ":s CAP * LS :sasl=EXTERNAL", ":s CAP * ACK :sasl", "AUTHENTICATE +")
    assert feed(handshake, ":s 904 * :no such") == ["CAP END"]
    told = feed(handshake, ":s 001 bob :Hi", ":s 376 bob :End")
    assert told == (["PRIVMSG NickServ :IDENTIFY acc pw"] if nickserv else [])
    assert handshake.done is (nickserv is None)


def test_where_a_persons_certificate_is_refused_the_password_is_told_and_must_be_right() -> None:
    handshake, _ = begin(persons(account="acc", account_password=Secret("pw")))
    feed(handshake, ":s CAP * LS :sasl=EXTERNAL,PLAIN")
    assert feed(handshake, ":s CAP * ACK :sasl") == ["AUTHENTICATE EXTERNAL"]
    assert feed(handshake, ":s 904 * :no such") == ["AUTHENTICATE PLAIN"]
    with pytest.raises(LoginRequired, match="refused the account acc: wrong"):
        feed(handshake, ":s 904 * :wrong")


@pytest.mark.parametrize(
    "lines", [[":s CAP * LS :sasl=PLAIN"], [":s 421 * CAP :Unknown command"], []]
)
def test_a_certificate_alone_is_shown_where_there_is_no_sasl(lines: list[str]) -> None:
    handshake, _ = begin(identity(certificate=True))
    feed(handshake, *lines, ":s 001 bob :Hi", ":s 376 bob :End")
    assert handshake.done


def nickserv() -> Identity:
    return identity(account="acc", account_password=Secret("pw"), nickserv="NickServ@services.s")


@pytest.mark.parametrize(
    "lines", [[":s CAP * LS :server-time"], [":s 421 * CAP :Unknown command"], [":s CAP * LS :"]]
)
@pytest.mark.parametrize(
    "said",
    [
        ":NickServ!s@services.s NOTICE bob :You are now identified for \x02acc\x02.",
        ":nickserv!s@services.s NOTICE bob :Password accepted -- you are now recognized.",
        ":services.s 900 bob bob!b@h acc :Vous êtes maintenant identifié.",
        ":NickServ!s@services.s MODE bob :+r",
        ":services.s MODE Bob :-x+ir",
        ":bob!b@h ACCOUNT acc",
        ":s 900 bob bob!b@h acc :You are now logged in as acc",
    ],
)
def test_where_there_is_no_sasl_nickserv_is_told(lines: list[str], said: str) -> None:
    handshake, _ = begin(nickserv())
    told = feed(handshake, *lines, ":s 001 bob :Hi", ":s 376 bob :End")
    assert told[-1] == "PRIVMSG NickServ@services.s :IDENTIFY acc pw"
    feed(handshake, ":NickServ!s@services.s NOTICE bob :This nickname is registered.")
    feed(handshake, ":eve!e@h NOTICE bob :You are now identified for acc.")
    assert not handshake.done
    feed(handshake, ":services.s MODE bob :+i-r", ":services.s MODE eve :+r", ":eve!e@h ACCOUNT e")
    assert not handshake.done
    assert handshake.awaited == (
        "pass on an answer from NickServ@services.s that we understand (it said: This nickname is "
        "registered.)"
    )
    feed(handshake, said)
    assert handshake.done


def test_what_nickserv_says_is_told_without_the_password_and_what_it_does_is_no_word() -> None:
    handshake, _ = begin(nickserv())
    feed(handshake, ":s 001 bob :Hi", ":s 376 bob :End")
    waits = "pass on an answer from NickServ@services.s"
    feed(handshake, ":NickServ!s@services.s MODE bob :+i", ":NickServ!s@services.s NICK :Nick")
    assert handshake.awaited == waits
    said = f"{'?' * (MOST_SAID - 1)}p\x02w"
    feed(handshake, f":NickServ!s@services.s NOTICE bob :{said}")
    assert handshake.awaited.startswith(f"{waits} that we understand (it said: ???")
    assert "?p" not in handshake.awaited
    with pytest.raises(LoginRequired) as refused:
        feed(handshake, ":NickServ!s@services.s PRIVMSG bob :Invalid password: IDENTIFY acc pW!")
    assert str(refused.value).endswith(": Invalid password: IDENTIFY acc …!")


def test_a_password_that_nickserv_speaks_of_anyhow_changes_nothing_of_what_is_understood() -> None:
    common = identity(account="acc", account_password=Secret("password"), nickserv="NickServ")
    handshake, _ = begin(common)
    feed(handshake, ":s 001 bob :Hi", ":s 376 bob :End")
    with pytest.raises(LoginRequired, match="Invalid … for acc"):
        feed(handshake, ":NickServ!s@services.s NOTICE bob :Invalid password for acc")


ASKED = [
    "PRIVMSG NickServ@services.s :ACC bob *",
    "PRIVMSG NickServ@services.s :STATUS bob",
]


def in_other_words(*texts: str) -> tuple[Handshake, list[str]]:
    """What is said to a NickServ that answers the password so."""
    handshake, _ = begin(nickserv())
    feed(handshake, ":s 001 bob :Hi", ":s 376 bob :End")
    lines = [f":NickServ!s@services.s NOTICE bob :{text}" for text in texts]
    return handshake, feed(handshake, *lines)


@pytest.mark.parametrize(
    "stated",
    [
        "bob -> acc ACC 3 ", "bob ACC 3", "\x02Bob\x02 -> acc ACC 3",  # Atheme
        "STATUS bob 3 acc", "STATUS bob 3",  # Anope
    ],
)  # fmt: skip
def test_services_that_we_do_not_understand_are_asked_once_by_what_is_the_same_in_all_languages(
    stated: str,
) -> None:
    handshake, said = in_other_words("Dieser Nick ist registriert.", "Willkommen!", "Unbekannt")
    assert said == ASKED
    for other in (
        "third -> * ACC 0 (not registered)", "bob -> * ACC 0 (not registered)", "bob ACC 1",
        "STATUS bob 1 acc", "STATUS bob 2", "STATUS eve 3", "eve ACC 3", "bob ACC 33",
    ):  # fmt: skip
        assert feed(handshake, f":NickServ!s@services.s NOTICE bob :{other}") == []
        assert not handshake.done
    feed(handshake, f":eve!e@h NOTICE bob :{stated}")
    assert not handshake.done
    feed(handshake, f":NickServ!s@services.s NOTICE bob :{stated}")
    assert handshake.done
    assert handshake.is_signed_in


def test_services_that_greet_whoever_has_a_registered_nick_are_not_asked_for_that() -> None:
    greeting = "This nickname is registered. Please choose another, or identify via IDENTIFY"
    assert in_other_words(greeting)[1] == []
    assert in_other_words(greeting, "Unbekannt")[1] == ASKED


def test_of_services_that_do_not_say_that_we_are_signed_in_it_is_told_what_they_said() -> None:
    handshake, _ = in_other_words("Registriert.", "Falsch.", "bob -> * ACC 0", "Unbekannt: STATUS")
    assert handshake.awaited == (
        "pass on an answer from NickServ@services.s that we understand (it said: Registriert. / "
        "Falsch.)"
    )


def test_nickserv_may_refuse_or_be_away() -> None:
    for said, kind in (
        (":NickServ!s@services.s NOTICE bob :Invalid password for \x02acc\x02.", LoginRequired),
        (":s 401 bob NickServ@services.s :No such nick", ModuleNotReady),
    ):
        handshake, _ = begin(nickserv())
        feed(handshake, ":s CAP * LS :", ":s 001 bob :Hi", ":s 376 bob :End")
        with pytest.raises(kind, match="NickServ"):
            feed(handshake, said)


@pytest.mark.parametrize(("said", "most"), [("x", MOST_UNHEARD), ("x" * 4096, 1024)])
def test_what_is_said_while_nickserv_is_asked_is_kept_whole_or_too_much(
    said: str, most: int
) -> None:
    handshake, _ = begin(nickserv())
    feed(handshake, ":s CAP * LS :", ":s 001 bob :Hi", ":s 376 bob :End")
    lines = [f":s NOTICE :{said}"] * most
    feed(handshake, *lines)
    assert len(handshake.unheard) == most
    with pytest.raises(ModuleNotReady, match="too much and did not pass on an answer from Nick"):
        feed(handshake, lines[0])


def test_what_a_bouncer_says_again_while_nickserv_is_asked_is_never_too_much() -> None:
    handshake, _ = begin(nickserv())
    feed(handshake, ":s CAP * LS :", ":s 001 bob :Hi", ":s 376 bob :End")
    again = "@time=2026-01-01T00:00:00.000Z :eve!u@h PRIVMSG #room :hello"
    feed(handshake, *([again] * (MOST_UNHEARD + 1)), ":eve!u@h JOIN #room")
    assert handshake.unheard[-1].command == "JOIN"
    assert len(handshake.unheard) == MOST_UNHEARD // 2 + 1


def test_nickserv_is_not_told_where_there_is_sasl() -> None:
    handshake, _ = begin(nickserv())
    feed(handshake, ":s CAP * LS :sasl", ":s CAP * ACK :sasl", "AUTHENTICATE +")
    assert feed(handshake, ":s 903 * :ok", ":s 001 bob :Hi", ":s 376 bob :End") == ["CAP END"]
    assert handshake.done
