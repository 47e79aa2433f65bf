"""What `bench_batching.py` is made of: one trace of requests, and seven ways to serve it."""
