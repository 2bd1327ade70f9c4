"""A token server for docker-registry: token.py PORT KEY CERT USER:PASSWORD. Ends with its standard input.

Gives whoever knows the password a token for what is asked for, good for a minute; signs with openssl."""

import base64
import http.server
import json
import random
import subprocess
import sys
import threading
import time
import urllib.parse

port, key, cert, known = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
der = "".join(line.strip() for line in open(cert) if "-----" not in line)


def b64(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def token(service, scopes):
    now = int(time.time())
    access = []
    for scope in scopes:
        kind, rest = scope.split(":", 1)
        name, actions = rest.rsplit(":", 1)
        access.append({"type": kind, "name": name, "actions": actions.split(",")})
    head = {"typ": "JWT", "alg": "RS256", "x5c": [der]}
    body = {"iss": "tests", "sub": "", "aud": service, "exp": now + 60, "nbf": now - 5, "iat": now,
            "jti": str(random.random()), "access": access}
    text = b64(json.dumps(head).encode()) + "." + b64(json.dumps(body).encode())
    signed = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=text.encode(), capture_output=True, check=True)
    return text + "." + b64(signed.stdout)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        given = self.headers.get("authorization", "")
        status, answer = 401, {"details": "incorrect username or password"}
        if given == "Basic " + base64.b64encode(known.encode()).decode():
            status, answer = 200, {"token": token(asked["service"][0], asked.get("scope", [])), "expires_in": 60}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
