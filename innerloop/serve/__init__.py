"""Trained loops behind HTTP: typed requests, streams of steps, metrics, hot swap, and a client.

app.py      the routes                          schema.py    what is asked and said
models.py   what is served, each with its door  worker.py    the thread in which a model thinks
stream.py   a thought told step by step         about.py     what a model says of itself
gate.py     counting, sizes, closing            fallback.py  the exact solver behind the models
server.py   the process: port, signals, end     metrics.py   numbers for Prometheus
client.py   the other side
"""
