"""What `bench_imaging.py` is made of: our pixels and files, and those of our rivals."""
