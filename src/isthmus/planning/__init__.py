"""Pure planning: what should run where, and why. No input, no output, no clock."""
