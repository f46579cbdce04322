"""What rigs need of AWS IoT: certificates that fit their keys, and the credentials provider."""


def start() -> None:
    """Make the authority, and serve the credentials provider on a free port of loopback."""
    from ..state import StateFolder
    from . import registry
    from .authority import Authority
    from .credentials import serve

    authority = Authority()
    state = StateFolder.of_this_process()
    state.ca_bundle.write_bytes(authority.pem)
    registry.apply(authority, serve(authority, state.path))
