"""Ports made real: ``aws`` talks to AWS, ``local`` keeps everything in memory or one folder."""
