"""How many Matrix users have a connection: who is silent for longest goes when it is too many."""

from collections.abc import Callable


class Crowd:
    """The users' connections of one instance; who spoke last comes last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._dismiss: dict[int, Callable[[], bool]] = {}

    def spoke(self, login: int, dismiss: Callable[[], bool]) -> None:
        """Take note of a login that has, or wants, a connection and speaks now.

        ``dismiss`` ends the connection until the next message, and says whether it could: it
        cannot while something is on its way.
        """
        self._dismiss.pop(login, None)
        if len(self._dismiss) >= self._most:
            self._make_room()
        self._dismiss[login] = dismiss

    def _make_room(self) -> None:
        for other, end in list(self._dismiss.items()):
            if len(self._dismiss) < self._most:
                return
            if end():
                self._dismiss.pop(other, None)

    def came(self, login: int, dismiss: Callable[[], bool]) -> None:
        """Take note of a login that has a connection again, as one that was silent for long."""
        if login not in self._dismiss:
            self._dismiss = {login: dismiss} | self._dismiss

    def left(self, login: int) -> None:
        """Take note that the login has no connection any more."""
        self._dismiss.pop(login, None)
