"""Sign-ins: of an account on a network, and of one more session at the homeserver."""

from typing import Any

from bridge.app import App
from bridge.core.logins.logins import record_of
from bridge.demo.matrix_user import MatrixUser
from bridge.model import LoginRow
from bridge.sdk.ids import UserId
from tests.flow.networks import NEAR
from tests.rigs.trestle import Town, wait_until


async def new_session(town: Town, person: MatrixUser, *, keys: bool = False) -> str:
    """Sign in once more; give the token. ``keys``: as a client that can encrypt does."""
    url = f"{town.synapse.url}/_matrix/client/v3"
    name = {"type": "m.id.user", "user": person.id}
    wanted = {"type": "m.login.password", "identifier": name, "password": "demo"}
    async with town.session.post(f"{url}/login", json=wanted) as reply:
        session: dict[str, Any] = await reply.json()
    token, device = str(session["access_token"]), session["device_id"]
    if keys:
        device_keys = {
            "user_id": person.id, "device_id": device, "signatures": {},
            "algorithms": ["m.olm.v1.curve25519-aes-sha2"],
            "keys": {f"ed25519:{device}": "x" * 43, f"curve25519:{device}": "y" * 43},
        }  # fmt: skip
        async with town.session.post(
            f"{url}/keys/upload", json={"device_keys": device_keys},
            headers={"Authorization": f"Bearer {token}"},
        ) as reply:  # fmt: skip
            assert reply.status == 200
    return token


async def link_as(app: App, owner: UserId, nick: str) -> LoginRow:
    """Have somebody be signed in as that nick, as the program keeps it."""
    parts, near = app.parts, app.parts.instances[NEAR]
    await wait_until(lambda: near.is_open)
    row = await parts.accounts.link_login(NEAR, owner, nick)
    await parts.vault.put(owner, NEAR, record_of(row.id, "nick"), nick.encode(), login=row.id)
    session = await near.open_login(row)
    await wait_until(session.supervisor.connected.is_set)
    return row


async def link(app: App, person: str, token: str) -> None:
    """Have somebody sign in by a token."""
    logins, instance = app.parts.logins, app.parts.instances[NEAR]
    await wait_until(lambda: instance.is_open)
    one = await logins.begin(UserId(person), instance, logins.find_flow(instance, "token"))
    await one.submit({"token": token})
    assert one.login is not None, one.trouble
