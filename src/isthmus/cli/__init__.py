"""The command line: one file per command; each only parses, calls a workflow and prints."""
