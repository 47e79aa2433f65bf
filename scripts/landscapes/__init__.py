"""A small world of painted landscapes, and a latent diffusion model that learns it from scratch."""
