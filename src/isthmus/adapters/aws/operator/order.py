"""All kinds together, in the order in which they can be removed."""

from __future__ import annotations

from collections.abc import Callable

from isthmus.adapters.aws.operator import (
    bucket,
    certificates,
    cores,
    edge,
    executions,
    formation,
    functions,
    keys,
    logs,
    policies,
    queues,
    registry,
    table,
)
from isthmus.adapters.aws.operator.home import Home
from isthmus.ports import Belongings, Clock


def in_order(home: Home, clock: Clock, rigs: Callable[[], set[str]]) -> tuple[Belongings, ...]:
    """Return every kind.

    What refers comes before what is referred to, and the stack before what its template retains. The
    bucket comes after the layers, since it tells whose they are; the keys last, since data needs them.
    """
    return (
        executions.RunningExecutions(home),
        edge.Deployments(home, clock),
        edge.Components(home),
        functions.ModelFunctions(home),
        queues.RigQueues(home, rigs),
        certificates.RigCertificates(home, clock),
        cores.CoreDevices(home, clock),
        policies.PolicyAttachments(home),
        formation.StackItself(home, clock),
        functions.Layers(home),
        registry.ModelPackages(home),
        logs.LogGroups(home),
        bucket.BucketObjects(home),
        bucket.BucketItself(home),
        table.Tables(home),
        keys.Keys(home),
    )
