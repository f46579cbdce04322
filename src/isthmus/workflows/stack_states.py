"""What to do about each status of a CloudFormation stack."""

from __future__ import annotations

PLAN = "isthmus destroy --stack {stack} --keep data,models,records,logs"
"""A dry run, and of what holds data not even that."""
DELETE = "aws cloudformation delete-stack --stack-name {stack}"
NEXT_STEPS = {
    "CREATE_COMPLETE": ("", ""),
    "UPDATE_COMPLETE": ("", ""),
    "UPDATE_ROLLBACK_COMPLETE": ("", ""),
    "IMPORT_COMPLETE": ("", ""),
    "IMPORT_ROLLBACK_COMPLETE": ("", ""),
    "UPDATE_FAILED": (
        "mend the cause and deploy again, or go back to what it was",
        "sam build && sam deploy, or aws cloudformation rollback-stack --stack-name {stack}",
    ),
    "UPDATE_ROLLBACK_FAILED": (
        "mend the cause and go on",
        "aws cloudformation continue-update-rollback --stack-name {stack}",
    ),
    "REVIEW_IN_PROGRESS": ("a change set without a stack; take it away and deploy again", DELETE),
    "ROLLBACK_COMPLETE": ("what was made is gone again; take the rest away and deploy again", DELETE),
    "CREATE_FAILED": ("what was made is still there; see what that is", PLAN),
    "ROLLBACK_FAILED": ("some of what was made is still there; see what that is", PLAN),
    "DELETE_FAILED": ("some of it is still there; see what that is", PLAN),
}
"""What each status asks for, and the command that does it; none of them removes data.

CloudFormation user guide, stack status codes; API reference, RollbackStack (from CREATE_FAILED and
UPDATE_FAILED to the last stable state) and ContinueUpdateRollback. A stack that waits for its first change
set, or was rolled back after its creation, has no resources, and what is retained is not deleted.
"""
UNCLEAR = ("look why", "aws cloudformation describe-stack-events --stack-name {stack} --max-items 20")
"""Also after IMPORT_ROLLBACK_FAILED, which has no command of its own."""
