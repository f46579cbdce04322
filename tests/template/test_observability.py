"""What can go wrong unseen: nothing. Dead letters and alarms on every rule and asynchronous function."""

from __future__ import annotations

import ast
import copy
import json
import re
from typing import Any

import pytest
from cloudformation import ROOT, Template, functions, listed, resources

from benchmarks.idle_cost import Resources, resources_of
from isthmus.observe import METRICS

HANDLERS = sorted((ROOT / "functions").glob("*/app.py"))
REQUEST_RESPONSE = ("apigateway.amazonaws.com",)
"""Services that wait for a function's answer, and hand its failure to their caller."""


@pytest.fixture(scope="module")
def written(template: Template) -> Resources:
    """The resources as SAM writes them out."""
    return resources_of(template)


def of_type(written: Resources, kind: str) -> dict[str, Any]:
    return {name: entry["Properties"] for name, entry in written.items() if entry["Type"] == kind}


def referred(value: Any) -> str:
    """Return the logical id behind a Ref or GetAtt; empty for anything else."""
    if isinstance(value, dict):
        if "Ref" in value:
            return str(value["Ref"])
        if "Fn::GetAtt" in value:
            found = value["Fn::GetAtt"]
            return str(found[0] if isinstance(found, list) else found.split(".")[0])
    return ""


def alarmed(written: Resources, metric: str, dimension: str) -> set[str]:
    """Return the resources whose ``metric`` an alarm watches that one occurrence sets off."""
    return {
        referred(entry["Value"])
        for alarm in of_type(written, "AWS::CloudWatch::Alarm").values()
        if alarm["MetricName"] == metric and alarm["Threshold"] == 0
        for entry in alarm.get("Dimensions", [])
        if entry["Name"] == dimension
    }


def asynchronous(written: Resources) -> set[str]:
    """Return the functions that somebody invokes without waiting for their answer.

    Services that may invoke one, but for those that wait, and CloudFormation on a custom resource
    (Lambda developer guide, "Using Lambda with CloudFormation").
    """
    invoked = {
        referred(entry["FunctionName"])
        for entry in of_type(written, "AWS::Lambda::Permission").values()
        if entry["Principal"] not in REQUEST_RESPONSE
    }
    custom = {
        referred(entry["Properties"]["ServiceToken"])
        for entry in written.values()
        if entry["Type"].startswith("Custom::")
    }
    return invoked | custom


HARMLESS = {"StopInterruptedFunctionSpotInterrupted": "SageMaker itself starts an interrupted job again"}
"""Rules whose lost event nobody misses, each with its reason: their alarms would cost more than they tell."""


def gaps(written: Resources) -> list[str]:
    """Return what an event could be lost by, unseen."""
    queues = alarmed(written, "ApproximateNumberOfMessagesVisible", "QueueName")
    watched = alarmed(written, "InvocationsFailedToBeSentToDlq", "RuleName")
    found = []
    for name, rule in of_type(written, "AWS::Events::Rule").items():
        found += [f"{name}: no alarm on events it loses"] * (name not in watched and name not in HARMLESS)
        for target in rule["Targets"]:
            queue = referred(target.get("DeadLetterConfig", {}).get("Arn"))
            found += [f"{name}: no dead-letter queue with an alarm"] * (queue not in queues)
            found += [f"{name}: no retry policy"] * ("RetryPolicy" not in target)
    for name in asynchronous(written):
        properties = written[name]["Properties"]
        queue = referred(properties.get("DeadLetterConfig", {}).get("TargetArn"))
        found += [f"{name}: no dead-letter queue with an alarm"] * (queue not in queues)
    return found


def test_nothing_asynchronous_is_lost_unseen(written: Resources) -> None:
    assert len(of_type(written, "AWS::Events::Rule")) >= 3
    assert len(asynchronous(written)) >= 4
    assert gaps(written) == []
    assert set(HARMLESS) <= set(of_type(written, "AWS::Events::Rule"))


def lost_calls_are_seen(written: Resources) -> bool:
    """Return whether one event that Lambda can bring to no dead-letter queue sets off an alarm.

    Without a dimension, Lambda's metrics are those of all functions of the account in the region (Lambda
    developer guide, "Viewing metrics on the CloudWatch console").
    """
    return any(
        (alarm["Namespace"], alarm["MetricName"], alarm["Threshold"]) == ("AWS/Lambda", "DeadLetterErrors", 0)
        and alarm["Statistic"] == "Sum"
        and not alarm.get("Dimensions")
        for alarm in of_type(written, "AWS::CloudWatch::Alarm").values()
    )


