"""Lambda's figures of its calls reach CloudWatch under AWS's dimensions, and are read by all of them."""

import datetime
from typing import Any

from conftest import Cloud, wait_for, zipped

from isthmus_localcloud.lambdas.call_metrics import dimensions_of

SOURCE = """
def handler(event, context):
    if event: raise ValueError("asked to fail")
    return context.function_version
"""


def figure(cloud: Cloud, metric: str, statistic: str = "Sum", **dimensions: str) -> float | None:
    """The figure of the last hour; None where nothing was sent."""
    now = datetime.datetime.now(datetime.UTC)
    named = [{"Name": name, "Value": value} for name, value in dimensions.items()]
    stat = {
        "Metric": {"Namespace": "AWS/Lambda", "MetricName": metric, "Dimensions": named},
        "Period": 7200,
        "Stat": statistic,
    }
    answer = cloud.client("cloudwatch").get_metric_data(
        MetricDataQueries=[{"Id": "m", "MetricStat": stat}],
        StartTime=now - datetime.timedelta(hours=1),
        EndTime=now + datetime.timedelta(minutes=1),
    )
    values = answer["MetricDataResults"][0]["Values"]
    return sum(values) if values else None


def publish_two(cloud: Cloud) -> None:
    """Two versions of a function, and an alias that goes to the first."""
    client = cloud.client("lambda")
    cloud.function("counted", SOURCE)
    client.publish_version(FunctionName="counted")
    archive = zipped(app=f"{SOURCE}\n# changed\n")
    assert (
        client.update_function_code(FunctionName="counted", ZipFile=archive, Publish=True)["Version"] == "2"
    )
    client.get_waiter("function_updated_v2").wait(FunctionName="counted", WaiterConfig={"Delay": 1})
    client.create_alias(FunctionName="counted", Name="live", FunctionVersion="1")


def test_a_call_counts_under_every_set_of_dimensions() -> None:
    def named(qualifier: str) -> list[dict[str, Any]]:
        return [dict(entry) for entry in dimensions_of("f", qualifier, "7")]

    assert named("") == [{}, {"FunctionName": "f"}]
    assert named("7") == [{}, {"FunctionName": "f"}, {"FunctionName": "f", "Resource": "f:7"}]
    assert named("live")[2:] == [
        {"FunctionName": "f", "Resource": "f:live"},
        {"FunctionName": "f", "Resource": "f:live", "ExecutedVersion": "7"},
    ]


def test_calls_by_an_alias_count_for_the_version_that_ran(cloud: Cloud) -> None:
    publish_two(cloud)
    point = cloud.client("lambda").update_alias
    for version, events in (("1", [None, None, {"a": 1}]), ("2", [None, {"a": 1}, {"a": 1}, {"a": 1}])):
        point(FunctionName="counted", Name="live", FunctionVersion=version)
        for event in events:
            cloud.invoke("counted", event, Qualifier="live")
    cloud.invoke("counted", None, Qualifier="1")
    cloud.invoke("counted", None)

    def of(metric: str, version: str) -> float | None:
        return figure(cloud, metric, FunctionName="counted", Resource="counted:live", ExecutedVersion=version)

    assert wait_for(lambda: figure(cloud, "Invocations", FunctionName="counted") == 9)
    assert [(of("Invocations", v), of("Errors", v)) for v in ("1", "2")] == [(3, 1), (4, 3)]
    assert of("Invocations", "$LATEST") is None, "it was not called by the alias"
    beginning = {"Resource": "counted:liv", "ExecutedVersion": "1"}
    assert figure(cloud, "Invocations", FunctionName="counted", **beginning) is None
    assert figure(cloud, "Errors", FunctionName="counted") == 4
    assert figure(cloud, "Errors", "SampleCount", FunctionName="counted") == 9, (
        "a success is an error count of 0"
    )
    assert figure(cloud, "Invocations", FunctionName="counted", Resource="counted:live") == 7
    assert figure(cloud, "Invocations", FunctionName="counted", Resource="counted:1") == 1
