"""A threaded HTTP server that asks itself: python3 http_server.py REQUESTS_PER_S"""

import http.server
import sys
import threading
import urllib.request

from beat import beat


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = ("answer to " + self.path).encode() * 200
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
for number, _ in enumerate(beat(1 / float(sys.argv[1]))):
    with urllib.request.urlopen("http://127.0.0.1:%d/%d" % (server.server_port, number)) as answer:
        answer.read()
