"""AUTOMATIC1111's API, /sdapi/v1, as its clients use it.

`wire.py` decodes what they send, `runs.py` makes it a job, `info.py` encodes the answer;
`progress.py`, `lists.py`, `options.py` and `png_info.py` are what they ask for beside it,
`refusals.py` has the error body, and `routes.py` serves it all.
"""
