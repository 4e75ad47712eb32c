"""Benchmarks: rates, memory, and ratios taken inside one run."""
