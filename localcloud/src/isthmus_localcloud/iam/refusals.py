"""Refusals in AWS's words.

Source: IAM user guide, "Troubleshoot access denied error messages"; each service's "Common errors".
"""

from localemu.aws.api import CommonServiceException

from .calls import Check
from .policies import Decision

XML = ("query", "rest-xml", "ec2")


def sentence(arn: str, check: Check, decision: Decision) -> str:
    """Who may not do what on what, and why."""
    why = f"because no identity-based policy allows the {check.action} action"
    if decision is Decision.DENIED:
        why = "with an explicit deny"
    return f"User: {arn} is not authorized to perform: {check.action} on resource: {check.resource} {why}"


def refused(service: str, protocol: str, message: str, check: Check | None = None) -> CommonServiceException:
    """The error of the service that was called: its code and status depend on its protocol."""
    if service == "sqs" and check is not None and check.action.startswith("kms:"):
        # SendMessage and ReceiveMessage list KmsAccessDenied, whose code is this one.
        return CommonServiceException("KMS.AccessDeniedException", message, status_code=400)
    if service == "sqs" or protocol in XML:
        return CommonServiceException("AccessDenied", message, status_code=403)
    status = 400 if protocol == "json" else 403
    return CommonServiceException("AccessDeniedException", message, status_code=status)


def unsigned(service: str) -> CommonServiceException:
    if service == "s3":
        return CommonServiceException("AccessDenied", "Access Denied", status_code=403)
    return CommonServiceException(
        "MissingAuthenticationToken", "Request is missing Authentication Token", status_code=403
    )


def unknown_key(service: str, protocol: str) -> CommonServiceException:
    if service == "s3":
        message = "The AWS Access Key Id you provided does not exist in our records."
        return CommonServiceException("InvalidAccessKeyId", message, status_code=403)
    code = "InvalidClientTokenId" if protocol in XML else "UnrecognizedClientException"
    message = "The security token included in the request is invalid."
    return CommonServiceException(code, message, status_code=403)
