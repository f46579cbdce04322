"""What the benchmarks of the transports measure them against."""
