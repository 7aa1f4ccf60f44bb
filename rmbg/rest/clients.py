"""Clients of the API: their keys, the rate of their calls, and the credits and dollars that a call takes."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal

from rmbg.billing.client_keys import ClientKey, ClientKeys, ExhaustedError
from rmbg.billing.cost import Cost
from rmbg.billing.quote import quote
from rmbg.errors import NotReadyError, RmbgError
from rmbg.providers.base import ProviderInfo
from rmbg.rest.removebg import Answer, Failure, Removal
from rmbg.settings import Settings

log = logging.getLogger(__name__)

#: Credits of a preview, and of all other results.
PREVIEW_CREDITS, CREDITS = Decimal("0.25"), Decimal(1)

#: Headers with the calls of a key in a minute, those that are left, and the time at which all are available again.
RATE_HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")

NO_KEY = "This server is shared, and its API is for clients that have a key of its operator and send it as X-Api-Key."


@contextlib.contextmanager
def _keys(settings: Settings) -> Iterator[ClientKeys]:
    """Yield the keys of all clients; raises Failure for errors of the ledger, which are logged for the owner of the server."""
    try:
        yield ClientKeys(settings)
    except ExhaustedError as error:
        raise Failure("insufficient_credits", str(error)) from None
    except NotReadyError as error:
        log.warning("%s", error)
        raise Failure("provider_not_ready", "API keys cannot be checked at the moment. Try again later.") from None


def authorize(headers: Mapping[str, str], settings: Settings) -> ClientKey | None:
    """Return the key of a client; None for a client without one, which only a private server accepts.

    Raises
    ------
    Failure
        If the server is shared and the request has no valid key, or the keys cannot be read.
    """
    secret, client = headers.get("x-api-key", ""), None
    try:
        if secret:
            with _keys(settings) as keys:
                client = keys.find(secret)
    except Failure:
        if settings.shared:
            raise
    if client is None and settings.shared:
        raise Failure("auth_failed", NO_KEY)
    return client


def take(client: ClientKey | None, settings: Settings) -> tuple[int, dict[str, str]]:
    """Take a call from the rate of a key.

    Returns
    -------
    wait : int
        Seconds until the next call is possible; 0 if the call was taken.
    headers : dict of str to str
        State of the rate; empty for a key without a limit.
    """
    if client is None:
        return 0, {}
    with _keys(settings) as keys:
        wait, limit = math.ceil(keys.take(client.name)), keys.rate_limit(client.name)
    values = () if limit is None else (limit.limit, limit.remaining, math.ceil(limit.reset))
    return wait, dict(zip(RATE_HEADERS, map(str, values), strict=False))


def settings_for(client: ClientKey | None, info: ProviderInfo, settings: Settings) -> Settings:
    """Return the settings for the call of a provider, with the keys of the server for the services that a key may use.

    Raises
    ------
    Failure
        If the key does not permit the provider.
    """
    if client is None:
        return settings
    if not client.allows(info):
        raise Failure("auth_failed", f"This API key does not permit the provider {info.id}.")
    return replace(settings, server_keys=True)


def charged(client: ClientKey | None, removal: Removal, settings: Settings, work: Callable[[], tuple[Answer, Cost]]) -> Answer:
    """Return the response that `work` makes, and charge its credits and its cost to the key of the client.

    Raises
    ------
    Failure
        If the credits or the budget of the key do not suffice; `work` is not called.
    """
    if client is None:
        return _with_credits(work()[0], Decimal(0))
    info, credits = removal.provider.info, PREVIEW_CREDITS if removal.is_preview else CREDITS
    with _keys(settings) as keys:
        reservation = keys.reserve(client.name, credits, quote(info, info.parse_options({}), settings).reserve)
    pictures, cost = 0, Cost(None, "unknown") if info.kind == "remote" else None
    try:
        answer, spent = work()
        pictures, cost = 1, spent if info.kind == "remote" else None
        return _with_credits(answer, credits)
    except RmbgError as error:
        cost = error.cost
        raise
    except Failure:
        cost = None
        raise
    finally:
        with contextlib.suppress(Failure), _keys(settings) as keys:  # the result is delivered, what is reserved stays taken
            keys.settle(reservation, pictures, cost)


def _with_credits(answer: Answer, credits: Decimal) -> Answer:
    return replace(answer, headers={**answer.headers, "X-Credits-Charged": str(credits)})
