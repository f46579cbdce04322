"""Requests that nobody would send, sent to everything that takes requests."""
