"""Training frameworks behind one port. This code runs inside a training environment.

A training environment holds a framework, onnx, onnxruntime and numpy, and nothing of isthmus's own
dependencies: what is imported here is the standard library, ``isthmus.errors`` and the environment.
"""
