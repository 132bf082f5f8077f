"""The executor: owns the container engine, decides what is allowed, and holds sessions.

It knows nothing of WebSockets, tokens or orchestrators and has no network of its own: the one way in is
``ExecutorService`` (``protos/executor.proto``) on a Unix socket that only the gateway's user can open. It trusts
no caller. Labels on the engine's objects are its database: a restarted executor finds everything there.

=====================  =================================================================================
``service``            all RPCs: ``rpc_devboxes``, ``rpc_terminals``; ``rpc`` is what they share
``requests``           what a caller may ask, validated and bounded
``policy``             which tenants, which floor; from a profile to a DevBox's options. Pure
``ledger``             a request id runs at most once
``devboxes``           DevBoxes: create start stop remove list
``exec_command``       run a command and wait for its end
``setup``              a repository in a box: ``checkout`` is its working copy, ``git`` and ``claude_md`` are pure
``sessions``           open terminals, found by id; each is a ``terminal`` with a ``scrollback``
``processes``          kill what an exec left in a box
``images``             list, check, delete; whose an image is
``build``              images built in turn: ``build_context`` takes uploads, ``containerfile`` and ``context_tar``
                       check what is built, ``build_leftovers`` removes what is left
``engine``             the only import of aiodocker; ``exec_stream`` takes over exec streams beside it,
                       ``engine_images`` has the engine's words for images
``engine_service``     find the engine's socket, or run ``podman system service``
``data_dir``           the one directory of the host that the executor uses
=====================  =================================================================================
"""
