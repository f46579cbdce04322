"""onnxruntime, imported late and told to keep to itself."""

from __future__ import annotations

import os
from typing import Any


def load_onnxruntime() -> Any:
    """Import onnxruntime with its telemetry off.

    Since 1.3x its Linux wheels write a device id below ``~/.cache/Microsoft`` and report to Microsoft
    over HTTPS. The variable is read when the library is imported; ``disable_telemetry_events`` comes
    too late (docs/adr/0012). Import it nowhere else first.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime
