"""Serving a bundle: reading and proving it, running it, and the protocol that it is asked in.

Transport-independent: Lambda, the edge server and the tests call the same functions. numpy,
onnxruntime and cryptography are imported inside functions, so importing this package costs nothing.
"""