def test_an_event_that_no_dead_letter_queue_took_is_seen(written: Resources) -> None:
    assert lost_calls_are_seen(written)
    planted = copy.deepcopy(written)
    dimension = {"Name": "FunctionName", "Value": {"Ref": "RefreshModelsFunction"}}
    planted["LostCallsAlarm"]["Properties"]["Dimensions"] = [dimension]
    assert not lost_calls_are_seen(planted), "one function is not all"


def hears(pattern: dict[str, Any], **detail: Any) -> bool:
    """Return whether a rule's ``detail`` takes an event's, of the operators that the rule has."""
    choices = pattern.get("$or", [{}])
    return any(_matches({**pattern, **choice}, detail) for choice in choices)


def _matches(wanted: dict[str, Any], detail: dict[str, Any]) -> bool:
    return all(
        any(
            detail.get(name, 0) > value["numeric"][1]
            if isinstance(value, dict)
            else detail.get(name) == value
            for value in values
        )
        for name, values in wanted.items()
        if name not in ("$or", "stateMachineArn")
    )


def test_every_bad_end_and_every_redrive_of_a_pipeline_is_heard_of(written: Resources) -> None:
    detail = written[RULE]["Properties"]["EventPattern"]["detail"]
    assert detail["stateMachineArn"], "of one machine"
    for status in ("ABORTED", "FAILED", "TIMED_OUT"):
        assert hears(detail, status=status, redriveCount=0)
        assert hears(detail, status=status, redriveCount=2)
    assert hears(detail, status="RUNNING", redriveCount=1)
    assert not hears(detail, status="RUNNING", redriveCount=0), "a start is no news"
    assert not hears(detail, status="SUCCEEDED", redriveCount=1), "its last state has said so"


RULE, FUNCTION = "RecordOutcomeFunctionStatusChanged", "RefreshModelsFunction"
PLANTED = [
    (lambda all_: all_[RULE]["Properties"]["Targets"][0].pop("DeadLetterConfig"), RULE),
    (lambda all_: all_[RULE]["Properties"]["Targets"][0].pop("RetryPolicy"), RULE),
    (lambda all_: all_.pop("PipelineEndsAlarm"), RULE),
    (lambda all_: all_[FUNCTION]["Properties"].pop("DeadLetterConfig"), FUNCTION),
    (lambda all_: all_.pop("DeadLettersAlarm"), FUNCTION),
    (lambda all_: all_["DeadLettersAlarm"]["Properties"].update(Threshold=10), FUNCTION),
]


@pytest.mark.parametrize(("plant", "where"), PLANTED)
def test_a_planted_gap_is_found(written: Resources, plant: Any, where: str) -> None:
    planted = copy.deepcopy(written)
    plant(planted)
    assert any(gap.startswith(where) for gap in gaps(planted)), gaps(planted)


def test_a_rule_without_anything_is_found(template: Template) -> None:
    grown = copy.deepcopy(template)
    rule = {"Type": "EventBridgeRule", "Properties": {"Pattern": {"source": ["aws.s3"]}}}
    functions(grown)["RegisterModelFunction"]["Events"] = {"Planted": rule}
    assert set(gaps(resources_of(grown))) == {
        "RegisterModelFunctionPlanted: no alarm on events it loses",
        "RegisterModelFunctionPlanted: no dead-letter queue with an alarm",
        "RegisterModelFunctionPlanted: no retry policy",
        "RegisterModelFunction: no dead-letter queue with an alarm",
    }


def test_a_failed_execution_of_every_machine_sets_off_an_alarm(written: Resources) -> None:
    machines = set(of_type(written, "AWS::StepFunctions::StateMachine"))
    assert alarmed(written, "ExecutionsFailed", "StateMachineArn") == machines


def test_every_alarm_tells_whoever_is_to_be_told(template: Template) -> None:
    told = {"Fn::If": ["SomebodyIsTold", {"Ref": "AlarmTopic"}, {"Ref": "AWS::NoValue"}]}
    for name, alarm in resources(template, "AWS::CloudWatch::Alarm").items():
        assert alarm["AlarmActions"] == [told], name
        assert alarm["TreatMissingData"] == "notBreaching", f"{name}: no data is the state at rest"
        assert alarm["AlarmDescription"], name


