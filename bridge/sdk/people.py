"""What the core tells a module of people."""

from typing import Protocol, runtime_checkable

from bridge.sdk.ids import UserId


@runtime_checkable
class ForgetsPeople(Protocol):
    """A connector or bot that holds in memory what its store has about a person.

    What the store and the timers have with the person as ``subject`` is removed before that, and
    every login of the person is ended.
    """

    async def forget(self, person: UserId) -> None:
        """Forget the person, who has had everything erased.

        Called again if it was cut short, and also for people of whom nothing is known.
        """
        ...
