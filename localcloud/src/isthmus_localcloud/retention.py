"""DeletionPolicy RetainExceptOnCreate: LocalEmu knows the word, and deletes the resource nevertheless.

Source: CloudFormation template reference, "DeletionPolicy attribute": it behaves as Retain, except for
the operation that first creates the resource.
"""

from typing import Any

from localemu.services.cloudformation.engine.v2.change_set_model import is_nothing
from localemu.services.cloudformation.engine.v2.change_set_model_executor import ChangeSetModelExecutor
from localemu.services.cloudformation.engine.v2.change_set_model_preproc import DeletionPolicy


def apply() -> None:
    """Take it for Retain wherever a resource of an existing stack is removed."""
    original = ChangeSetModelExecutor._execute_resource_change

    def execute_resource_change(self: Any, name: str, before: Any, after: Any) -> None:
        removed = not is_nothing(before) and is_nothing(after)
        if removed and before.deletion_policy == DeletionPolicy.RetainExceptOnCreate:
            before.deletion_policy = DeletionPolicy.Retain
        original(self, name, before, after)

    ChangeSetModelExecutor._execute_resource_change = execute_resource_change
