"""What may be switched on for a model: less memory, more speed. Each switch is a module."""
