"""LoRA adapters: what a request may put on a model.

`files.py` reads one, `shelf.py` keeps those read, `slots.py` and `layers.py` are where they act in
the model, `switch.py` puts them on before a step and knows what that costs.
"""
