"""Where a network takes no sign-in by hand, no sentence tells anybody to sign in."""

from dataclasses import replace

import pytest

from bridge.core.logins.ownlogins import refuse_none, whose
from bridge.core.portals.callings import call_in
from bridge.core.portals.choices import Wish, change_all
from bridge.core.portals.portals import Portals
from bridge.model import InstanceRules, Puppets
from bridge.networks.irc.protocol.replies import NO_ACCOUNTS, OWN_ACCOUNT, RELAYS_ACCOUNT
from bridge.sdk.capabilities import Capabilities
from bridge.sdk.errors import PermanentFailure
from bridge.sdk.events import Sender
from bridge.sdk.ids import RemoteChatId, RemoteUserId
from tests.core.ground import ALICE, NEAR, Ground
from tests.core.instances import Line, at_work, network
from tests.irc.stage import Network

RULES = InstanceRules(puppets=Puppets.LOGIN)


class Closed(Line):
    """Gives people connections, and lets nobody sign in."""

    def capabilities(self, chat: RemoteChatId) -> Capabilities:
        return Capabilities(puppets=True)


def ground_without_logins() -> Ground:
    ground = Ground()
    ground.instances[NEAR] = network(NEAR, Closed())
    return ground


async def test_what_needs_an_account_sends_nobody_to_sign_in_in_vain() -> None:
    ground = ground_without_logins()
    with pytest.raises(PermanentFailure, match="here: one speaks for all"):
        refuse_none(ground.instances[NEAR], Sender(user_id=ALICE, name="Alice"), RULES)
    wish = Wish(
        portal=ground.portal, person=ALICE, instance=ground.instances[NEAR], rules=InstanceRules()
    )
    with pytest.raises(PermanentFailure, match="nobody can link an account there"):
        change_all({"relay": "mine"}, wish)


def test_who_linked_an_account_before_goes_on_with_it() -> None:
    ground = ground_without_logins()
    instance = ground.instances[NEAR]
    at_work(instance, object(), ALICE, linked=True)
    refuse_none(instance, Sender(user_id=ALICE, name="Alice"), RULES)
    with pytest.raises(PermanentFailure, match="here: one speaks for all"):
        refuse_none(
            instance, Sender(user_id=ALICE, name="Alice"), InstanceRules(puppets=Puppets.RELAY)
        )


async def test_a_relay_speaks_where_nobody_can_link_an_account() -> None:
    ground = ground_without_logins()
    portal = replace(ground.portal, puppets=Puppets.LOGIN)
    door = Portals(ground.house)._open(portal)
    instance = ground.instances[NEAR]
    for puppets in Puppets:
        is_own = puppets is Puppets.AUTOMATIC
        assert (whose(instance, puppets, portal.chat) is not Puppets.RELAY) is is_own
    with pytest.raises(PermanentFailure, match="you have no connection of your own here"):
        await call_in(ground.house, door, RemoteUserId("bob"), ALICE, by_relay=False)


@pytest.mark.parametrize(("tls", "way"), [(True, OWN_ACCOUNT), (False, NO_ACCOUNTS)])
def test_a_channel_for_accounts_names_the_way_that_there_is(tls: bool, way: str) -> None:
    plain = Network(0, servers=[{"host": "irc.test", "tls": tls}])
    assert plain.puppet("Ann")[0].way_to_account == way
    assert plain.relay()[0].way_to_account == RELAYS_ACCOUNT
