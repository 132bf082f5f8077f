"""``python -m bench``: our whole terminal path next to the engine's own socket and to terminado.

Everything is real (an engine, a container, a gateway process, an executor process) and everything runs side by side in
one run on one container, round by round in turn, because only figures of one run compare: the machine's own speed
changes by half from hour to hour. What counts are ratios, and of those the median over the rounds.

One noun per file. `measures` holds what is measured, the rest what is measured with.
"""
