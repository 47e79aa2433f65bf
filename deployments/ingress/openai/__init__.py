"""OpenAI's Images API.

`fields.py` says what it sends, `edits.py` decodes what brings images, `params.py` puts a call into
the service's own terms; `answers.py` and `events.py` encode what goes back, `stream.py` makes
events of a run; `routes.py` serves it.
"""
