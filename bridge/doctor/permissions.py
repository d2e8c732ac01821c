"""Who is an admin, and what everybody else may do."""

from bridge.core.permissions.permissions import with_defaults
from bridge.running.roster import NO_ADMIN, admins_of, name_an_admin
from bridge.sdk.examination import Remark, note, well
from bridge.settings.records import Settings


def examine_permissions(settings: Settings) -> Remark:
    """Name the admins, and the levels of those whom the permissions do not name."""
    server = settings.homeserver.server_name
    levels = with_defaults(settings.permissions, server)
    everybody = levels["*"]
    own = levels.get(server.lower(), everybody)
    others = (
        f"anyone not named is {own.name.lower()} on {server} and "
        f"{everybody.name.lower()} elsewhere"
    )
    admins = admins_of(settings)
    if not admins:
        return note(f"no admin: {NO_ADMIN}; {name_an_admin(settings)}; {others}")
    return well(f"admin: {', '.join(admins)}; {others}")
