"""Whole slices at work: processes that serve them, what they are compared with, and links that are shaped."""
