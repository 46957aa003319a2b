"""nginx, Apache and Caddy as Debian installs them, but in a folder of their own, and clients of every kind."""

from __future__ import annotations

import os
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

from lab import Lab
from server_lab import Process, free_port

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user}
events {{ worker_connections 768; }}
http {{
    sendfile on;
    tcp_nopush on;
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    log_format refgenied '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
                         '"$http_referer" "$http_user_agent" "$sent_http_content_range"';
    access_log {folder}/combined.log;
    access_log {folder}/refgenied.log refgenied;
    gzip on;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location /archives/ {{ alias {archives}/; }}
        location / {{ proxy_pass http://127.0.0.1:{behind}; }}
    }}
}}
"""
"""The log format is the one in the README."""

APACHE = r"""
ServerRoot /etc/apache2
ServerName localhost
PidFile {folder}/apache.pid
DefaultRuntimeDir {folder}
Mutex file:{folder} default
ErrorLog {folder}/error.log
Timeout 300
KeepAlive On
MaxKeepAliveRequests 100
KeepAliveTimeout 5
IncludeOptional mods-enabled/*.load
IncludeOptional mods-enabled/*.conf
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
LogFormat "%v:%p %h %l %u %t \"%r\" %>s %O \"%{{Referer}}i\" \"%{{User-Agent}}i\"" vhost_combined
LogFormat "%h %l %u %t \"%r\" %>s %O \"%{{Referer}}i\" \"%{{User-Agent}}i\"" combined
LogFormat "%h %l %u %t \"%r\" %>s %b \"%{{Referer}}i\" \"%{{User-Agent}}i\"" with_b
LogFormat "%h %l %u %t \"%r\" %>s %O \"%{{Referer}}i\" \"%{{User-Agent}}i\" \"%{{Content-Range}}o\" %X" refgenied
CustomLog {folder}/combined.log combined
CustomLog {folder}/vhost_combined.log vhost_combined
CustomLog {folder}/with_b.log with_b
CustomLog {folder}/refgenied.log refgenied
Listen 127.0.0.1:{port}
ProxyPass "/archives/" "!"
ProxyPass "/" "http://127.0.0.1:{behind}/"
Alias "/archives/" "{archives}/"
<Directory {archives}>
    Require all granted
</Directory>
"""

CADDY = """
{{
    admin off
}}
:{port} {{
    bind 127.0.0.1
    log {{
        output file {folder}/access.log
    }}
    handle_path /archives/* {{
        root * {archives}
        file_server
    }}
    handle {{
        reverse_proxy 127.0.0.1:{behind}
    }}
}}
"""


def nginx(lab: Lab, archives: Path, behind: int = 9) -> WebServer:
    """The folder of archives at /archives/, what is at the port `behind` everywhere else."""
    user = "user root;" if os.geteuid() == 0 else ""  # its workers must come into a folder of pytest's
    config, port = _configured(lab, "nginx", NGINX, archives, behind, user=user)
    return WebServer(lab, "nginx", ["/usr/sbin/nginx", "-p", str(config.parent), "-c", str(config)], port)


def apache(lab: Lab, archives: Path, behind: int = 9) -> WebServer:
    config, port = _configured(lab, "apache", APACHE, archives, behind)
    command = ["/usr/sbin/apache2", "-f", str(config), "-DFOREGROUND"]
    if os.geteuid() == 0:  # it never serves as root, and www-data alone comes into no folder of pytest's
        rights = "+dac_override,+dac_read_search"
        user = ["--reuid=www-data", "--regid=www-data", "--clear-groups"]
        command = ["setpriv", *user, f"--inh-caps={rights}", f"--ambient-caps={rights}", *command]
    variables = {"APACHE_RUN_DIR": str(config.parent), "APACHE_LOG_DIR": str(config.parent)}
    return WebServer(lab, "apache", command, port, variables)


def caddy(lab: Lab, archives: Path, behind: int = 9) -> WebServer:
    config, port = _configured(lab, "caddy", CADDY, archives, behind)
    command = ["/usr/bin/caddy", "run", "--config", str(config), "--adapter", "caddyfile"]
    homes = dict.fromkeys(("XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(config.parent))
    return WebServer(lab, "caddy", command, port, homes)


def _configured(lab: Lab, name: str, text: str, archives: Path, behind: int, **more: str) -> tuple[Path, int]:
    folder = lab.root / name
    folder.mkdir()
    port = free_port()
    config = folder / "server.conf"
    config.write_text(text.format(folder=folder, port=port, archives=archives, behind=behind, **more))
    return config, port


class WebServer(Process):
    def __init__(
        self, lab: Lab, name: str, command: list[str], port: int, variables: dict[str, str] | None = None
    ) -> None:
        self.folder = lab.root / name
        super().__init__(lab, name, command, port, variables)

    def lines(self, log: str) -> list[bytes]:
        path = self.folder / log
        return path.read_bytes().splitlines(keepends=True) if path.exists() else []

    def logged_lines(self, log: str, number: int, seconds: float = 10.0) -> list[bytes]:
        """Wait until the log has so many lines."""
        deadline = time.monotonic() + seconds
        while len(found := self.lines(log)) < number:
            assert time.monotonic() < deadline, found
            time.sleep(0.02)
        return found


# --------------------------------------------------------------------------- clients


class Visitor:
    """Asks one server for the archives `NAME__default.tgz` under one address."""

    def __init__(self, port: int, prefix: str, address: str = "127.0.0.1") -> None:
        self.port = port
        self.prefix = prefix
        self.address = address
        """His own."""
        self.asked = 0
        self.may_end = threading.Event()
        """Until it is set, a slow one of this visitor's requests does not come to its end."""
        self.may_end.set()

    def get(
        self,
        name: str,
        *headers: str,
        method: str = "GET",
        agent: str = "curl/7.88.1",
        take: int = 2**62,
        rate: int = 0,
    ) -> int:
        """Ask, and leave after so many bytes; read no more than `rate` bytes a second. What was read."""
        self.asked += 1
        with socket.socket() as connection:
            if take < 2**62 or rate:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            connection.bind((self.address, 0))
            connection.connect(("127.0.0.1", self.port))
            lines = [
                f"{method} {self.prefix}{name}__default.tgz HTTP/1.1",
                f"Host: 127.0.0.1:{self.port}",
                f"User-Agent: {agent}",
            ]
            connection.sendall("\r\n".join([*lines, "Connection: close", *headers, "", ""]).encode())
            began, got = time.monotonic(), 0
            while got < take and (part := connection.recv(65536)):
                got += len(part)
                if rate:
                    time.sleep(max(0.0, began + got / rate - time.monotonic()))
                    self.may_end.wait()
        return got

    def refgenie(self, name: str, *headers: str, take: int = 2**62, rate: int = 0) -> None:
        """What `refgenie pull` asks: the length, dropped at once, and then the whole."""
        self.asked += 1
        connection = HTTPConnection("127.0.0.1", self.port, source_address=(self.address, 0))
        asked = {"User-Agent": URLLIB, "Connection": "close"} | dict(header.split(": ", 1) for header in headers)
        connection.request("GET", f"{self.prefix}{name}__default.tgz", headers=asked)
        connection.getresponse().close()
        connection.close()
        self.get(name, *headers, agent=URLLIB, take=take, rate=rate)


URLLIB = urllib.request.build_opener().addheaders[0][1]

SIZES = {"small": 3001, "odd": 150_001, "even": 204_800, "long": 20_000_001}
"""Bytes of the archives that are asked for. A socket takes all of the three first ones, and 4 MB of the last one."""


class Act(NamedTuple):
    what: str
    do: Callable[[Visitor], object]
    downloads: int


def acts(*, slow_seconds: float, pieces: int) -> list[Act]:
    """What people do, and how many downloads that is. One archive is got in so many pieces."""

    def ranges(visitor: Visitor, name: str, spans: Iterable[tuple[int, int]], agent: str) -> None:
        for first, last in spans:
            visitor.get(name, f"Range: bytes={first}-{last}", agent=agent)

    def cut_and_resumed(visitor: Visitor) -> None:
        visitor.get("long", agent="wget", take=1_000_000)
        visitor.get("long", "Range: bytes=900000-", agent="wget")

    slow = int(SIZES["long"] / slow_seconds)
    quoted = 'Referer: http://x/"a"\\'
    piece = SIZES["even"] // pieces
    spans = [(first, first + piece - 1) for first in range(0, SIZES["even"], piece)]
    return [
        *(Act(f"curl, {name}", lambda visitor, name=name: visitor.get(name), 1) for name in SIZES),
        *(Act(f"refgenie, {name}", lambda visitor, name=name: visitor.refgenie(name), 1) for name in SIZES),
        Act("left early", lambda visitor: visitor.get("long", take=500), 0),
        Act("refgenie, left early", lambda visitor: visitor.refgenie("long", take=1_000_000), 0),
        Act("HEAD", lambda visitor: visitor.get("even", method="HEAD"), 0),
        Act("two halves", lambda visitor: ranges(visitor, "odd", [(0, 75_000), (75_001, 150_000)], "halves"), 1),
        Act("the same half twice", lambda visitor: ranges(visitor, "odd", [(0, 75_000)] * 2, "one half"), 0),
        Act("in pieces", lambda visitor: ranges(visitor, "even", spans, "pieces"), 1),
        Act("left in a range", lambda visitor: visitor.get("long", "Range: bytes=5-", agent="left", take=500), 0),
        Act("cut and resumed", cut_and_resumed, 1),
        Act("an agent with quotes", lambda visitor: visitor.get("even", quoted, agent='a "b" \\'), 1),
        Act("refgenie, a referer with quotes", lambda visitor: visitor.refgenie("even", quoted), 1),
        Act("refgenie, slow", lambda visitor: visitor.refgenie("long", rate=slow), 1),
    ]


def all_at_once(acts: list[Act], port: int, prefix: str, meanwhile: Callable[[], object]) -> int:
    """Each by a client of its own, because some are slow, and the last one ends last; how many requests that were."""
    visitors = [Visitor(port, prefix, f"127.0.0.{number}") for number, _ in enumerate(acts, start=2)]
    threads = [threading.Thread(target=act.do, args=(visitor,)) for act, visitor in zip(acts, visitors, strict=True)]
    visitors[-1].may_end.clear()
    for thread in threads:
        thread.start()
    try:
        meanwhile()
        for thread in threads[:-1]:
            thread.join()
    finally:
        visitors[-1].may_end.set()
    threads[-1].join()
    return sum(visitor.asked for visitor in visitors)
