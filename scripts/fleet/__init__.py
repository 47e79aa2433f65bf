"""What `bench_fleet.py` is made of: a cluster on this machine, clients, and what befalls it."""
