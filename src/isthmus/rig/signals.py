"""What an agent does when it is told to leave."""

from __future__ import annotations

import signal

from isthmus.rig.agent import Agent


def obey_signals(agent: Agent) -> None:
    """Drain at the first SIGTERM or SIGINT, stop at the second, and at SIGUSR1 at once. To be called in the
    main thread."""
    seen: list[int] = []

    def handler(number: int, frame: object) -> None:
        (agent.stop if seen else agent.drain)()
        seen.append(number)

    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGUSR1, lambda number, frame: agent.stop())
