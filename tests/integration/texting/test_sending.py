"""Messages: to each contact one, whoever asks twice and whatever dies when."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import httpx
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker
from tests import plain_http
from tests.integration.texting.making import BOTH, make_campaign, start

from spoke_jobs.runners.memory_runner import MemoryRunner
from texting.actions import start_sending, upload_contacts
from texting.carrier_client import Carrier, carrier
from texting.models import Assigning, Assignment, Campaign, Contact, Message, MessageState, OptOut
from texting.script import filled
from texting.sending import NotATexterError, deliver, write_messages


@pytest.fixture
def campaign(sessions: sessionmaker[Session], runner: MemoryRunner) -> Campaign:
    """A started campaign with ten contacts."""
    campaign = make_campaign(sessions, script="Hi {firstName} {lastName} of {Town}{nothing}!")
    rows = "".join(f"Ann{n},Lee,212555{n:04},Springfield\n" for n in range(10))
    with sessions.begin() as session:
        upload_contacts(session, campaign, f"first,last,cell,Town\n{rows}".encode())
    runner.drain()
    start(sessions, campaign)
    return campaign


def states(sessions: sessionmaker[Session]) -> dict[str, int]:
    with sessions() as session:
        counted = session.execute(select(Message.state, func.count()).group_by(Message.state)).all()
    return dict(counted)


def write_one(sessions: sessionmaker[Session], campaign: Campaign) -> int:
    with sessions.begin() as session:
        (message,) = write_messages(session, campaign.id, "Tess", 1)
    return message.id


def delivered(url: str) -> dict[str, int]:
    answer: dict[str, int] = plain_http.get(f"{url}/stats").json()
    return answer


def test_every_contact_gets_the_script_filled_in_once(
    sessions: sessionmaker[Session], runner: MemoryRunner, campaign: Campaign, carrier_url: str
) -> None:
    for asked, written in ((7, 7), (7, 3), (7, 0)):
        with sessions.begin() as session:
            assert start_sending(session, campaign, "Tess", asked) == written
    runner.drain()

    assert states(sessions) == {"sent": 10}
    assert delivered(carrier_url) == {"delivered": 10, "numbers": 10, "repeated": 0}
    with sessions() as session:
        message = session.scalars(select(Message).order_by(Message.id)).first()
    assert message is not None
    assert message.text == "Hi Ann0 Lee of Springfield!"
    assert message.sent_at is not None
    assert message.sent_at.tzinfo is not None


def assign(
    sessions: sessionmaker[Session], campaign: Campaign, mode: Assigning, texters: dict[str, tuple[int, int | None]]
) -> None:
    """Give each texter their first so many contacts, and a maximum."""
    with sessions.begin() as session:
        session.get_one(Campaign, campaign.id).assigning = mode
        contacts = iter(session.scalars(select(Contact).order_by(Contact.id)).all())
        for texter, (count, maximum) in texters.items():
            assignment = Assignment(campaign_id=campaign.id, texter=texter, max_contacts=maximum)
            session.add(assignment)
            session.flush()
            for _ in range(count):
                next(contacts).assignment_id = assignment.id


def write(sessions: sessionmaker[Session], campaign: Campaign, texter: str, limit: int) -> list[int]:
    """Write for a texter; the contacts' numbers in the campaign, from 0."""
    with sessions.begin() as session:
        keys = session.scalars(select(Contact.id).order_by(Contact.id)).all()
        return [keys.index(each.contact_id) for each in write_messages(session, campaign.id, texter, limit)]


def test_with_a_fixed_assignment_each_writes_to_their_own(sessions: sessionmaker[Session], campaign: Campaign) -> None:
    assign(sessions, campaign, Assigning.FIXED, {"Tess": (3, None), "Bo": (2, None)})
    assert write(sessions, campaign, "Bo", 100) == [3, 4]
    assert write(sessions, campaign, "Tess", 2) == [0, 1]
    assert write(sessions, campaign, "Tess", 2) == [2]
    assert write(sessions, campaign, "Tess", 2) == []


def test_with_a_dynamic_assignment_each_takes_contacts_up_to_their_maximum(
    sessions: sessionmaker[Session], campaign: Campaign
) -> None:
    assign(sessions, campaign, Assigning.DYNAMIC, {"Tess": (1, 4), "Bo": (1, None), "Cy": (1, 0)})
    assert write(sessions, campaign, "Tess", 3) == [0, 3, 4]
    assert write(sessions, campaign, "Tess", 3) == [5]
    assert write(sessions, campaign, "Tess", 3) == []
    assert write(sessions, campaign, "Cy", 3) == [2]
    assert write(sessions, campaign, "Bo", 100) == [1, 6, 7, 8, 9]


@pytest.mark.parametrize("mode", [Assigning.FIXED, Assigning.DYNAMIC])
def test_once_contacts_are_assigned_who_has_no_part_in_it_writes_to_nobody(
    sessions: sessionmaker[Session], campaign: Campaign, mode: Assigning
) -> None:
    assign(sessions, campaign, mode, {"Tess": (1, None)})
    with pytest.raises(NotATexterError, match=f"'Bo' is no texter of campaign {campaign.id}"):
        write(sessions, campaign, "Bo", 1)


