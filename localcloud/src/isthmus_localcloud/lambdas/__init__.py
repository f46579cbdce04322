"""Lambda functions as processes: the real runtime interface client behind a loopback Runtime API."""
