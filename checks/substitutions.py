"""Plausible values for what CloudFormation would put into a state machine's definition."""

from __future__ import annotations

import re
from typing import Any

from checks.findings import CheckError

REGION, ACCOUNT, STACK = "eu-west-1", "123456789012", "isthmus"
PSEUDO = {
    "AWS::Region": REGION,
    "AWS::AccountId": ACCOUNT,
    "AWS::StackName": STACK,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{STACK}/0",
}
ARNS = {
    "AWS::Serverless::Function": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{STACK}-{{}}",
    "AWS::Serverless::StateMachine": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{STACK}-{{}}",
    "AWS::SQS::Queue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{STACK}-{{}}",
    "AWS::SNS::Topic": f"arn:aws:sns:{REGION}:{ACCOUNT}:{STACK}-{{}}",
    "AWS::DynamoDB::Table": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{STACK}-{{}}",
    "AWS::S3::Bucket": f"arn:aws:s3:::{STACK}-{{}}",
    "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/{STACK}-{{}}",
    "AWS::KMS::Key": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{{}}",
    "AWS::Events::EventBus": f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{STACK}-{{}}",
}
"""The ARN of each type of resource, by its logical id."""

REFERENCE_IS_ARN = {"AWS::Serverless::StateMachine", "AWS::SNS::Topic"}
"""Types whose ``Ref`` returns the ARN ("Return values" of each type in the CloudFormation reference)."""


class Substitutions:
    """Resolves the few functions of CloudFormation that a substitution may use."""

    def __init__(self, template: dict[str, Any]) -> None:
        self._resources: dict[str, Any] = template["Resources"]
        self._parameters: dict[str, Any] = template.get("Parameters", {})

    def of(self, properties: dict[str, Any]) -> dict[str, str]:
        """Return a machine's substitutions by name."""
        given = properties.get("DefinitionSubstitutions", {})
        return {name: self.resolve(value) for name, value in given.items()}

    def resolve(self, value: Any) -> str:
        match value:
            case {"Ref": str(name)}:
                return self._reference(name)
            case {"Fn::GetAtt": [str(name), str(attribute)]}:
                return self._attribute(name, attribute)
            case {"Fn::Sub": str(text)}:
                return re.sub(r"\$\{([\w:.]+)\}", lambda found: self._named(found[1]), text)
            case {"Fn::If": [_, chosen, _]}:
                return self.resolve(chosen)
            case str() | int() | float():
                return str(value)
        raise CheckError(f"a substitution uses {value}, which checks/substitutions.py cannot resolve: add it")

    def _named(self, name: str) -> str:
        resource, dot, attribute = name.partition(".")
        return self._attribute(resource, attribute) if dot else self._reference(name)

    def _reference(self, name: str) -> str:
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self._parameters:
            return str(self._parameters[name].get("Default", name))
        kind = self._kind(name)
        if kind == "AWS::SQS::Queue":
            return f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{STACK}-{name}"
        return self._arn(name) if kind in REFERENCE_IS_ARN else f"{STACK}-{name}"

    def _attribute(self, name: str, attribute: str) -> str:
        is_arn = attribute == "Arn" or attribute.endswith("Arn")
        return self._arn(name) if is_arn else f"{STACK}-{name}"

    def _arn(self, name: str) -> str:
        role_of = name.removesuffix("Role")
        if name not in self._resources and role_of in self._resources:
            return ARNS["AWS::IAM::Role"].format(name)  # SAM makes FunctionRole for Function
        kind = self._kind(name)
        if kind not in ARNS:
            raise CheckError(f"{name} is a {kind}, whose ARN checks/substitutions.py does not know: add it")
        return ARNS[kind].format(name)

    def _kind(self, name: str) -> str:
        if name not in self._resources:
            raise CheckError(f"a substitution refers to {name}, which the template does not have")
        return str(self._resources[name]["Type"])
