"""What a server says of itself, whatever models it has: the same in a function, at the edge and in the router."""

from __future__ import annotations

from isthmus import __version__
from isthmus.inference.binary import EXTENSION
from isthmus.inference.http import HttpResponse, json_response
from isthmus.inference.messages import ServerLive, ServerMetadata
from isthmus.inference.routes import Route


def answer_for_server(route: Route, *, hand_over: bool = False) -> HttpResponse | None:
    """Return the answer to what concerns no model and depends on none; None for anything else.

    ``hand_over``: bodies may be handed over here, as the server's description then says.
    """
    match route.verb:
        case "server":
            return json_response(ServerMetadata(name="isthmus", version=__version__, extensions=[EXTENSION]))
        case "live":
            return json_response(ServerLive(live=True))
        case "openapi":
            # Imported when asked for, as is classify: a function that starts cold has nothing compiled.
            from isthmus.inference.openapi import document

            return HttpResponse(200, document(hand_over=hand_over))
        case _:
            return None
