"""A small local orchestrator with a web page, speaking exactly the published protocol.

`console.app` wires it up. Workers dial in at ``/ws/worker`` (`worker_socket`, `workers`, `registry`, `requests`,
`sessions`), pages at ``/ws/browser`` (`browsers`, `page_link`, `page_terminal`); Python sees terminals through
`terminal_client`. Imports only ``protos``.
"""
