"""ONNX files as networks to plan with: profiles, slices, measurements, and a machine's rates.

Read in this order: ``runtime`` (onnxruntime, opened with care), ``read`` (a file to a graph with shapes),
``kinds`` (what an operator computes), ``fuse`` (what runs as one), ``profile``, ``cut``, ``measure``, ``calibrate``.
"""
