"""Requests over connections of their own, as `httpx` has them, for polling: a hundred times cheaper to begin.

For each of its own, httpx reads the certificates of all authorities, which takes 20 ms of processor time.
"""

import ssl
from functools import partial

import httpx

_TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

request = partial(httpx.request, verify=_TRUSTS_NOBODY)
get = partial(httpx.get, verify=_TRUSTS_NOBODY)
post = partial(httpx.post, verify=_TRUSTS_NOBODY)
put = partial(httpx.put, verify=_TRUSTS_NOBODY)
delete = partial(httpx.delete, verify=_TRUSTS_NOBODY)
