"""`make bench [NAME=…]`: run the benchmarks, and print each one's last line again at the end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.report import GOALS


def main() -> int:
    """Run the named benchmarks, or all; return 1 when one did not end well."""
    known = sorted(json.loads(GOALS.read_text()))
    chosen = sys.argv[1:] or known
    if unknown := [name for name in chosen if name not in known]:
        print(f"there is no benchmark {unknown[0]}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    lines, failed = [], False
    for name in chosen:
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parent.parent,
            check=False,
        )
        failed = failed or done.returncode != 0
        lines += done.stdout.splitlines()[-1:]
    print("\n".join(lines))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
