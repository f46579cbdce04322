"""What the benchmarks of the direct stream measure it against."""
