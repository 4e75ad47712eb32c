"""Benchmarks: rates, costs and promises, in ratios taken inside one run."""
