"""The control socket: clients ask, the daemon answers.

`protocol` turns lines into typed requests and back. `dispatch` says what a verb is and runs one request. The verbs are
in `verbs/`, one file for each word, and know nothing of sockets. They use `params`, `views`, `lookup` and `context`.
`listener` makes the socket, `server` accepts, `peer` says who has connected, `connection` serves one client.
"""
