"""What AWS refuses and LocalEmu lets pass: sizes, names and parameters.

``limits`` has each figure and its source. A request is looked at once, after authorization and before its
service sees it (``gate``): first by the check of its operation, then against the constraints of botocore's
model (``shapes``). What arises while a state machine or an API runs is patched in where it arises.
"""


def apply() -> None:
    """Called once, before the first request."""
    from localemu.aws.handlers import serve_custom_service_request_handlers

    from . import apigateway, dynamodb, events, gate, stepfunctions

    serve_custom_service_request_handlers.append(gate.refuse)
    stepfunctions.apply()
    events.apply()
    dynamodb.apply()
    apigateway.apply()
