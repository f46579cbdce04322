"""CloudFormation types that LocalEmu lacks. Each is one table row over the service's own API."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import localemu.services.cloudformation.provider_utils as util
from localemu.services.cloudformation.resource_provider import (
    CloudFormationResourceProviderPlugin,
    OperationStatus,
    ProgressEvent,
    ResourceProvider,
)

Model = dict[str, Any]


def lower_first(values: Mapping[str, Any]) -> Model:
    """IoT's API spells its members in camel case: the first letter, at every level, is small."""
    return {
        key[0].lower() + key[1:]: lower_first(value)
        if isinstance(value, dict) and key != "Attributes"
        else value
        for key, value in values.items()
    }


def with_text_policy(values: Mapping[str, Any]) -> Model:
    document = values["PolicyDocument"]
    return lower_first(
        {**values, "PolicyDocument": document if isinstance(document, str) else json.dumps(document)}
    )


@dataclass(frozen=True)
class TypeRow:
    """``reference`` is what !Ref gives; ``attributes`` maps !GetAtt names to members of the API's answer."""

    name: str
    client: str
    noun: str
    name_property: str
    reference: str
    create_properties: tuple[str, ...]
    attributes: Mapping[str, str]
    shape: Callable[[Mapping[str, Any]], Model] = dict
    update: str | None = None
    update_properties: tuple[str, ...] = field(default=())


ROWS = {
    row.name: row
    for row in (
        TypeRow(
            "AWS::SageMaker::ModelPackageGroup",
            "sagemaker",
            "model_package_group",
            "ModelPackageGroupName",
            "ModelPackageGroupArn",
            ("ModelPackageGroupDescription", "Tags"),
            {"ModelPackageGroupArn": "ModelPackageGroupArn"},
        ),
        TypeRow(
            "AWS::IoT::Thing",
            "iot",
            "thing",
            "ThingName",
            "ThingName",
            ("AttributePayload",),
            {"Arn": "thingArn", "Id": "thingId"},
            lower_first,
            "update_thing",
            ("AttributePayload",),
        ),
        TypeRow(
            "AWS::IoT::ThingGroup",
            "iot",
            "thing_group",
            "ThingGroupName",
            "ThingGroupName",
            ("ParentGroupName", "ThingGroupProperties", "Tags"),
            {"Arn": "thingGroupArn", "Id": "thingGroupId"},
            lower_first,
            "update_thing_group",
            ("ThingGroupProperties",),
        ),
        TypeRow(
            "AWS::IoT::Policy",
            "iot",
            "policy",
            "PolicyName",
            "PolicyName",
            ("PolicyDocument",),
            {"Arn": "policyArn"},
            with_text_policy,
        ),
        TypeRow(
            "AWS::IoT::RoleAlias",
            "iot",
            "role_alias",
            "RoleAlias",
            "RoleAlias",
            ("RoleArn", "CredentialDurationSeconds"),
            {"RoleAliasArn": "roleAliasArn"},
            lower_first,
            "update_role_alias",
            ("RoleArn", "CredentialDurationSeconds"),
        ),
    )
}


class TableProvider(ResourceProvider):  # type: ignore[misc]
    """Creates, updates and deletes through the row's API calls."""

    row: TypeRow

    def _call(self, request: Any, operation: str, values: Mapping[str, Any]) -> Any:
        client = getattr(request.aws_client_factory, self.row.client)
        return getattr(client, operation)(**self.row.shape(values))

    def _name_only(self, model: Model) -> Model:
        name = {self.row.name_property: model[self.row.name_property]}
        return lower_first(name) if self.row.client == "iot" else name

    def create(self, request: Any) -> Any:
        model: Model = request.desired_state
        name = self.row.name_property
        model.setdefault(name, util.generate_default_name(request.stack_name, request.logical_resource_id))
        wanted = {key: model[key] for key in (name, *self.row.create_properties) if key in model}
        answer = self._call(request, f"create_{self.row.noun}", wanted)
        model.update({attribute: answer[member] for attribute, member in self.row.attributes.items()})
        return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=model)

    def update(self, request: Any) -> Any:
        model: Model = {**request.previous_state, **request.desired_state}
        if self.row.update:
            keys = (self.row.name_property, *self.row.update_properties)
            self._call(request, self.row.update, {key: model[key] for key in keys if key in model})
        return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=model)

    def delete(self, request: Any) -> Any:
        client = getattr(request.aws_client_factory, self.row.client)
        getattr(client, f"delete_{self.row.noun}")(**self._name_only(request.previous_state))
        return ProgressEvent(status=OperationStatus.SUCCESS, resource_model={})

    def read(self, request: Any) -> Any:
        return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=request.desired_state)


def provider_for(row: TypeRow) -> type[TableProvider]:
    schema = {
        "typeName": row.name,
        "primaryIdentifier": [f"/properties/{row.reference}"],
        "readOnlyProperties": [f"/properties/{attribute}" for attribute in row.attributes],
        "properties": {},
    }
    return type(f"{row.noun}_provider", (TableProvider,), {"row": row, "TYPE": row.name, "SCHEMA": schema})


class _Plugin(CloudFormationResourceProviderPlugin):  # type: ignore[misc]
    def __init__(self) -> None:
        self.factory: type[TableProvider] | None = None

    def load(self) -> None:
        self.factory = provider_for(ROWS[self.name])


class ModelPackageGroupPlugin(_Plugin):
    name = "AWS::SageMaker::ModelPackageGroup"


class ThingPlugin(_Plugin):
    name = "AWS::IoT::Thing"


class ThingGroupPlugin(_Plugin):
    name = "AWS::IoT::ThingGroup"


class PolicyPlugin(_Plugin):
    name = "AWS::IoT::Policy"


class RoleAliasPlugin(_Plugin):
    name = "AWS::IoT::RoleAlias"
