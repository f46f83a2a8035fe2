"""HTTP server for trained loops and for language models (FastAPI, uvicorn): typed requests, event streams, metrics.

app.py      routes                                   schema.py       request and response types (pydantic)
models.py   loaded models, limits, registry          worker.py       one thread per model: scheduling of its engines
work.py     puzzles of a request, and engine queues   fallback.py     exact solver for what a model does not know
stream.py   one solve as server-sent events          about.py        what GET /v1/models/NAME returns
access.py   ASGI middleware: counting, sizes, drain  metrics.py      Prometheus metrics
body.py     size check of JSON bodies                origin.py       Host, Origin and Sec-Fetch-Site checks
connections.py  number and timeouts of connections   server.py       process: socket, signals, graceful shutdown
client.py   Python client                            local.py        a server as a subprocess, for scripts and tests
answering.py  event streams, disconnected clients

A language model, by OpenAI's protocol:
openai.py   routes                                   openai_schema.py  requests, and the form of errors
text_work.py  requests in threads, ways to think     openai_reply.py   responses and chunks
"""
