"""Errors for HTTP status codes that have the same meaning at all services."""

from __future__ import annotations

from rmbg.errors import ServiceError
from rmbg.message import Message
from rmbg.net.client import Response, retry_hint


def http_failure(service: str, response: Response, detail_text: str = "") -> ServiceError:
    """Return the error of a response with an error status.

    Parameters
    ----------
    service : str
        Name of the service in messages.
    response : Response
    detail_text : str
        End of the message, from ``ServiceClient.error_detail``.
    """
    status = response.status
    if status == 429:
        return ServiceError(
            Message(
                "The rate limit of {service} for this API key is exceeded; {hint}.", service=service, hint=retry_hint(response)
            )
        )
    if 300 <= status < 400:
        return redirect_failure(service)
    if status >= 500:
        return ServiceError(
            Message("{service} failed (HTTP {status}){detail}", service=service, status=status, detail=detail_text)
        )
    return ServiceError(Message("{service} rejected the photo or the options{detail}", service=service, detail=detail_text))


def redirect_failure(service: str) -> ServiceError:
    """Return the error of a redirect."""
    return ServiceError(
        f"{service} redirected the request. Redirects are not followed, as photo and key would be sent to another URL."
    )
