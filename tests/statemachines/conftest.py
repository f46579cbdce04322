from __future__ import annotations

import sys
from pathlib import Path

# The template's reader lies with the template's tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "template"))
