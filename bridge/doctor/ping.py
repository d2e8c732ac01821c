"""The homeserver's way to us: a ping, and each of its failures explained (MSC2659)."""

from collections.abc import Sequence

from bridge.matrix.client import PING_ERRORS, HomeserverClient, MatrixError
from bridge.sdk.examination import Remark, bad, note, well
from bridge.settings.records import AppserviceSettings

_PROXY = {502, 503, 504}
_LONGEST_QUOTE = 160
_REDIRECTS = (
    "what answers at the registration's url redirects the homeserver, which does not follow; put "
    "the final URL into appservice.url, write the registration anew, and restart the homeserver"
)


async def examine_ping(
    client: HomeserverClient, settings: AppserviceSettings, hints: Sequence[str], *,
    is_running: bool,
) -> Remark:  # fmt: skip
    """Have the homeserver call us. ``hints``: why it may not come through."""
    try:
        milliseconds = await client.ping(settings.id)
    except MatrixError as error:
        if error.status == 404 and error.errcode == "M_UNRECOGNIZED":
            return note("this homeserver has no ping (Matrix 1.7): the first event will show "
                        "whether it reaches us")  # fmt: skip
        return bad(f"{explain(error, settings, hints)} (appservice.url: {settings.url})")
    who = "" if is_running else " (Trestle is not running: this command answered)"
    return well(f"the homeserver reaches us in {milliseconds:.0f} ms{who}")


def explain(error: MatrixError, settings: AppserviceSettings, hints: Sequence[str]) -> str:
    """Say what a failed ping means, and the way out."""
    reason = PING_ERRORS.get(error.errcode, str(error))
    match error.errcode:
        case "M_BAD_STATUS":
            return _explain_status(error, reason)
        case "M_FORBIDDEN":
            return (
                f"the homeserver knows this as_token under another id than appservice.id "
                f"({settings.id}); put the id of the registration that it has read there, or "
                "restart it after changing the registration"
            )
        case "M_CONNECTION_FAILED" | "M_CONNECTION_TIMEOUT":
            return _explain_silence(error, reason, hints)
    return reason


def _explain_silence(error: MatrixError, reason: str, hints: Sequence[str]) -> str:
    said = error.message[:_LONGEST_QUOTE].rstrip(".")
    if "PageRedirect" in said:  # Synapse's word for it.
        return _REDIRECTS
    words = [reason, *([f"It says: {said}."] if said else [])]
    words += [f"{start} {hint}." for start, hint in zip(("Perhaps", "Or"), hints, strict=False)]
    return " ".join(words)


def _explain_status(error: MatrixError, reason: str) -> str:
    status = error.content.get("status")
    match status:
        case 401 | 403:
            return (
                f"what answers at the registration's url refuses the homeserver ({status}): the "
                "hs_token differs, or another appservice listens there; compare the two files, "
                "and restart the homeserver after a change"
            )
        case int() if 300 <= status < 400:
            return _REDIRECTS
        case 404 | 405:
            return (
                f"what answers at the registration's url does not know the path ({status}); it "
                "is another program, or a proxy that does not pass on /_matrix/app as it is"
            )
        case int() if status in _PROXY:
            return (
                f"a proxy answers at the registration's url and does not reach Trestle behind it "
                f"({status}); let it pass to appservice.listen"
            )
    return reason
