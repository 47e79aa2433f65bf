"""The rooms that do the work: ingress, imaging and diffusion, each its own Serve deployment."""
