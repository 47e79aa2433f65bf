"""What an operator touches: what may be configured, and how the graph is wired."""
