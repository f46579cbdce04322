"""What tells that a stack and its things are isthmus's stands in the template."""

from __future__ import annotations

from cloudformation import Template, resources

from isthmus.adapters.aws.operator.ownership import DESCRIPTION, is_ours
from isthmus.model import layout


def test_the_description_begins_as_a_stack_is_known_by(template: Template) -> None:
    assert template["Description"].startswith(DESCRIPTION)


def test_the_outputs_are_those_that_a_stack_is_known_by(template: Template) -> None:
    bucket, machine = layout.bucket_name("shop", "1", "r"), layout.machines("shop")[0]
    values = {
        "Bucket": bucket,
        "Table": "t",
        "TrainAndDeployMachine": f"arn:aws:states:r:1:stateMachine:{machine}",
    }
    outputs = [{"OutputKey": key, "OutputValue": values.get(key, "x")} for key in template["Outputs"]]
    assert is_ours({"StackName": "shop", "StackStatus": "CREATE_COMPLETE", "Outputs": outputs}, bucket)
    (group,) = resources(template, "AWS::SageMaker::ModelPackageGroup").values()
    assert group["ModelPackageGroupDescription"] == layout.MODEL_GROUP_DESCRIPTION


def test_what_outlives_its_stack_says_whose_it_is(template: Template) -> None:
    for kind in ("AWS::S3::Bucket", "AWS::DynamoDB::Table"):
        (properties,) = resources(template, kind).values()
        assert {"Key": layout.STACK_TAG, "Value": {"Ref": "AWS::StackName"}} in properties["Tags"]