@BOTH
def test_two_requests_at_once_write_to_nobody_twice(sessions: sessionmaker[Session], campaign: Campaign) -> None:
    ready = threading.Barrier(4)

    def ask() -> None:
        ready.wait()
        with sessions.begin() as session:
            write_messages(session, campaign.id, "Tess", 6)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with sessions() as session:
        assert session.scalar(select(func.count()).select_from(Message)) == 10
        assert session.scalar(select(func.count(Message.contact_id.distinct()))) == 10


def test_a_process_that_dies_after_the_carrier_took_the_message_makes_no_second_one(
    sessions: sessionmaker[Session], campaign: Campaign, carrier_url: str
) -> None:
    class Dies:
        def send(self, **message: str) -> None:
            carrier().send(**message)
            raise KeyboardInterrupt

    message_id = write_one(sessions, campaign)
    with pytest.raises(KeyboardInterrupt):
        deliver(message_id, sessions, Dies())
    assert states(sessions) == {"queued": 1}

    for _ in range(2):
        deliver(message_id, sessions, carrier())
    assert states(sessions) == {"sent": 1}
    assert delivered(carrier_url) == {"delivered": 1, "numbers": 1, "repeated": 1}


def test_who_opts_out_after_the_message_was_written_is_not_texted(
    sessions: sessionmaker[Session], campaign: Campaign, carrier_url: str
) -> None:
    message_id = write_one(sessions, campaign)
    with sessions.begin() as session:
        session.add(OptOut(organization_id=campaign.organization_id, cell="+12125550000"))
    deliver(message_id, sessions, carrier())
    assert states(sessions) == {"held": 1}
    assert delivered(carrier_url)["delivered"] == 0


def test_a_message_that_the_carrier_refuses_says_why_and_is_not_tried_again(
    sessions: sessionmaker[Session], campaign: Campaign, carrier_url: str
) -> None:
    message_id = write_one(sessions, campaign)
    with sessions.begin() as session:
        session.get_one(Message, message_id).text = "x" * 1601
    for _ in range(2):
        deliver(message_id, sessions, carrier())
    with sessions() as session:
        message = session.get_one(Message, message_id)
    assert message.state == MessageState.REFUSED
    assert "1600" in message.error
    assert delivered(carrier_url)["delivered"] == 0


def test_a_carrier_that_cannot_be_reached_leaves_the_message_queued(
    sessions: sessionmaker[Session], campaign: Campaign
) -> None:
    message_id = write_one(sessions, campaign)
    nobody = Carrier("http://127.0.0.1:9", timeout_seconds=1)
    with pytest.raises(httpx.ConnectError):
        deliver(message_id, sessions, nobody)
    nobody.close()
    assert states(sessions) == {"queued": 1}


def test_no_transaction_is_open_while_the_carrier_is_asked(sessions: sessionmaker[Session], campaign: Campaign) -> None:
    class Asks:
        def send(self, **_: str) -> None:
            assert sessions.kw["bind"].pool.checkedout() == 0

    deliver(write_one(sessions, campaign), sessions, Asks())
    assert states(sessions) == {"sent": 1}


def test_a_message_that_is_not_there_is_an_error(sessions: sessionmaker[Session]) -> None:
    with pytest.raises(LookupError, match="no message 12345"):
        deliver(12345, sessions, carrier())


@pytest.mark.parametrize("answer", [429, 503])
def test_an_answer_that_may_change_is_raised_to_be_tried_again(serve: Callable[[Any], str], answer: int) -> None:
    async def busy(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": answer, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    client = Carrier(serve(_http_only(busy)), timeout_seconds=5)
    with pytest.raises(httpx.HTTPStatusError):
        client.send(key="k", to="+12125550100", text="hi")
    client.close()


class _ClosesIdleConnections(BaseHTTPRequestHandler):
    """A carrier that closes each connection as its second request comes, as servers do that found it idle."""

    protocol_version = "HTTP/1.1"
    accepted: ClassVar[list[str | None]] = []

    def setup(self) -> None:
        super().setup()
        self.requests = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.requests += 1
        self.close_connection = self.requests > 1
        if not self.close_connection:
            self.accepted.append(self.headers["Idempotency-Key"])
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_message_is_sent_although_the_carrier_closes_an_idle_connection() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _ClosesIdleConnections) as server:
        threading.Thread(target=server.serve_forever).start()
        client = Carrier(f"http://127.0.0.1:{server.server_port}", timeout_seconds=5)
        for key in "abc":
            client.send(key=key, to="+12125550100", text="hi")
        client.close()
        server.shutdown()
    assert _ClosesIdleConnections.accepted == ["a", "b", "c"]


def _http_only(app: Any) -> Any:
    async def call(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for done in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{done}.complete"})
        else:
            await app(scope, receive, send)

    return call


def test_braces_in_a_contacts_own_words_are_left_alone() -> None:
    contact = Contact(first_name="{lastName}", last_name="Lee", custom_fields={})
    assert filled("Hi {firstName}", contact) == "Hi {lastName}"
