"""isthmus joins GPU rigs, an AWS account and edge devices into one deep-learning system."""

__version__ = "0.2.0"
