"""What `bench_server.py` is made of: services on free ports, and a client that costs little."""
