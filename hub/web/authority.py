"""``/ca.pem``: the authority by which others know this hub again. No secret; what counts is that its hash fits."""

from typing import Final

from aiohttp import web

from hub.web.routing import Route
from hub.web.services import SETTINGS
from protocol.errors import NotFound
from protocol.pinning import CA_PATH

PEM: Final = "application/x-pem-file"


async def show(request: web.Request) -> web.StreamResponse:
    """The certificate of the authority, in PEM form.

    Raises:
        NotFound: this hub speaks no TLS, or a public authority has signed for it.
    """
    pem = request.app[SETTINGS].ca_pem()
    if not pem:
        raise NotFound("authority", "of this hub")
    return web.Response(text=pem, content_type=PEM)


_ABOUT: Final = "The authority by which others know this hub"
ROUTES: Final = (Route("GET", CA_PATH, show, None, _ABOUT, produces=(PEM,), refuses=(404,)),)
