"""Going through the ways to sign in to one account (SASL), one after the other."""

from collections.abc import Iterable, Iterator

from bridge.networks.irc.protocol import sasl
from bridge.networks.irc.wire import Line, line
from bridge.sdk.errors import ModuleNotReady
from bridge.sdk.secret import Secret


class Exchange:
    """The ways of one sign-in that are open to us: each is tried once."""

    def __init__(self, account: str | None, password: Secret | None, *, certificate: bool) -> None:
        self._account = account
        self._password = password
        self._certificate = certificate
        self._ways: Iterator[sasl.Mechanism] = iter(())
        self._way: sasl.Mechanism | None = None
        self._challenge = sasl.Challenge()
        self.tried: set[str] = set()
        """The names of the ways that were begun."""

    @property
    def whose(self) -> str:
        """What is signed in to, in words."""
        return "the certificate" if self._account is None else f"the account {self._account}"

    @property
    def is_under_way(self) -> bool:
        """Whether the server has to say something now."""
        return self._way is not None

    @property
    def trusts(self) -> bool:
        """Whether a success may be believed."""
        return self._way is None or self._way.trusts

    def choose(self, offered: Iterable[str]) -> bool:
        """Take note of the ways that a server offers; return whether one is open to us."""
        found = sasl.choose(
            offered,
            account=self._account,
            password=self._password,
            certificate=self._certificate,
        )
        ways = [way for way in found if way.name not in self.tried]
        self._ways = iter(ways)
        return bool(ways)

    def begin_next(self) -> Line | None:
        """Return what begins the next way; None if none is left."""
        self._way = next(self._ways, None)
        if self._way is None:
            return None
        self._challenge = sasl.Challenge()
        self.tried.add(self._way.name)
        return line("AUTHENTICATE", self._way.name)

    def answer(self, chunk: str) -> list[Line]:
        """Answer what the server says of the way under way. Raises ``ModuleNotReady`` if it
        cannot be trusted."""
        if self._way is None:
            return [line("AUTHENTICATE", "*")]
        challenge = self._challenge.feed(chunk)
        return [] if challenge is None else sasl.encode(self._way.answer(challenge))

    def end(self) -> None:
        """Have no way under way any more."""
        self._way = None


def unproven(server: str) -> ModuleNotReady:
    """What a success means of a way that has proven nothing."""
    return ModuleNotReady(
        f"{server} says that we are signed in without having proven that it knows the account's "
        "password: something may stand in between."
    )
