"""ngIRCd: small, strict, with the protocol's old limits."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.rigs.ircd import OPERATOR, OPERATOR_PASSWORD, IrcServer, Plan, run_ircd


def _configure(plan: Plan) -> Sequence[str]:
    password = f"Password = {plan.password}" if plan.password else ""
    config = f"""
[Global]
Name = irc.test
Info = A server for tests
Listen = 127.0.0.1
Ports = {plan.port}
MotdPhrase = Hello
{password}
[Limits]
MaxConnectionsIP = 0
MaxJoins = 0
MaxNickLength = 20
MaxPenaltyTime = {0 if plan.pace is None else -1}
PingTimeout = 60
PongTimeout = 30
[Options]
DNS = no
Ident = no
PAM = no
[SSL]
CertFile = {plan.certificate}
KeyFile = {plan.key}
Ports = {plan.tls_port}
[Operator]
Name = {OPERATOR}
Password = {OPERATOR_PASSWORD}
"""
    file = plan.folder / "ngircd.conf"
    file.write_text(config)
    return ["ngircd", "--nodaemon", "--config", str(file)]


@asynccontextmanager
async def run_ngircd(
    password: str | None = None, *, pace: tuple[int, float] | None = None
) -> AsyncIterator[IrcServer]:
    """Run an ngIRCd, which asks everybody for ``password``.

    With any ``pace`` it slows down those who are faster than its own, which cannot be set.
    """
    async with run_ircd("ngircd", _configure, password, pace=pace) as server:
        yield server
