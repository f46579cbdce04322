"""The contract between a job and its script: equal on the rig, in our containers, and under SageMaker's toolkit.

``ours``: cases that are not equal. The reference is the public sagemaker-training toolkit, which runs the same script
as an estimator's entry point. Where both of ours give a script more than it does, the case says what, and that it
differs is checked as well.
"""

from __future__ import annotations

import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.conformance.cases import CASES, Case
from benchmarks.conformance.runners import RUNNERS, TOOLKIT, Seen, run
from benchmarks.report import report


def main() -> None:
    """Run each case three times, and print a line for it."""
    if not (TOOLKIT / "train").exists():
        raise SystemExit("needs SageMaker's training toolkit; install it with `make toolkit`")
    rows = compared(list(CASES))
    for row in rows:
        mark = "equal" if row["equal"] else "DIFFERS"
        print(f"{row['case']:32} {mark:8} {row.get('said') or row.get('toolkit', '')}", file=sys.stderr)
    unequal = sum(not row["equal"] for row in rows)
    report(
        "contract_conformance",
        ours=unequal,
        reference=len(rows),
        unit="cases that differ",
        cases=len(rows),
        equal=len(rows) - unequal,
        rows=rows,
        reference_is="all of them; what is compared with is sagemaker-training 5.1.4",
    )


def compared(names: list[str]) -> list[dict[str, Any]]:
    """Return a row for each case: whether rig, SageMaker and toolkit agree, and what each saw if not."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return list(pool.map(lambda name: _row(name, CASES[name], Path(folder)), names))


def _row(name: str, case: Case, folder: Path) -> dict[str, Any]:
    place = folder / name.replace(" ", "-").replace(",", "")
    seen: dict[str, Seen] = {who: run(who, case, place / who)[0] for who in RUNNERS}
    more = case.more
    reference = seen["toolkit"] if not more else seen["rig"]
    equal = seen["rig"] == seen["sagemaker"] == reference
    row: dict[str, Any] = {"case": name, "equal": equal}
    if more:
        row["toolkit"] = more
        equal = row["equal"] = equal and seen["toolkit"] != reference
    return row if equal else row | {"said": {who: str(found) for who, found in seen.items()}}


if __name__ == "__main__":
    main()
