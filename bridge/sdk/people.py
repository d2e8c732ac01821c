"""What the core tells a module of people, and asks it."""

from typing import Protocol, runtime_checkable

from bridge.sdk.events import RemoteUser
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


@runtime_checkable
class LooksForPeople(Protocol):
    """A connector that can ask its network whether somebody is there."""

    async def is_there(self, user: RemoteUser) -> bool | None:
        """Whether the person can be written to now; None where the network does not say.

        It has a few seconds for it. A ``DeliveryError`` counts as None.
        """
        ...
