"""The parts of bench_optimizations.py."""
