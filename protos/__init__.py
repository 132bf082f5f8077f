"""The contracts of the ClusterCode worker: nothing here does I/O, and nothing here imports the rest of it.

``executor.proto`` is what the gateway may ask of the executor (gRPC; generated stubs beside it). ``wire`` is what
goes over the WebSocket between worker and orchestrator, ``frames`` its binary form. ``errors`` and ``limits`` hold
for both.
"""
