"""Model families: what differs between Stable Diffusion, SDXL and the like, one file each."""
