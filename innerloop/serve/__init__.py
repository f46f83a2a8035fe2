"""Trained loops behind HTTP: typed requests, streams of steps, metrics, hot swap, and a client.

app.py      the routes                       schema.py    what is asked and said
models.py   what is served, and its door     worker.py    the thread in which a model thinks
orders.py   what it is given, and its lanes  fallback.py  the exact solver behind the models
stream.py   a thought told step by step      about.py     what a model says of itself
gate.py     counting, sizes, closing         metrics.py   numbers for Prometheus
body.py     what a body may hold             origin.py    which requests a browser may bring
connections.py  their number and times       server.py    the process: port, signals, end
client.py   the other side                   local.py     a server of one's own
"""
