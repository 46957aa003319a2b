"""The control socket: clients send requests, and the daemon answers.

`protocol` turns lines into typed requests and back. `dispatch` defines a verb and runs one request. The verbs are in
`verbs/`, one file for each word, and know nothing of sockets. They use `params`, `views`, `lookup` (one archive),
`selection` (the part of all keys that a list must read) and `context`.
`listener` makes the socket, `server` accepts, `peer` finds out who has connected, `connection` serves one client.

*Who may give orders.* The socket's mode decides who may connect. Every user who may connect may read. `peer` asks the
kernel who has connected. Orders are taken from root, from the daemon's own user, and from members of `control.group`
that are not in `control.download_users`. The only order that users in `control.download_users` may give is to count
downloads. `dispatch` checks this for a verb that writes before its handler runs.

*The protocol* is JSON-RPC 2.0: one object in each line, UTF-8, params by name. A verb answers at once; or late, with
one reply when it is done (`archive.wait`); or it is a watch. A watch is answered first. Its notifications (`event`,
`progress`) carry the request's id as `watch`, so several watches share a connection. `end` comes last, with a reason:
`done`, `lagged`, `shutting_down` or an error's kind.

No line is longer than 1 MiB: a row shows the first 20 aliases of a genome (`aliases_total` counts them), lists have
pages, and a text or list that is too long is cut; then the result says `shortened`. The number of root's connections
has no limit, because otherwise other users together could lock out the administrator. A socket that answers is never
taken over.
"""
