"""The diffusion room: the step engine and everything that touches the GPU."""
