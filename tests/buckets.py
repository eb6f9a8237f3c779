"""Buckets of a real S3 server, inside the test's process, that can be made to fail."""

import re
import socket
import threading
from contextlib import contextmanager

import boto3
import fsspec
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

REFUSALS = {
    "503": ("503 Service Unavailable", "InternalError", "We are out of order"),
    "403": ("403 Forbidden", "AccessDenied", "You may not"),
}


class Server:
    """A WSGI application on a free port of this machine, until it is closed."""

    def __init__(self, app):
        self.app = app
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=Quiet)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.port}"
        self.asked = []
        """Methods and paths of all requests so far."""
        self._faults = []
        self._lock = threading.Lock()
        self._over = threading.Event()

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        with self._lock:
            self.asked.append((environ["REQUEST_METHOD"], path))
            fault = next((fault for fault in self._faults if fault.left and path in fault), None)
            if fault is not None:
                fault.left -= 1
                fault.done += 1
        if fault is None:
            return self.app(environ, start_response)
        if fault.kind == "cut":
            return self._cut(environ, start_response)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if fault.kind == "hang":
            self._over.wait(60)
        status, code, message = REFUSALS.get(fault.kind, REFUSALS["503"])
        start_response(status, [("Content-Type", "application/xml")])
        return [f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()]

    def _cut(self, environ, start_response):
        """What was asked for is done, but half of the answer gets lost, with the connection."""
        whole = b"".join(self.app(environ, start_response))
        if len(whole) > 1:
            yield whole[: len(whole) // 2]
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError

    def fail(self, path, kind, times):
        self._faults.append(Fault(path, kind, times))

    def failed(self):
        """How many requests failed since all was mended."""
        return sum(fault.done for fault in self._faults)

    def mend(self):
        """No fault is left, and nobody waits any longer."""
        self._faults.clear()
        self._over.set()
        self._over = threading.Event()

    def close(self):
        self.mend()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Fault:
    """What becomes of the next requests for a path."""

    def __init__(self, path, kind, left):
        self._path, self.kind, self.left, self.done = path, kind, left, 0

    def __contains__(self, path):
        return re.fullmatch(self._path, path) is not None


class Quiet(WSGIRequestHandler):
    """Writes no line a request, nor a traceback for a connection that was cut on purpose."""

    def log(self, *args):
        pass


class Bucket:
    """One bucket, seen by another client than the one under test."""

    def __init__(self, server, name):
        self.server, self.name, self.url = server, name, f"s3://{name}"
        self._s3 = server.client
        self._s3.create_bucket(Bucket=name)

    def put(self, key, data):
        """Returns the object's URL."""
        self._s3.put_object(Bucket=self.name, Key=key, Body=data)
        return f"{self.url}/{key}"

    def get(self, key):
        return self._s3.get_object(Bucket=self.name, Key=key)["Body"].read()

    def has(self, key, content):
        """Whether an object is there and holds just this."""
        return key in self.keys() and self.get(key) == content

    def keys(self):
        found = self._s3.list_objects_v2(Bucket=self.name).get("Contents", [])
        return [entry["Key"] for entry in found]

    def fail(self, key, kind="503", times=1):
        """The next requests for a key (a regular expression) fail.

        A request is refused ("503", "403"), never answered ("hang"), or carried out but its answer
        breaks off halfway ("cut").
        """
        self.server.fail(f"/{self.name}/?{key}", kind, times)

    def asked(self, key):
        """How often a key was asked for so far."""
        return sum(path == f"/{self.name}/{key}" for _, path in self.server.asked)


@contextmanager
def serving(monkeypatch):
    """A server that s3:// leads to, in this process and in those that it starts."""
    server = Server(DomainDispatcherApplication(create_backend_app))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server.client = boto3.client("s3")
    try:
        yield server
    finally:
        server.close()
        fsspec.get_filesystem_class("s3").clear_instance_cache()
