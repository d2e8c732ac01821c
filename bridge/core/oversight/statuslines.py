"""How everything is, in lines for people.

Apart from the look itself, so that the command line need not load the bridge to show it.
"""

from collections.abc import Mapping
from typing import Any

from bridge.core.host.outlook import join, spell


def in_lines(look: Mapping[str, Any]) -> list[str]:
    """What ``Status.look`` gives, as lines for people."""
    lanes = look["lanes"]
    lines = [
        f"Trestle {look['version']}, up for {spell(look['up_seconds'])}",
        f"homeserver: {look['homeserver']}",
        f"database: {look['database']}",
    ]
    for one in look["instances"]:
        logins = ", ".join(f"{number} {state}" for state, number in one["logins"].items())
        lines.append(
            f"{one['name']}: {one['state']}{_why(one)}" + (f"; logins: {logins}" if logins else "")
        )
        lines += [
            f"  login {login['login']}{' of ' * bool(login['owner'])}{login['owner']}: "
            f"{login['state']}{_why(login)}"
            for login in one["logins_in_trouble"]
        ]
        lines += [f"  {chat}: {why}" for chat, why in one["chats_in_trouble"].items()]
    lines += [f"{one['name']}: {one['title']}, {one['user']}" for one in look["bots"]]
    lines.append(f"bridged rooms: {look['portals']}")
    lines += [f"  {said}" for said in look.get("encrypted", {}).values()]
    lines.append(
        f"waiting: {lanes['waiting']} from Matrix in {lanes['busy']} lanes, "
        f"{look['into_matrix_waiting']} into Matrix"
    )
    lines += [
        f"  {one['lane']}: {one['waiting']}, for {spell(one['seconds'])}"
        + (f": {one['because']}" if one["because"] else "")
        for one in lanes["longest"] if one["seconds"] >= 1
    ]  # fmt: skip
    lines += [
        f"  into {one['room']}: {one['waiting']}, since {one['since'][:19].replace('T', ' ')}: "
        f"{one['because']}"
        for one in look.get("into_matrix_held_up", ())  # An older Trestle does not say it.
    ]
    lines.append(f"parked: {_parked_in_words(look['parked'])}")
    half = [
        f"{way.replace('_', ' ')} under {seconds:g} s"
        for way, seconds in look["seconds_end_to_end"].items() if seconds is not None
    ]  # fmt: skip
    lines.append(f"half of all arrive: {', '.join(half) or 'nothing crossed yet'}")
    lines.append(f"unaccounted for: {sum(look['unaccounted'].values())}")
    lines += [f"{one['at'][:19].replace('T', ' ')} {one['said']}" for one in look["troubles"]]
    return lines


def _why(one: Mapping[str, Any]) -> str:
    said = join(one["reason"], one.get("outlook", ""))  # An older Trestle does not say it.
    return f" ({said})" if said else ""


def _parked_in_words(parked: Mapping[str, int] | None) -> str:
    if parked is None:
        return "the database knows"
    return ", ".join(f"{number} {reason}" for reason, number in parked.items()) or "nothing"
