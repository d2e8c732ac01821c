"""The modes of a person's own connection, as they are typed and kept: ``+i-w``."""

from collections.abc import Mapping

from bridge.networks.irc.network.keepsakes import MODES, Keepsakes
from bridge.networks.irc.settings import IrcSettings
from bridge.sdk.errors import PermanentFailure

Signs = Mapping[str, str]
"""By mode whether it is set (``+``) or taken (``-``)."""

_CLOAKS = "xh"
"""Hide where a connection comes from: ``h`` with charybdis and what came of it, where it says so
in no word; with others that one matters to nobody."""


def read(text: str) -> dict[str, str]:
    """Read them, the last word on each."""
    sign, signs = "+", {}
    for one in text:
        if one in "+-":
            sign = one
        else:
            signs[one] = sign
    return signs


def write(signs: Signs) -> str:
    """Write them as a server reads them."""
    parts = ((sign, "".join(one for one, has in signs.items() if has == sign)) for sign in "+-")
    return "".join(sign + letters for sign, letters in parts if letters)


def refuse_uncloaking(typed: str) -> None:
    """Raise ``PermanentFailure`` for what would show where a connection comes from."""
    sign = "+"
    for one in typed:  # Not as above: what is taken and set again was shown meanwhile.
        sign = one if one in "+-" else sign
        if sign == "-" and one in _CLOAKS:
            raise PermanentFailure(
                f"-{one} would show everybody the address from which you connect, which is "
                "this bridge's; its settings can let you (allow_uncloak)"
            )


def modes_of_connect(kept: Keepsakes, settings: IrcSettings) -> str:
    """What is set on each connect: as it was chosen, as far as the settings still let it."""
    signs = read(kept.read(MODES))
    if not settings.allow_uncloak:
        signs = {one: sign for one, sign in signs.items() if sign == "+" or one not in _CLOAKS}
    return write(signs)
