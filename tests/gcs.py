"""Buckets of Google's kind inside the test's process, for gs:// here and in child processes.

Only as much of the JSON API as gcsfs, tensorstore and google-cloud-storage ask for, with the
generations and conditions that tensorstore's writes rest on.
"""

import json
import re
import threading
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import unquote

import fsspec
from werkzeug.wrappers import Request, Response

from tests.buckets import Server

PAGE = 1000
"""Objects of one listing."""


class Object(NamedTuple):
    data: bytes
    generation: int


class Gcs:
    """All buckets, as a WSGI application."""

    def __init__(self):
        self.buckets = {}
        self._uploads = {}
        self._generation = 0
        self._lock = threading.Lock()

    def __call__(self, environ, start_response):
        request = Request(environ)
        request.get_data()
        with self._lock:
            response = self._answer(request)
        return response(environ, start_response)

    def put(self, bucket, key, data):
        with self._lock:
            self._keep(bucket, key, data, {})

    def _answer(self, request):
        path = environ_path(request)
        found = re.fullmatch("(/upload|/download)?/storage/v1/b/([^/]+)(/o)?(/.*)?", path)
        if found is None or found[2] not in self.buckets:
            return refuse(501 if found is None else 404)
        kind, name, of_objects, rest = found.groups()
        if of_objects is None:
            return answer({"kind": "storage#bucket", "name": name})
        if kind == "/upload":
            return self._upload(name, request)
        if rest is None:
            return self._list(name, request.args)
        key, *target = re.split("/(?:rewriteTo/b/([^/]+)|moveTo)/o/", rest[1:])
        if target:
            into, moves = unquote(target[0] or name), target[0] is None
            return self._copy((name, unquote(key)), (into, unquote(target[1])), moves)
        return self._object(name, unquote(key), request)

    def _object(self, name, key, request):
        objects = self.buckets[name]
        there = objects.get(key)
        if not fulfils(there, request.args):
            return refuse(412)
        if there is None:
            return refuse(404)
        if request.method == "DELETE":
            del objects[key]
            return Response(status=204)
        if request.args.get("ifGenerationNotMatch") == str(there.generation):
            return Response(status=304)
        if request.args.get("alt") != "media":
            return answer(described(name, key, there))
        return self._media(there, request)

    def _media(self, there, request):
        headers = {"x-goog-generation": str(there.generation)}
        if request.range is None:
            return Response(there.data, headers=headers, content_type="application/octet-stream")
        asked = request.range.range_for_length(len(there.data))
        if asked is None:
            return refuse(416)
        headers["Content-Range"] = f"bytes {asked[0]}-{asked[1] - 1}/{len(there.data)}"
        return Response(there.data[slice(*asked)], 206, headers)

    def _upload(self, name, request):
        asked = request.args
        if "upload_id" in asked:
            key, parts = self._uploads[asked["upload_id"]]
            parts.append(request.data)
            size = request.headers["Content-Range"].partition("/")[2]
            received = sum(map(len, parts))
            if size == "*" or received < int(size):
                return Response(status=308, headers={"Range": f"bytes=0-{received - 1}"})
            return self._keep(name, key, b"".join(parts), {})
        if asked["uploadType"] == "media":
            return self._keep(name, asked["name"], request.data, asked)
        if asked["uploadType"] == "multipart":
            boundary = re.search('boundary="?([^";]+)', request.content_type)[1].encode()
            end = b"\r\n" if request.data.partition(b"\n")[0].endswith(b"\r") else b"\n"
            _, *parts, _ = (end + request.data).split(end + b"--" + boundary)
            about, content = (part.partition(end + end)[2] for part in parts)
            return self._keep(name, json.loads(about)["name"], content, asked)
        key = asked.get("name") or request.json["name"]
        upload = str(len(self._uploads))
        self._uploads[upload] = (key, [])
        where = f"{request.host_url}upload/storage/v1/b/{name}/o?upload_id={upload}"
        return Response(headers={"Location": where})

    def _keep(self, name, key, data, conditions):
        if not fulfils(self.buckets[name].get(key), conditions):
            return refuse(412)
        self._generation += 1
        self.buckets[name][key] = Object(data, self._generation)
        return answer(described(name, key, self.buckets[name][key]))

    def _copy(self, source, target, moves):
        there = self.buckets[source[0]].get(source[1])
        if there is None:
            return refuse(404)
        kept = self._keep(*target, there.data, {})
        if moves:
            del self.buckets[source[0]][source[1]]
            return kept
        return answer({"done": True, "resource": kept.json})

    def _list(self, name, asked):
        prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter")
        entries = {}
        for key, there in sorted(self.buckets[name].items()):
            beyond = asked.get("endOffset") and key >= asked["endOffset"]
            if not key.startswith(prefix) or key < asked.get("startOffset", "") or beyond:
                continue
            head, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            entries[prefix + head + cut if cut else key] = None if cut else there
        names = [entry for entry in entries if entry > asked.get("pageToken", "")]
        size = min(int(asked.get("maxResults", PAGE)), PAGE)
        more = {"nextPageToken": names[size - 1]} if len(names) > size else {}
        names = names[:size]
        items = [described(name, key, entries[key]) for key in names if entries[key]]
        folders = [key for key in names if not entries[key]]
        return answer({"kind": "storage#objects", "items": items, "prefixes": folders, **more})


def environ_path(request):
    """Where a slash that belongs to a name is told from one that does not."""
    return request.environ["REQUEST_URI"].partition("?")[0]


def fulfils(there, conditions):
    wanted = conditions.get("ifGenerationMatch")
    return wanted is None or int(wanted) == (there.generation if there else 0)


def described(bucket, key, there):
    return {
        "kind": "storage#object",
        "name": key,
        "bucket": bucket,
        "size": str(len(there.data)),
        "generation": str(there.generation),
        "metageneration": "1",
        "updated": "2026-01-01T00:00:00.000Z",
        "timeCreated": "2026-01-01T00:00:00.000Z",
    }


def answer(value):
    return Response(json.dumps(value), content_type="application/json")


def refuse(status):
    error = {"error": {"code": status, "message": f"the bucket says {status}"}}
    return Response(json.dumps(error), status, content_type="application/json")


class Bucket:
    """One bucket, looked into without any client."""

    def __init__(self, server, name):
        self.server, self.name, self.url = server, name, f"gs://{name}"
        self._objects = server.app.buckets.setdefault(name, {})

    def names(self):
        return sorted(self._objects)

    def get(self, key):
        return self._objects[key].data

    def put(self, key, data):
        """Returns the object's URL."""
        self.server.app.put(self.name, key, data)
        return f"{self.url}/{key}"

    def fail(self, key, kind="503", times=1):
        """The next requests that have to do with keys (a regular expression) fail."""
        self.server.fail(f".*/b/{self.name}/o/?{key}", kind, times)


@contextmanager
def serving(monkeypatch):
    """A server that gs:// leads to, in this process and in those that it starts."""
    server = Server(Gcs())
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", server.url)
    monkeypatch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "tests")  # for tensorstore
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "tests")
    monkeypatch.setenv("FSSPEC_GS_TOKEN", "anon")
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
    try:
        yield server
    finally:
        server.close()
        fsspec.get_filesystem_class("gs").clear_instance_cache()
