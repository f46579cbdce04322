"""Mends LocalEmu's CloudFormation engine where a valid SAM template fails."""

import functools
import json
from collections.abc import Mapping
from typing import Any

from localemu.services.cloudformation.engine.v2.change_set_model import is_nothing
from localemu.services.cloudformation.engine.v2.change_set_model_executor import ChangeSetModelExecutor
from localemu.services.cloudformation.engine.v2.change_set_model_preproc import (
    ChangeSetModelPreproc,
    PreprocEntityDelta,
)
from localemu.services.cloudformation.engine.v2.change_set_model_transform import ChangeSetModelTransform
from localemu.services.cloudformation.resource_provider import ResourceProviderExecutor
from localemu.services.cloudformation.stores import get_cloudformation_store
from localemu.services.cloudformation.v2.entities import ChangeSet
from localemu.services.cloudformation.v2.provider import CloudformationProviderV2, find_stack_v2


def uses_local_transform(template: Any) -> bool:
    return '"Fn::Transform"' in json.dumps(template, default=str)


def skip_needless_local_transforms() -> None:
    """The engine resolves the whole template to find ``Fn::Transform``, before SAM has been expanded: then a
    reference that SAM defines (``!Ref Function.Alias``) looks like a missing resource."""
    original = ChangeSetModelTransform._execute_local_transforms

    def execute_local_transforms(self: Any) -> None:
        if uses_local_transform(self._before_template) or uses_local_transform(self._after_template):
            original(self)

    ChangeSetModelTransform._execute_local_transforms = execute_local_transforms


def parameter_values(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """What each parameter stands for; a value that was given counts as one that equals the default."""
    found = {}
    for name, parameter in (parameters or {}).items():
        plain = parameter.get("given_value")
        plain = parameter.get("default_value") if plain is None else plain
        found[name] = (plain, parameter.get("resolved_value"))
    return found


def notice_that_nothing_changed() -> None:
    """With some references the engine takes an unchanged template for a changed one. AWS refuses such a
    change set, and ``sam deploy`` then says that the stack is up to date."""
    original = ChangeSet.has_changes

    def has_changes(self: Any) -> bool:
        stack = self.stack
        same_template = self.change_set_type == "UPDATE" and stack.template == self.template
        known, wanted = (
            parameter_values(stack.resolved_parameters),
            parameter_values(self.resolved_parameters),
        )
        return bool(original(self)) and not (same_template and known == wanted)

    ChangeSet.has_changes = has_changes


def name_failed_updates() -> None:
    """A failed update ends as ROLLBACK_COMPLETE here, which means a failed creation: ``sam deploy`` would
    wait for the right status for an hour."""
    original = ChangeSetModelExecutor.execute

    def execute(self: Any) -> Any:
        result = original(self)
        change_set = self._change_set
        if result.failure_message and getattr(change_set, "change_set_type", "") == "UPDATE":
            change_set.stack.set_stack_status("UPDATE_ROLLBACK_COMPLETE")
        return result

    ChangeSetModelExecutor.execute = execute


def create_only(resource_type: str) -> list[str]:
    provider = ResourceProviderExecutor.try_load_resource_provider(resource_type)
    paths = provider.SCHEMA.get("createOnlyProperties", []) if provider else []
    return [path.removeprefix("/properties/").partition("/")[0] for path in paths]


def replace_only_what_changed() -> None:
    """The engine takes a reference to an updated resource for a changed value, and so replaces an alias
    whenever its function is updated: creating it again then fails. AWS compares the values."""
    original = ChangeSetModelExecutor._execute_resource_change

    def execute_resource_change(self: Any, name: str, before: Any, after: Any) -> None:
        if not is_nothing(before) and not is_nothing(after) and after.requires_replacement:
            old, new = before.properties.properties, after.properties.properties
            names = create_only(after.resource_type)
            after.requires_replacement = any(old.get(name) != new.get(name) for name in names)
        original(self, name, before, after)

    ChangeSetModelExecutor._execute_resource_change = execute_resource_change


def keep_literals() -> None:
    """``${!Literal}`` in a Fn::Sub stands for ``${Literal}`` (user guide, "Fn::Sub"): so a policy's variables
    are written. The engine looks for a resource of that name, and no resource's name begins so."""
    reference, attribute = ChangeSetModelPreproc._resolve_reference, ChangeSetModelPreproc._resolve_attribute

    def resolve_reference(self: Any, logical_id: str) -> Any:
        if not logical_id.startswith("!"):
            return reference(self, logical_id)
        literal = f"${{{logical_id[1:]}}}"
        return PreprocEntityDelta(before=literal, after=literal)

    def resolve_attribute(self: Any, arguments: Any, select_before: bool) -> Any:
        if isinstance(arguments, str) and arguments.startswith("!"):
            return f"${{{arguments[1:]}}}"
        return attribute(self, arguments, select_before)

    ChangeSetModelPreproc._resolve_reference = resolve_reference
    ChangeSetModelPreproc._resolve_attribute = resolve_attribute


def delete_once() -> None:
    """CloudFormation lets a deletion that runs go on (API reference, "DeleteStack": the status is then
    DELETE_IN_PROGRESS). The engine would start another beside it, which removes a custom resource's function
    before the first has asked it."""
    original = CloudformationProviderV2.delete_stack

    @functools.wraps(original)
    def delete_stack(self: Any, context: Any, stack_name: str, *args: Any, **kwargs: Any) -> None:
        stack = find_stack_v2(get_cloudformation_store(context.account_id, context.region), stack_name)
        if not stack or stack.status != "DELETE_IN_PROGRESS":
            original(self, context, stack_name, *args, **kwargs)

    CloudformationProviderV2.delete_stack = delete_stack


def apply() -> None:
    delete_once()
    keep_literals()
    replace_only_what_changed()
    name_failed_updates()
    skip_needless_local_transforms()
    notice_that_nothing_changed()
