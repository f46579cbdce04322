"""The project's own checks: what no tool off the shelf finds in state machines, locks and licences.

``python -m checks NAME`` runs one (see ``__main__.py``). Each prints a line per finding and ends with
status 1 when there is any, so `make check` and the tests run the very same command.
"""
