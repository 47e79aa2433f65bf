"""The benchmark of routing: the same rows through Serve's router and through ours."""
