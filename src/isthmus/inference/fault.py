"""What failed inside, without a value: an error's own sentence may quote a request, and a log keeps what it gets."""

from __future__ import annotations

import re

OPERATOR = re.compile(r"while running (\w{1,100}) node\. Name:'([^']{0,200})'")
"""How onnxruntime names the operator that failed (``SequentialExecutor``); both names are the model's own."""


def fault_of(error: BaseException) -> str:
    """Return the type of what an error came of, where in isthmus it was raised, and the operator if one failed.

    As in ``Fail in inference.engine.run, operator Reshape 'node_view'``.
    """
    inner = error.__cause__ or error
    told = type(inner).__name__
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    if step is not None:
        module = str(step.tb_frame.f_globals.get("__name__", "")).removeprefix("isthmus.")
        told += f" in {module}.{step.tb_frame.f_code.co_name}"
    if type(inner).__module__.startswith("onnxruntime.") and (found := OPERATOR.search(str(inner))):
        told += f", operator {found[1]} {found[2]!r}"
    return told
