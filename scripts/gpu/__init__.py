"""What `bench_gpu.py` is made of."""
