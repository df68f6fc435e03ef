"""Sends requests to a server that exports its spans, and reads what the collector received. The collector is away at first,
then runs, stands still, runs again and is killed; the server answers all the while. At the end a collector stands still, whose
process id is in `collector.pid`. The argument is a folder for that and for logs."""

import contextlib
import json
import os
import pathlib
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.request

URL, TOKEN, PORT = os.environ["URL"], os.environ["ROOT_TOKEN"], os.environ["PORT"]
COLLECTOR = os.environ["COLLECTOR"]
FOLDER = pathlib.Path(sys.argv[1])
OUTPUT = FOLDER / "collector.out"

# How long an answer may take, whatever the collector does: a set-up in a development build takes a part of it.
ANSWER_SECONDS = 3
# How long a span may take to arrive: the server sends every 5 s, and gives a batch 5 s.
ARRIVAL_SECONDS = 20
REQUESTS = 100


def say(text):
    print(f"test-otlp: {text}", file=sys.stderr)


def call(method, path, body=None, trace=None, parent=None, sampled=True):
    """Returns the status and the body of an answer, which must not take long."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    if trace:
        headers["traceparent"] = f"00-{trace}-{parent}-{'01' if sampled else '00'}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data=data, method=method, headers=headers)
    began = time.monotonic()
    with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
        text = answer.read()
    assert time.monotonic() - began < ANSWER_SECONDS, path
    return answer.status, json.loads(text)


def many():
    """Sends more requests than a batch has spans at a time; returns the longest time of an answer."""
    longest = 0
    for _ in range(REQUESTS):
        began = time.monotonic()
        status, _ = call("GET", "/control/v1/tenants/acme")
        assert status == 200, status
        longest = max(longest, time.monotonic() - began)
    return longest


def start_collector():
    with OUTPUT.open("a") as out:
        command = [COLLECTOR, "start", "--otlp-http-endpoint", f"127.0.0.1:{PORT}"]
        command += ["--otlp-grpc-endpoint", "127.0.0.1:0", "--exporter", "blackhole"]
        command += ["--debug-log", "traces", "--debug-log-verbosity", "detailed"]
        return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)


@contextlib.contextmanager
def collector():
    """Starts the collector, and kills it at the end."""
    running = start_collector()
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def spans():
    """Returns the spans that arrived so far, each as its text."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", OUTPUT.read_text())
    found = []
    for resource in text.split("ResourceSpans #")[1:]:
        service = re.search(r"service\.name: Str\((.*)\)", resource)
        for span in re.split(r"^Span #\d+$", resource, flags=re.MULTILINE)[1:]:
            value = lambda pattern: (re.search(pattern, span) or [None, ""])[1]
            found.append({
                "service": service[1] if service else "",
                "trace": value(r"Trace ID\s+: (\w*)"),
                "parent": value(r"Parent ID\s+: (\w*)"),
                "name": value(r"Name\s+: (.*)"),
                "attributes": dict(re.findall(r"-> (\S+): \w+\((.*)\)", span)),
            })
    return found


def request_in_a_trace():
    """Sends requests, each in a trace of its own, until the span of one arrives; returns it with the ids of its client."""
    deadline, sent = time.monotonic() + ARRIVAL_SECONDS, {}
    while time.monotonic() < deadline:
        trace, parent = secrets.token_hex(16), secrets.token_hex(8)
        call("GET", "/control/v1/tenants/acme", trace=trace, parent=parent)
        sent[trace] = parent
        for span in spans():
            if span["trace"] in sent:
                return span, sent[span["trace"]]
        time.sleep(0.5)
    raise AssertionError(f"no span of {len(sent)} requests arrived; {len(spans())} others did")


def main():
    OUTPUT.write_text("")
    status, made = call("POST", "/control/v1/tenants", {"name": "Acme", "slug": "acme"})
    assert status == 201, made
    say(f"the collector is away: {REQUESTS} answers, the longest took {many():.3f} s")

    with collector() as running:
        untraced, span_of_its_client = secrets.token_hex(16), secrets.token_hex(8)
        call("GET", "/control/v1/tenants/acme", trace=untraced, parent=span_of_its_client, sampled=False)
        span, parent = request_in_a_trace()
        attributes = span["attributes"]
        say(f"a span arrived: {span}")
        assert span["service"] == "rowhouse", span
        assert span["parent"] == parent, (span, parent)
        assert attributes["http.route"] == "/control/v1/tenants/{tenant}", span
        assert attributes["tenant.id"] == made["id"], span
        assert attributes["actor"] == "root", span
        assert all(TOKEN not in str(span) for span in spans()), "a span has the token"
        assert all(span["trace"] != untraced for span in spans()), "the client records no such trace"

        running.send_signal(signal.SIGSTOP)
        say(f"the collector stands still: {REQUESTS} answers, the longest took {many():.3f} s")
        running.send_signal(signal.SIGCONT)
        request_in_a_trace()
        say("the collector goes on, and spans arrive")
    say(f"the collector is killed: {REQUESTS} answers, the longest took {many():.3f} s")

    running = start_collector()
    (FOLDER / "collector.pid").write_text(str(running.pid))
    request_in_a_trace()
    running.send_signal(signal.SIGSTOP)
    many()


main()
