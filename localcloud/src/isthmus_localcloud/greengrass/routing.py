"""Greengrass V1 and V2 share a signing name and the path ``/tags/ARN``: LocalEmu takes it for V1's.

V1 ended on 2026-10-07 (V1 developer guide, maintenance policy).
"""

from localemu.aws.protocol import service_router
from localemu.aws.spec import ServiceModelIdentifier


def apply() -> None:
    rules = service_router.signing_name_path_prefix_rules["greengrass"]
    rules["/tags/"] = ServiceModelIdentifier("greengrassv2")
