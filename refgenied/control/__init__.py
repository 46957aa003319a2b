"""The control socket: who asks what, and what is answered.

`protocol` is the wire (lines ↔ typed requests), `verb` what a verb is, `verbs*` the verbs themselves, which know
nothing of sockets; `binding` makes the socket, `peer` says who is at its other end, `connection` and `socket` serve it.
"""
