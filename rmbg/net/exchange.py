"""Deadline, cancellation and address policy of an exchange with a server; httpx is not imported here."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rmbg.errors import CancelledError, ServiceError
from rmbg.runtime.messages import Message

#: Seconds between two checks for cancellation.
POLL_INTERVAL = 0.2


class DeadlineError(ServiceError):
    """The exchange exceeded its deadline."""


class UnreachableError(ServiceError):
    """No connection was established; nothing was sent."""


@dataclass
class Exchange:
    """Deadline, cancellation and address policy shared by the requests of one exchange.

    Attributes
    ----------
    seconds : float
        Time limit of all requests together, from the creation of this object.
    cancelled : callable () -> bool
        Returns True once the exchange is cancelled.
    guarded : bool
        Restrict connections to public IP addresses.
    loopback : bool
        Exempt the addresses of this machine from that restriction.
    service : str
        Name of the service in the message of `DeadlineError`, if the requests go to one.
    sent : bool
        True if any byte of a request was sent. While False, the request cannot have had an effect.
    deadline : float
        Deadline on the monotonic clock.
    """

    seconds: float
    cancelled: Callable[[], bool] = lambda: False
    guarded: bool = True
    loopback: bool = False
    service: str = ""
    sent: bool = False
    deadline: float = field(init=False)

    def __post_init__(self) -> None:
        self.deadline = time.monotonic() + self.seconds

    @property
    def remaining(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def check(self) -> None:
        """Raise CancelledError if cancelled, or DeadlineError after the deadline."""
        if self.cancelled():
            raise CancelledError("Stopped.")
        if self.remaining <= 0:
            text = "{service} did not answer within {seconds:g} seconds."
            if not self.service:
                text = "No complete response arrived within {seconds:g} seconds."
            raise DeadlineError(Message(text, service=self.service, seconds=self.seconds))

    def sleep(self, seconds: float) -> None:
        """Sleep until `seconds` have passed or the deadline is reached; cancellation interrupts the sleep."""
        until = min(time.monotonic() + seconds, self.deadline)
        while (remaining := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(remaining, POLL_INTERVAL))
        self.check()


def is_loopback(address: str) -> bool:
    """True if an IP address is a loopback address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return ip.is_loopback or bool(isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped and ip.ipv4_mapped.is_loopback)


def is_this_machine(host: str) -> bool:
    """True if `host` is ``localhost`` or a literal loopback address; no name is resolved."""
    try:
        return host == "localhost" or is_loopback(host)
    except ValueError:
        return False
