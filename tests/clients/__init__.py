"""Real clients of other people, run against this service.

`environments.py` installs each one in an environment of its own, `serving.py` serves the app over
a fake backend, and the other files are the clients' scripts: they run in those environments and
import nothing from here.
"""
