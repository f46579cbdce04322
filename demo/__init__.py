"""The whole system on one machine: used by `make demo`, the end-to-end tests and the benchmark."""