def test_every_log_line_goes_where_the_metric_filter_reads(template: Template) -> None:
    shared = template["Globals"]["Function"]["LoggingConfig"]
    assert shared == {"LogFormat": "JSON", "LogGroup": {"Ref": "LogGroup"}}
    (found,) = resources(template, "AWS::Logs::MetricFilter").values()
    assert found["LogGroupName"] == shared["LogGroup"]
    assert not [name for name, entry in functions(template).items() if "LoggingConfig" in entry]


# ------------------------------------------------------------------------------------- the dashboard


def widgets(template: Template) -> list[dict[str, Any]]:
    (board,) = resources(template, "AWS::CloudWatch::Dashboard").values()
    body: dict[str, Any] = json.loads(board["DashboardBody"]["Fn::Sub"])
    found: list[dict[str, Any]] = body["widgets"]
    return found


def test_the_dashboard_shows_every_alarm_and_every_metric_of_ours(template: Template) -> None:
    text = json.dumps(widgets(template))
    for name in resources(template, "AWS::CloudWatch::Alarm"):
        assert f"${{{name}.Arn}}" in text, f"{name} is not on the dashboard"
    for name, (_, dimensions) in METRICS.items():
        schema = ",".join(sorted({*dimensions, "service"}))
        searched = re.findall(
            r"SEARCH\('\{\\+\"\$\{AWS::StackName\}\\+\",([a-z,]+)\} MetricName=\\+\"(\w+)", text
        )
        assert (schema, name) in {(",".join(sorted(found.split(","))), metric) for found, metric in searched}
    assert "FunctionFailed" in text


def test_widgets_lie_beside_each_other(template: Template) -> None:
    taken: set[tuple[int, int]] = set()
    for widget in widgets(template):
        x, y = (
            range(widget["x"], widget["x"] + widget["width"]),
            range(widget["y"], widget["y"] + widget["height"]),
        )
        cells = {(column, row) for column in x for row in y}
        assert not cells & taken, widget["properties"]["title"]
        assert max(x) < 24, "a dashboard has 24 columns"
        taken |= cells


def test_the_dashboard_refers_to_what_there_is(template: Template, written: Resources) -> None:
    known = set(written) | {"AWS::Region", "AWS::StackName"}
    (board,) = resources(template, "AWS::CloudWatch::Dashboard").values()
    for reference in re.findall(r"\$\{([^}.]+)", board["DashboardBody"]["Fn::Sub"]):
        assert reference in known, reference


# ------------------------------------------------------------------------------------- the handlers


@pytest.mark.parametrize("path", HANDLERS, ids=lambda path: path.parent.name)
def test_every_handler_is_observed_and_has_no_logger_of_its_own(path: Any) -> None:
    tree = ast.parse(path.read_text())
    (handler,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "handler"]
    (decorator,) = handler.decorator_list
    assert "observed" in {node.id for node in ast.walk(decorator) if isinstance(node, ast.Name)}
    made = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in ("Logger", "Tracer")]
    assert not made
    assert "print(" not in path.read_text()


def emitted(path: Any) -> set[str]:
    """Return the metrics that a handler emits, by name."""
    tree = ast.parse(path.read_text())
    if not any(isinstance(node, ast.Name) and node.id == "emit" for node in ast.walk(tree)):
        return set()
    return {
        str(key.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant) and key.value in METRICS
    }


def test_every_metric_is_somebodys() -> None:
    said = {name for path in HANDLERS for name in emitted(path)}
    assert said == set(METRICS)


def logged(path: Any) -> list[ast.AST]:
    """Return what a handler passes to its logger, part by part."""
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "logger"
    ]
    return [part for call in calls for given in [*call.args, *call.keywords] for part in ast.walk(given)]


def test_a_log_line_never_takes_a_whole_event() -> None:
    parts = [part for path in HANDLERS for part in logged(path)]
    assert parts, "it finds what is logged"
    fields = {id(part.value) for part in parts if isinstance(part, ast.Subscript)}
    events = [part for part in parts if isinstance(part, ast.Name) and part.id == "event"]
    assert all(id(part) in fields for part in events), "one field of it at most"


def test_tracing_is_on_from_the_api_to_the_machines(template: Template, written: Resources) -> None:
    assert template["Globals"]["Function"]["Tracing"] == "Active"
    for machine in resources(template, "AWS::Serverless::StateMachine").values():
        assert machine["Tracing"] == {"Enabled": True}
    (api,) = resources(template, "AWS::Serverless::Api").values()
    assert api["TracingEnabled"] is True
    tracers = [
        listed(role.get("ManagedPolicyArns", [])) for role in of_type(written, "AWS::IAM::Role").values()
    ]
    assert any("AWSXrayWriteOnlyAccess" in str(arns) for arns in tracers)
