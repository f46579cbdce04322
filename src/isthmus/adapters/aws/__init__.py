"""AWS behind the ports; the only place that imports boto3. One small file per service."""
