"""InspIRCd: large networks' software, with the IRCv3 capabilities."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.rigs.ircd import OPERATOR, OPERATOR_PASSWORD, IrcServer, Plan, run_ircd

_MODULES = (
    "cap", "chanhistory",
    "ircv3", "ircv3_accounttag", "ircv3_batch", "ircv3_capnotify", "ircv3_chghost",
    "ircv3_ctctags", "ircv3_echomessage", "ircv3_invitenotify", "ircv3_labeledresponse",
    "ircv3_msgid", "ircv3_servertime", "monitor", "namesx", "setname", "shun", "uhnames",
)  # fmt: skip

_FOR_SERVICES = ("spanningtree", "services_account", "sslinfo", "hidechans")


def _configure(plan: Plan) -> Sequence[str]:
    modules = "\n".join(f'<module name="{name}">' for name in (*_MODULES, "ssl_gnutls"))
    password = f'password="{plan.password}"' if plan.password else ""
    if plan.webirc:
        modules += (
            '\n<module name="cgiirc">'
            f'<cgihost type="webirc" mask="127.0.0.1" password="{plan.webirc}">'
        )
    if plan.link_password:
        modules += (
            "".join(f'\n<module name="{name}">' for name in _FOR_SERVICES)
            + ('\n<module name="sasl"><sasl target="services.test">' if plan.sasl else "")
            + f'<bind address="127.0.0.1" port="{plan.link_port}" type="servers">'
            + '<link name="services.test" ipaddr="127.0.0.1" allowmask="127.0.0.1"'
            + f' port="{plan.link_port}" sendpass="{plan.link_password}"'
            + f' recvpass="{plan.link_password}"><uline server="services.test" silent="yes">'
        )
    if plan.lists_late:
        modules += '\n<module name="securelist"><securelist waittime="60">'
    lines, rate = plan.pace or (10_000, 100_000.0)
    config = f"""
<config format="xml">
<server name="irc.test" description="A server for tests" network="Test" id="42X">
<admin name="Test" email="test@example.org" nick="test">
{modules}
<sslprofile name="tls" provider="gnutls" certfile="{plan.certificate}" keyfile="{plan.key}"
  hash="sha256" requestclientcert="yes">
<bind address="127.0.0.1" port="{plan.port}" type="clients">
<bind address="127.0.0.1" port="{plan.tls_port}" type="clients" sslprofile="tls">
<connect name="main" allow="*" {password} timeout="20" pingfreq="120" threshold="{lines}"
  commandrate="{rate * 1000:.0f}" fakelag="off" recvq="65536" softsendq="65536" hardsendq="1048576"
  localmax="1000" globalmax="1000" maxchans="100" resolvehostnames="no" useconnectban="no">
<class name="all" commands="*" privs="*" usermodes="*" chanmodes="*">
<type name="all" classes="all">
<oper name="{OPERATOR}" password="{OPERATOR_PASSWORD}" host="*@*" type="all">
<limits maxnick="30" maxchan="64" maxident="10">
<path configdir="{plan.folder}" datadir="{plan.folder}" logdir="{plan.folder}"
  moduledir="/usr/lib/inspircd/modules" runtimedir="{plan.folder}">
<dns server="127.0.0.1" timeout="1">
<log method="file" type="* -USERINPUT -USEROUTPUT" level="default" target="log">
"""
    file = plan.folder / "inspircd.conf"
    file.write_text(config)
    return ["inspircd", "--nofork", "--nopid", "--config", str(file)]


@asynccontextmanager
async def run_inspircd(
    password: str | None = None,
    *,
    webirc: str | None = None,
    link_password: str | None = None,
    sasl: bool = False,
    pace: tuple[int, float] | None = None,
    lists_late: bool = False,
) -> AsyncIterator[IrcServer]:
    """Run an InspIRCd.

    It asks everybody for ``password``, a gateway for ``webirc`` and services for
    ``link_password``; with ``sasl`` people sign in to those by SASL. It throws out anyone who
    writes faster than ``pace``, and with ``lists_late`` refuses to list channels to newcomers.
    """
    async with run_ircd(
        "inspircd", _configure, password, webirc=webirc, link_password=link_password, sasl=sasl,
        pace=pace, lists_late=lists_late,
    ) as server:  # fmt: skip
        yield server
