"""The ways to sign in to an account (SASL), each a pure exchange: challenges in, answers out."""

import base64
import binascii
import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import ClassVar, Protocol

from bridge.networks.irc.wire import Line, line
from bridge.sdk.errors import ModuleNotReady
from bridge.sdk.secret import Secret

CHUNK = 400
"""Base64 characters in one AUTHENTICATE; a shorter one ends it (IRCv3 SASL 3.1)."""
MOST_CHUNKS = 50
"""A challenge of more is no challenge."""
MOST_ITERATIONS = 200_000
"""A server that asks for more would keep us from everything else for a tenth of a second."""

_ITERATIONS = re.compile(r"(?:\A|,)i=(\d{1,12})(?:,|\Z)")


class Mechanism(Protocol):
    """One exchange. Answers are asked for once per challenge, the first of which is empty."""

    name: ClassVar[str]

    @property
    def trusts(self) -> bool:
        """Whether the server has proven all that it must, so that a success may be believed."""
        ...

    def answer(self, challenge: bytes) -> bytes:
        """Answer a challenge. Raises ``ModuleNotReady`` if the server cannot be trusted."""
        ...


class External:
    """The certificate of the connection says who we are (RFC 4422)."""

    name: ClassVar[str] = "EXTERNAL"
    trusts = True

    def answer(self, challenge: bytes) -> bytes:
        """Say nothing: the account is the certificate's."""
        return b""


class Plain:
    """Account and password, readable by the server (RFC 4616)."""

    name: ClassVar[str] = "PLAIN"
    trusts = True

    def __init__(self, account: str, password: Secret) -> None:
        self._account = account
        self._password = password

    def answer(self, challenge: bytes) -> bytes:
        """Give account and password."""
        said = f"{self._account}\0{self._account}\0{self._password.reveal()}"
        return said.encode("utf-8", "replace")


class ScramSha256:
    """A proof that we know the password, and one that the server does (RFC 7677)."""

    name: ClassVar[str] = "SCRAM-SHA-256"

    def __init__(self, account: str, password: Secret, nonce: str | None = None) -> None:
        """Raises ``ValueError`` for what SCRAM cannot say: emoji, control characters."""
        import scramp  # noqa: PLC0415 - It is large, and few sign in so.

        self._refusals = (scramp.ScramException, ValueError)
        try:
            self._client = scramp.ScramClient(
                [self.name], account, password.reveal(), c_nonce=nonce
            )
        except self._refusals as error:
            raise ValueError("SASLprep forbids this account or password") from error
        self._step = 0

    @property
    def trusts(self) -> bool:
        """Only one who has proven to know the password is our server."""
        return self._step > 2

    def answer(self, challenge: bytes) -> bytes:
        """Take the next step of the exchange."""
        step, self._step = self._step, self._step + 1
        try:
            said = challenge.decode()
            if step == 0:
                return str(self._client.get_client_first()).encode()
            if step == 1:
                found = _ITERATIONS.search(said)
                if found is None or int(found[1]) > MOST_ITERATIONS:
                    raise ModuleNotReady(
                        f"The server asks for more than {MOST_ITERATIONS} rounds of SCRAM."
                    )
                self._client.set_server_first(said)
                return str(self._client.get_client_final()).encode()
            self._client.set_server_final(said)
        except self._refusals as error:
            self._step = 0
            raise ModuleNotReady(
                "The server does not prove by SCRAM that it knows the account's password."
            ) from error
        return b""


def choose(
    offered: Iterable[str], *, account: str | None, password: Secret | None, certificate: bool
) -> Iterator[Mechanism]:
    """Yield the ways that a server offers and we can go, best first.

    What tells the server least comes first. No list (servers before IRCv3.2 give none) is
    taken for ``PLAIN``, which all have.
    """
    names = {name.upper() for name in offered if name} or {Plain.name}
    if certificate and External.name in names:
        yield External()
    if account is not None and password is not None:
        scram = None
        if ScramSha256.name in names:
            with contextlib.suppress(ValueError):
                scram = ScramSha256(account, password)
        if scram is not None:
            yield scram
        if Plain.name in names:
            yield Plain(account, password)


def encode(answer: bytes) -> list[Line]:
    """Return the lines that carry an answer."""
    token = base64.b64encode(answer).decode()
    chunks = [token[at : at + CHUNK] for at in range(0, len(token), CHUNK)] or ["+"]
    if len(chunks[-1]) == CHUNK:
        chunks.append("+")
    return [line("AUTHENTICATE", chunk) for chunk in chunks]


class Challenge:
    """Puts a challenge together from its lines."""

    def __init__(self) -> None:
        self._chunks: list[str] = []

    def feed(self, chunk: str) -> bytes | None:
        """Take one line's worth; return the challenge when it is whole.

        Raises ``ModuleNotReady`` for what is not one.
        """
        if chunk != "+":
            self._chunks.append(chunk)
        if len(self._chunks) > MOST_CHUNKS:
            raise ModuleNotReady("The server's SASL challenge does not end.")
        if len(chunk) == CHUNK:
            return None
        token, self._chunks = "".join(self._chunks), []
        try:
            return base64.b64decode(token, validate=True)
        except binascii.Error as error:
            raise ModuleNotReady("The server's SASL challenge is no base64.") from error
