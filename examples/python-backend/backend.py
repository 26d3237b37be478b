"""An application with a login, a counter in the session, and a WebSocket, in the standard library of Python and nothing else."""

import base64
import hashlib
import hmac
import html
import json
import os
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

API = os.environ.get("HOLDFAST_API", "http://127.0.0.1:9902")
TOKEN_FILE = os.environ.get("HOLDFAST_TOKEN_FILE", ".holdfast/keys/session-api-app.token")
PASSWORDS = {"alice": "wonderland", "Jürgen": "käse"}  # yours are hashed, and elsewhere
ROLES = {"alice": ["user", "admin"]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/socket" and "websocket" in self.headers.get("Upgrade", "").lower():
            return self.web_socket()
        if self.user is None:
            form = '<form method="post" action="/login"><input name="name"><input name="password" type="password"><button>Sign in</button></form>'
            return self.answer(200, form)
        visits = self.count()
        name = html.escape(self.user)
        self.answer(200, f'<p>hello {name}, visit {visits}</p><form method="post" action="/logout"><button>Sign out</button></form>')

    def do_POST(self):
        fields = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        # A form on another site must not sign anybody in or out here.
        origin = self.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != self.headers["Host"]:
            return self.answer(403, "from another site")
        if self.path == "/logout":
            return self.answer(303, "", {"Location": "/", "Holdfast-Session": "end"})
        name, password = (fields.get(field, [""])[0] for field in ("name", "password"))
        expected = PASSWORDS.get(name)
        if self.path != "/login" or expected is None or not hmac.compare_digest(expected.encode(), password.encode()):
            return self.answer(403, "no")
        roles = ",".join(ROLES.get(name, []))
        control = f'renew; user=%"{quote(name, safe="")}"; roles=%"{quote(roles, safe="")}"'
        self.answer(303, "", {"Location": "/", "Holdfast-Session": control})

    @property
    def user(self):
        """Who the gateway says this is. A client cannot send the header."""
        name = self.headers.get("X-Forwarded-User")
        return None if name is None else unquote(name)

    def count(self):
        """Counts in the session. Of two requests at once, the second one to write tries again."""
        url = f"{API}/sessions/{self.headers['X-Session-ID']}/attributes/visits"
        while True:
            status, etag, visits = call("GET", url)
            condition = {"If-None-Match": "*"} if status == 404 else {"If-Match": etag}
            status, _, _ = call("PUT", url, (visits or 0) + 1, condition)
            if status != 412:
                return (visits or 0) + 1

    def web_socket(self):
        """Says who is there, then says everything back (RFC 6455, short messages only)."""
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.close_connection = True
        self.send_frame(0x1, f"you are {self.user}".encode()[:125])
        while head := self.rfile.read(2):
            opcode, length = head[0] & 0x0F, head[1] & 0x7F
            if length > 125:
                return self.send_frame(0x8, (1009).to_bytes(2))
            mask = self.rfile.read(4)
            payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(self.rfile.read(length)))
            self.send_frame(0xA if opcode == 0x9 else opcode, payload)
            if opcode == 0x8:
                return

    def send_frame(self, opcode, payload):
        self.wfile.write(bytes([0x80 | opcode, len(payload)]) + payload)

    def answer(self, status, text, headers={}):
        body = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def call(method, url, value=None, headers={}):
    """Asks the session API. Returns status, ETag and value; an outage is an exception, and not somebody signed out."""
    with open(TOKEN_FILE) as file:
        token = file.read().strip()
    body = None if value is None else json.dumps(value).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers}
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(request) as response:
            text = response.read()
            return response.status, response.headers.get("ETag"), json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        if error.code in (404, 412):
            return error.code, None, None
        raise


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", 3000))), Handler)
print(f"listening on port {server.server_port}", flush=True)
server.serve_forever()
