"""Moving what crosses a cut: named arrays between two processes, each message once and in order.

One small interface (``ports.Channel``) and four ways: within a process, a direct stream, the inference
protocol over HTTPS, and objects in a bucket. numpy and xxhash are imported inside functions.
"""
