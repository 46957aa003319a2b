"""The control socket: clients ask, the daemon answers.

`protocol` turns lines into typed requests and back. `dispatch` says what a verb is and runs one request. The verbs are
in `verbs/`, one file for each word, and know nothing of sockets. They use `params`, `views`, `lookup` and `context`.
`listener` makes the socket, `server` accepts, `peer` says who has connected, `connection` serves one client.

*Who may give orders.* The socket's mode says who may connect, and whoever may connect may read. `peer` asks the
kernel who has connected. Orders are taken from root, from the daemon's own user, and from members of `control.group`
that are not in `control.download_users`; the latter may only report downloads. `dispatch` refuses a verb that writes
before its handler runs.

JSON-RPC 2.0, one object a line in UTF-8, params by name. A verb answers at once; or late, with one reply when it is
done (`archive.wait`); or it is a watch. A watch is answered first. Its notifications (`event`, `progress`) carry the
request's id as `watch`, so several watches share a connection. `end` comes last, with a reason: `done`, `lagged`,
`shutting_down` or an error's kind.

No line is longer than 1 MiB: a row shows the first 20 aliases of a genome (`aliases_total` counts them), lists have
pages, and a text or list that is longer than anybody foresaw is cut; the result then says `shortened`. Root is not
limited in connections, or others together could lock the administrator out. A socket that answers is never taken
over.
"""
