"""Units: names end in their unit (``_bytes``, ``_seconds``, ``_usd``); here is how they are printed."""

from __future__ import annotations

import datetime

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


def format_bytes(count_bytes: int) -> str:
    """Return a size for people, in binary units: ``1.5 MiB``."""
    value = float(count_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{int(value)} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def format_seconds(seconds: float) -> str:
    """Return a duration for people: ``340 ms``, ``12.3 s``, ``4 min 05 s``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def format_usd(usd: float) -> str:
    """Return an amount in US dollars with the digits that small amounts need: ``$0.000042``."""
    return f"${usd:.2f}" if usd >= 1 else f"${usd:.6f}".rstrip("0").rstrip(".")


def utc_milliseconds(text: str) -> str:
    """Return an ISO 8601 time in UTC, to the millisecond: ``2026-11-22T18:35:27.000Z``.

    All of one length, such times sort as text. What is no time gives the empty text.
    """
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return ""
    utc = moment.astimezone(datetime.UTC).replace(tzinfo=None)
    return f"{utc.isoformat(timespec='milliseconds')}Z"


def utc_of(seconds: float) -> str:
    """Return seconds since the epoch as ``utc_milliseconds`` does."""
    return utc_milliseconds(datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat())
