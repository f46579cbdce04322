"""A region in one process, for measurements with real agents: AWS's protocols, and the bridge's half of the machine."""
