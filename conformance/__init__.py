"""Whether a worker keeps the published protocol: an orchestrator end that sees every frame, and the checks.

Runs against any worker that dials in, ours or another's. Of our own code it knows only the protocol's models, with
which it reads what the worker sends; what it sends it writes by hand, right and wrong.

`conformance.orchestrator` listens, `conformance.scene` is what a check works with, `conformance.suite` runs them all;
each other module holds the checks of one part of the protocol.
"""
