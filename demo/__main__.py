"""`make demo`: set up, deploy, upload, train, ship, ask; then compare, sum up and clean up."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from demo.stamp import ROOT
from demo.steps import Demo
from demo.system import CommandFailed, System


def main() -> int:
    """Run the demo; return 0 only if cloud and edge agree with onnxruntime."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / ".isthmus/demo")
    parser.add_argument("--dataset", choices=("digits", "fashion-mnist"), default="digits")
    parser.add_argument("--keep", action="store_true", help="leave the system running afterwards")
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON document")
    options = parser.parse_args()
    started = time.monotonic()

    def say(line: str) -> None:
        if not options.json:
            print(f"{time.monotonic() - started:7.1f} s  {line}", file=sys.stderr, flush=True)

    system = System(options.folder, say)
    demo = Demo(system, options.dataset)
    try:
        system.end_earlier()
        summary = demo.run()
    except CommandFailed as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    finally:
        if not options.keep:
            system.close()
    print(json.dumps(summary.as_dict(), indent=2) if options.json else summary.as_text())
    if options.keep:
        say(f"still running; its environment is in {options.folder / 'env'}; end it with `make clean`")
    return 0 if summary.agrees else 1


if __name__ == "__main__":
    sys.exit(main())
