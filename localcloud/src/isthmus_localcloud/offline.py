"""No name is looked up: a resolver is another machine."""

from localemu.utils.aws import aws_stack


def apply() -> None:
    """LocalEmu asks the resolver for ``s3.localhost``, and without an answer takes localhost: so it does here
    at once. This is the only look-up that no setting in ``engine`` prevents."""
    aws_stack.CACHE_S3_HOSTNAME_DNS_STATUS = False
