"""The guard around the dashboard's server, answers made once, and where it listens."""

import gzip
import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_client import request
from escapevelocity.errors import UserError
from escapevelocity.report.live import Guard, Shared, answer, is_answered, told
from escapevelocity.report.live_files import WEB, link, page, web_file
from escapevelocity.report.live_server import address_of, is_local, open_socket

DATA = {"text": "x" * 1000}


@pytest.fixture(scope="module")
def app():
    ready = told(DATA)

    async def data(request):
        return answer(request, ready)

    async def hello(request):
        return PlainTextResponse("hello")

    return Guard(Starlette(routes=[Route("/", hello), Route("/data", data)]), ["runs.example"])


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nobody_can_write(app, method):
    found = request(app, method, "/")
    assert (found.status_code, found.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8420", "localhost.evil.example", "127.0.0.1.nip.io", ""]
)
def test_a_name_that_is_not_this_machines_is_refused(app, host):
    assert request(app, "GET", "/", {"host": host}).status_code == 421


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:8420", "[::1]:8420", "192.168.0.7", "runs.example:80"]
)
def test_names_of_this_machine_are_answered(app, host):
    assert request(app, "GET", "/", {"host": host}).text == "hello"


@given(st.text(st.characters(codec="latin-1"), max_size=30))
def test_whatever_stands_in_host_is_refused_or_this_machine(host):
    if is_answered(host):
        name = host.strip().lower()
        assert set(name) <= set("0123456789abcdef.:[]localhost%")


def test_every_answer_forbids_what_the_pages_do_not_need(app):
    for found in (
        request(app, "GET", "/"),
        request(app, "GET", "/nowhere"),
        request(app, "POST", "/"),
        request(app, "GET", "/", {"host": "x"}),
    ):
        policy = found.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in found.headers


def test_who_has_the_answer_gets_no_body(app):
    first = request(app, "GET", "/data")
    assert first.json() == DATA
    again = request(app, "GET", "/data", {"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert request(app, "GET", "/data", {"if-none-match": '"other"'}).status_code == 200


def test_answers_are_packed_for_who_takes_that(app):
    plain = request(app, "GET", "/data", {"accept-encoding": "identity"})
    packed = request(app, "GET", "/data", {"accept-encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(plain.content)
    assert json.loads(gzip.decompress(told(DATA).packed)) == packed.json() == DATA


def test_a_number_that_is_not_finite_is_never_sent():
    with pytest.raises(ValueError, match="Out of range float"):
        told({"x": float("nan")})


def test_all_who_ask_within_an_interval_share_one_making():
    clock = iter([0.0, 0.0, 1.0, 2.0, 2.0]).__next__
    shared = Shared(lambda: object(), every=2.0, clock=clock)
    first = shared.get()
    assert shared.get() is first
    assert shared.get() is not first
    assert shared.times == 2


def test_what_takes_long_is_made_more_rarely():
    clock = iter([0.0, 1.0, 19.0, 22.0, 22.0]).__next__
    shared = Shared(lambda: object(), every=2.0, share=0.05, clock=clock)
    first = shared.get()  # Took a second: a twentieth of the time is every 20 s.
    assert shared.get() is first
    assert shared.get() is not first


def test_a_failure_is_told_and_tried_again():
    answers = iter([UserError("gone"), "there"])

    def make():
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    shared = Shared(make, every=2.0)
    with pytest.raises(UserError, match="gone"):
        shared.get()
    assert shared.get() == "there"


def test_the_usual_port_gives_way_to_the_next_and_a_given_one_does_not():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with open_socket("127.0.0.1", None, port) as found:
            assert found.getsockname()[1] != port
            assert address_of(found) == f"http://127.0.0.1:{found.getsockname()[1]}/"
        with pytest.raises(UserError, match=f"port = {port}: must be free, it is taken"):
            open_socket("127.0.0.1", port, 1)


def test_mistakes_in_the_address_are_one_line():
    with pytest.raises(UserError, match="port = 70000: must be from 0"):
        open_socket("127.0.0.1", 70000, 1)
    with pytest.raises(UserError, match=r"host = '203\.0\.113\.1': must be an address of this machine"):
        open_socket("203.0.113.1", 0, 1)
    with pytest.raises(UserError, match=r"host = 'a\.\.b': must be an address of this machine"):
        open_socket("a..b", 0, 1)


def test_only_loopback_is_local():
    with open_socket("127.0.0.1", 0, 1) as one, open_socket("0.0.0.0", 0, 1) as every:
        assert (is_local(one), is_local(every)) == (True, False)
        assert address_of(every).startswith("http://localhost:")


def test_only_files_of_the_pages_are_given():
    assert web_file("base.css").kind == "text/css"
    assert len(web_file("plotly.min.js").body) > 1_000_000
    for name in ("../live.py", "page.html", "nothing.js", "", ".", "dashboard-base.html"):
        with pytest.raises(UserError, match="must be a script or a style of the pages"):
            web_file(name)


def test_a_file_that_changes_has_another_address():
    assert link("base.css").startswith("/static/base.css?")
    assert link("base.css") != link("charts.js")


def test_templates_escape_what_they_are_given():
    for path in WEB.glob("dashboard-*.html"):
        if path.stem != "dashboard-base":
            text = page(path.name, {"here": "runs", "root": "<script>alert(1)</script>&\"'"})
            assert "<script>alert" not in text
            assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in text


def test_pages_hold_no_script_or_style_of_their_own():
    for path in WEB.glob("dashboard-*.html"):
        text = path.read_text()
        assert " style=" not in text
        assert "onclick" not in text
        assert "<script>" not in text
    for path in WEB.glob("dashboard*.js"):
        text = path.read_text()
        for danger in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "http://",
            "https://",
        ):
            assert danger not in text, (path.name, danger)
