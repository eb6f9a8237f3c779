"""A stand-in for a server of OpenAI's interface, whose text is a function of the request."""

import hashlib
import json
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = ["red", "green", "blue", "one", "two", "three", "yes", "no"]


def answer_to(prompt, seed, temperature=1.0):
    """Words and their log-probabilities: of all requests with the same arguments, the same."""
    told = json.dumps([prompt, seed if temperature else 0, temperature])
    drawn = hashlib.sha256(told.encode()).digest()
    words = [WORDS[byte % len(WORDS)] for byte in drawn[1 : 2 + drawn[0] % 6]]
    return words, [-(1 + byte % 16) / 8 for byte in drawn[1 : 1 + len(words)]]


class StandIn:
    """What was asked of it, and how it is to behave."""

    def __init__(self):
        self.url = ""
        self.models = ["actor"]
        self.asked = []
        """(path, body) of every request, in order of arrival."""
        self.keys = []
        self.fails = Counter()
        """How many of the next requests get each status; -1 for all. 0 closes the connection."""
        self.says = "as you asked"
        self.delay = 0.0
        self.logprobs = True
        self.content = True
        """Whether there is any text in a chat's answer."""
        self.finish = "stop"
        """Of an answer that max_tokens has not cut."""
        self.raw = None
        """Bytes to answer instead."""
        self.hangs = threading.Event()
        """Set, it never answers."""
        self.most = self.under_way = 0
        self.lock = threading.Lock()

    @property
    def draws(self):
        """Bodies of the requests for candidates."""
        return [body for path, body in self.asked if body is not None]

    def status(self):
        for status, left in self.fails.items():
            if left:
                self.fails[status] -= left > 0
                return status
        return 200

    def answer(self, path, body):
        """Of a request that does not fail."""
        if path == "/v1/models":
            return 200, {"object": "list", "data": [{"id": name} for name in self.models]}
        if body["model"] not in self.models:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        chat = path == "/v1/chat/completions"
        prompt = body["messages"] if chat else body["prompt"]
        words, logprobs = answer_to(prompt, body["seed"], body["temperature"])
        kept = words[: body["max_tokens"]]
        choice = {"index": 0, "finish_reason": self.finish if kept == words else "length"}
        text = " ".join(kept)
        if chat:
            given = [{"token": t, "logprob": p} for t, p in zip(kept, logprobs, strict=False)]
            choice["message"] = {"role": "assistant", "content": text if self.content else None}
            there = self.logprobs and body.get("logprobs")
            choice["logprobs"] = {"content": given} if there else None
        else:
            given = {"tokens": kept, "token_logprobs": logprobs[: len(kept)]}
            there = self.logprobs and body.get("logprobs")  # some servers take 0 for no
            choice |= {"text": text, "logprobs": given if there else None}
        return 200, {"object": "answer", "model": body["model"], "choices": [choice]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.respond(None)

    def do_POST(self):
        self.respond(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def respond(self, body):
        its = self.server.stand_in
        with its.lock:
            its.asked.append((self.path, body))
            its.keys.append(self.headers["Authorization"])
            its.under_way += 1
            its.most = max(its.most, its.under_way)
            status = its.status()
        try:
            time.sleep(its.delay)
            while its.hangs.is_set():
                time.sleep(0.02)
        finally:
            with its.lock:
                its.under_way -= 1
        if status == 0:
            self.close_connection = True
            return
        if status == 200:
            status, answer = its.answer(self.path, body)
        else:
            answer = {"error": {"message": its.says}}
        sent = json.dumps(answer).encode() if its.raw is None else its.raw
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if its.raw is None else "text/html")
        self.send_header("Content-Length", str(len(sent)))
        if status == 429:
            self.send_header("Retry-After", "0.01")
        self.end_headers()
        self.wfile.write(sent)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, *_):
        """A client that was killed is no news."""


@contextmanager
def stand_in():
    """One at work on a free port of this machine."""
    its = StandIn()
    server = _Server(("127.0.0.1", 0), _Handler)
    server.stand_in = its
    its.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield its
    finally:
        its.hangs.clear()
        server.shutdown()
        server.server_close()
        thread.join()
