"""Every claim of speed, as a ratio against a named reference, measured in one run."""
