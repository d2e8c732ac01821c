"""Long answers of a server, made short."""

from bridge.networks.irc.commands.listing import MOST_DETAILED, show_names
from bridge.networks.irc.network.people import Person
from bridge.networks.irc.wire import Incoming, Source, parse

KNOWN = {
    "ann": Person(Source("ann", "a", "h"), "anna", "Ann \x02Lee\x02", "at lunch"),
    "bob": Person(Source("bob"), account="", away=""),
    "n7": Person(Source("n7"), away="until noon"),
}


def listed(names: str) -> list[Incoming]:
    """The server's answer to NAMES."""
    lines = [
        parse(f":s 353 trestle = #room :{names}".encode()), parse(b":s 366 trestle #room :End")
    ]  # fmt: skip
    return [one for one in lines if one is not None]


def test_of_few_people_all_that_is_known_is_said() -> None:
    shown = show_names("#room", listed("ann @bob +%carl!c@h"), "@%+", KNOWN.get)
    assert shown.splitlines() == [
        "3 in #room:", "@bob", "+carl", "ann (Ann Lee; account anna; away: at lunch)"
    ]  # fmt: skip


def test_of_many_people_it_is_said_who_is_away() -> None:
    many = " ".join(f"n{number}" for number in range(MOST_DETAILED + 1))
    first, second = show_names("#room", listed(many), "@%+", KNOWN.get).splitlines()
    assert first.startswith(f"{MOST_DETAILED + 1} in #room: n0, n1, ")
    assert second == "Away: n7"
