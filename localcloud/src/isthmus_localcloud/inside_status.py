"""What only LocalEmu's process knows, for ``status``."""

from typing import Any

from localemu.http import Response, route


def count_inside() -> dict[str, Any]:
    from localemu.services.lambda_.invocation.models import lambda_stores

    from .lambdas.executor import ProcessRuntimeExecutor
    from .processes import namespaces_work
    from .sagemaker.store import running_jobs

    functions = sum(len(store.functions) for _account, _region, store in lambda_stores.iter_stores())
    return {
        "functions": functions,
        "running_environments": len(ProcessRuntimeExecutor.running),
        "running_jobs": len(running_jobs()),
        "isolation": "namespaces" if namespaces_work() else "paths only",
    }


class InsideStatus:
    """GET /_isthmus/status"""

    @route("/_isthmus/status", methods=["GET"])  # type: ignore[untyped-decorator]
    def status(self, request: Any) -> Any:
        response = Response()
        response.set_json(count_inside())
        return response
