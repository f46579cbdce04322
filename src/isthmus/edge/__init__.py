"""The core client at the edge: keeps a proven model in service, with or without a network.

Nothing here imports boto3: what a device needs was brought to its disk by the deployment.
"""
