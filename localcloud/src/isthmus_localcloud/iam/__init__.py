"""IAM as AWS enforces it: every call is decided on the policies of who makes it, and put on record.

LocalEmu's own enforcement stays off: it builds many resource ARNs wrongly, knows no service-specific
condition keys, takes a key policy's account root for a grant, and checks neither what AWS checks in the
caller's name nor what AWS services call. This package takes the place of its handler.

``wildcards`` → ``conditions`` → ``policies`` are pure; ``actions`` and ``resources`` say what a request
has to be allowed to do, ``implied`` what else AWS checks for it; ``identities`` and ``attached`` read
who calls and the policies that stand in LocalEmu's stores; ``handler`` decides; ``record`` writes it
down; ``replay`` decides it again without one of the permissions.
"""


def install() -> None:
    """Put the handlers in their places; runs once, before the first request."""
    from ..state import StateFolder
    from . import api_gateway, handler
    from .decisions import Decider
    from .record import Recorder

    recorder = Recorder(StateFolder.of_this_process().iam_record)
    recorder.start()
    decider = Decider(recorder)
    handler.install(decider)
    api_gateway.install(decider)
