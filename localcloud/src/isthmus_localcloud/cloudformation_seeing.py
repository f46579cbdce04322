"""CloudFormation types of CloudWatch that LocalEmu lacks: the dashboard and the metric filter.

Both are put and replaced by one call and deleted by another, which names them in its own way.
"""

from typing import Any, ClassVar

import localemu.services.cloudformation.provider_utils as util
from localemu.services.cloudformation.resource_provider import (
    CloudFormationResourceProviderPlugin,
    OperationStatus,
    ProgressEvent,
    ResourceProvider,
)

Model = dict[str, Any]


class _PutProvider(ResourceProvider):  # type: ignore[misc]
    """A resource that one ``put`` creates or replaces; its name is its reference."""

    TYPE: ClassVar[str]
    SCHEMA: ClassVar[Model]
    name_property: ClassVar[str]

    def create(self, request: Any) -> Any:
        model: Model = request.desired_state
        if not model.get(self.name_property):
            given = util.generate_default_name(request.stack_name, request.logical_resource_id)
            model[self.name_property] = given
        self.put(request.aws_client_factory, model)
        return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=model)

    def update(self, request: Any) -> Any:
        model: Model = {**request.previous_state, **request.desired_state}
        self.put(request.aws_client_factory, model)
        return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=model)

    def delete(self, request: Any) -> Any:
        self.remove(request.aws_client_factory, request.previous_state)
        return ProgressEvent(status=OperationStatus.SUCCESS, resource_model={})

    def read(self, request: Any) -> Any:
        return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=request.desired_state)

    def put(self, clients: Any, model: Model) -> None:
        raise NotImplementedError

    def remove(self, clients: Any, model: Model) -> None:
        raise NotImplementedError


def _schema(kind: str, name_property: str) -> Model:
    return {
        "typeName": kind,
        "primaryIdentifier": [f"/properties/{name_property}"],
        "readOnlyProperties": [],
        "properties": {},
    }


class DashboardProvider(_PutProvider):
    TYPE = "AWS::CloudWatch::Dashboard"
    name_property = "DashboardName"
    SCHEMA = _schema(TYPE, name_property)

    def put(self, clients: Any, model: Model) -> None:
        clients.cloudwatch.put_dashboard(
            DashboardName=model["DashboardName"], DashboardBody=model["DashboardBody"]
        )

    def remove(self, clients: Any, model: Model) -> None:
        clients.cloudwatch.delete_dashboards(DashboardNames=[model["DashboardName"]])


class MetricFilterProvider(_PutProvider):
    TYPE = "AWS::Logs::MetricFilter"
    name_property = "FilterName"
    SCHEMA = _schema(TYPE, name_property)

    def put(self, clients: Any, model: Model) -> None:
        group, name = model["LogGroupName"], model["FilterName"]
        there = clients.logs.describe_metric_filters(logGroupName=group, filterNamePrefix=name)
        if any(entry["filterName"] == name for entry in there["metricFilters"]):
            self.remove(clients, model)  # AWS replaces a filter of that name; moto adds another
        transformations = model["MetricTransformations"]
        wanted = {key[0].lower() + key[1:]: value for key, value in transformations[0].items()}
        clients.logs.put_metric_filter(
            logGroupName=group,
            filterName=name,
            filterPattern=model["FilterPattern"],
            metricTransformations=[wanted],
        )

    def remove(self, clients: Any, model: Model) -> None:
        clients.logs.delete_metric_filter(logGroupName=model["LogGroupName"], filterName=model["FilterName"])


class DashboardPlugin(CloudFormationResourceProviderPlugin):  # type: ignore[misc]
    name = DashboardProvider.TYPE

    def __init__(self) -> None:
        self.factory: type[ResourceProvider] | None = None

    def load(self) -> None:
        self.factory = DashboardProvider


class MetricFilterPlugin(CloudFormationResourceProviderPlugin):  # type: ignore[misc]
    name = MetricFilterProvider.TYPE

    def __init__(self) -> None:
        self.factory: type[ResourceProvider] | None = None

    def load(self) -> None:
        self.factory = MetricFilterProvider
