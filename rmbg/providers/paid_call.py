"""Paid calls: API key, ledger entry, and errors that state the charge."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rmbg.billing import api_keys, ledger
from rmbg.billing.cost import dollars
from rmbg.billing.ledger import Entry
from rmbg.billing.quote import Priced, Quote
from rmbg.errors import InputError, OptionError, RmbgError, ServiceError
from rmbg.message import Message, joined
from rmbg.net.client import ServiceClient
from rmbg.net.exchange import DeadlineError, Exchange
from rmbg.providers.base import RequestContext


@contextlib.contextmanager
def paid(
    info: Priced, service: str, key_name: str, quote: Quote, max_bytes: int, context: RequestContext
) -> Iterator[ServiceClient]:
    """Yield a client for one paid call, which is reserved in the ledger before the block and settled after it.

    Parameters
    ----------
    info : ProviderInfo
    service : str
        Name of the service in messages.
    key_name : str
        Environment variable of its key.
    quote : Quote
        Expected price. The ledger reserves more if the service has charged more before.
    max_bytes : int
        Limit for the size of a response.
    context : RequestContext

    Raises
    ------
    NotReadyError
        If there is no key, the budget is exhausted, or the ledger cannot be written. No request has been sent.
    RmbgError
        For an error of the block; its message ends with a sentence on the charge.
    """
    settings = context.settings
    key = api_keys.find(key_name, service, context.key, settings)
    exchange = Exchange(settings.remote_seconds, context.cancelled, guarded=False)
    book = ledger.of(settings)
    client = ServiceClient(service, exchange, key=key.value, max_bytes=max_bytes)

    def wait(seconds: float) -> None:
        context.progress(None, "Waiting for other paid calls: the daily limit is near")
        try:
            exchange.sleep(seconds)
        except DeadlineError:
            raise ServiceError(
                "The daily limit for the keys of this server is near, and earlier paid calls did not finish in time. "
                "Nothing was charged. Try again later."
            ) from None

    entry = book.begin(
        info.id,
        quote.reserve,
        owners=key.owners,
        budget=settings.daily_budget_usd,
        images=quote.images,
        seconds=exchange.remaining,
        wait=wait,
    )
    try:
        with client:
            yield client
    except RmbgError as error:
        raise _with_charge(error, client, entry) from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Stopped. {_charge(client, entry)}") from None
    finally:
        # If the ledger cannot be written, the entry stays pending and counts in full; the result is still returned.
        with contextlib.suppress(RmbgError):
            book.settle(entry.id, client.cost)


def _charge(client: ServiceClient, entry: Entry) -> str:
    """Return a sentence on the charge of a call without a result."""
    if client.cost is None:
        return Message("Nothing was charged.")
    if client.cost.usd is None:
        return Message("You may have been charged {usd}.", usd=dollars(entry.reserved))
    return Message("You were charged {usd}.", usd=dollars(client.cost.usd))


def _with_charge(error: RmbgError, client: ServiceClient, entry: Entry) -> RmbgError:
    """Return the error with a sentence on the charge appended to its message."""
    text = joined(str(error), _charge(client, entry))
    result: RmbgError
    # An InputError may be about a URL in a response, which is a fault of the service.
    if isinstance(error, ServiceError) or (isinstance(error, InputError) and not isinstance(error, OptionError)):
        result = ServiceError(text)
    else:
        result = type(error)(text)
    result.cost = client.cost
    result.reserved = entry.reserved if client.cost is not None and client.cost.usd is None else None
    return result
