"""Plays scenario.json with stomp.py.

python client.py <world>, where <world> is JSON: {"nodes": [ws url, ...], "tokens": {name: token},
"words": {name: text}}. Exits 0 only if all of it came about.
"""

import json
import pathlib
import queue
import re
import sys
import threading
from urllib.parse import urlsplit

import stomp

WAIT_SECONDS = 20
WORLD = json.loads(sys.argv[1])
SCENARIOS = json.loads(pathlib.Path(__file__).with_name("scenario.json").read_text())
KEPT = {}
# By user and queue: what is known to have been taken may come again, under the same id.
HAD = {}


def fill(value):
    """Replaces $name and $name.field by what they stand for."""
    if isinstance(value, list):
        return [fill(each) for each in value]
    if isinstance(value, dict):
        return {key: fill(each) for key, each in value.items()}
    if not isinstance(value, str):
        return value

    def word(match):
        name, field = match.groups()
        return str(KEPT[name][field] if field else WORLD["words"].get(name, match.group()))

    return re.sub(r"\$(\w+)(?:\.(\w+))?", word, value)


class User(stomp.ConnectionListener):
    """One connection of a user."""

    def __init__(self, name):
        self.name = name
        self.inboxes = {}
        self.last = {}
        self.modes = {}
        self.errors = []
        self.is_connected = threading.Event()
        self.receipts = {}

    def connect(self, node):
        url = urlsplit(WORLD["nodes"][node])
        self.connection = stomp.WSStompConnection(
            [(url.hostname, url.port)],
            ws_path=f"{url.path}?protocol=stomp",
            heartbeats=(10_000, 10_000),
            reconnect_attempts_max=1,
            vhost="tidegate",
        )
        self.connection.set_listener("", self)
        token = WORLD["tokens"][self.name]
        self.connection.connect(passcode=token, username=self.name, wait=True, headers={"device": "stomp.py"})
        assert self.is_connected.wait(WAIT_SECONDS), f"{self.name} is not connected: {self.errors}"

    def on_connected(self, frame):
        assert frame.headers["version"] == "1.2", frame.headers
        self.is_connected.set()

    def on_error(self, frame):
        self.errors.append((frame.headers, frame.body))

    def on_receipt(self, frame):
        self.receipts.setdefault(frame.headers["receipt-id"], threading.Event()).set()

    def on_message(self, frame):
        self.inboxes[frame.headers["subscription"]].put(frame)

    def receipt(self, name):
        taken = self.receipts.setdefault(name, threading.Event())
        assert taken.wait(WAIT_SECONDS), f"no receipt {name} for {self.name}: {self.errors}"

    def subscribe(self, id, to, ack="auto"):
        self.inboxes[id] = queue.Queue()
        self.modes[id] = (ack, HAD.setdefault((self.name, to), set()))
        self.connection.subscribe(to, id, ack=ack, headers={"receipt": f"subscribe-{id}"})
        self.receipt(f"subscribe-{id}")
        self.receipts.pop(f"subscribe-{id}")

    def send(self, to, body, receipt=None, headers=None, transaction=None):
        headers = dict(headers or {})
        if receipt:
            headers["receipt"] = receipt
        if transaction:
            headers["transaction"] = transaction
        self.connection.send(to, json.dumps(body), content_type="application/json", headers=headers)
        if receipt:
            self.receipt(receipt)

    def expect(self, on, body, type=None, keep=None):
        """The next message of a subscription that is of this type; others are passed over."""
        while True:
            try:
                frame = self.inboxes[on].get(timeout=WAIT_SECONDS)
            except queue.Empty:
                raise AssertionError(f"{self.name} waited too long for {body} on {on}: {self.errors}") from None
            found = json.loads(frame.body)
            if frame.headers.get("type") != type if type else found.get("senderType") == "SYSTEM":
                continue
            ack, had = self.modes[on]
            if frame.headers["message-id"] in had:
                continue
            wrong = {key: found.get(key) for key, value in body.items() if found.get(key) != value}
            assert not wrong, f"{self.name} expects {body} on {on}, got {frame.body}"
            self.last[on] = frame
            if ack == "auto":
                had.add(frame.headers["message-id"])
            if keep:
                KEPT[keep] = found
            return

    def ack(self, on):
        self.connection.ack(self.last[on].headers["ack"])
        self.modes[on][1].add(self.last[on].headers["message-id"])

    def nack(self, on):
        self.connection.nack(self.last[on].headers["ack"])

    def begin(self, id):
        self.connection.begin(id)

    def commit(self, id):
        self.connection.commit(id)

    def abort(self, id):
        self.connection.abort(id)

    def disconnect(self):
        self.connection.disconnect(receipt="bye")
        self.receipt("bye")


for scenario in SCENARIOS:
    users = {}
    KEPT.clear()
    for step in scenario["steps"]:
        step = dict(step)
        what, who = step.pop("do"), step.pop("who")
        if what == "connect":
            users[who] = User(who)
            users[who].connect(step["node"])
        else:
            getattr(users[who], what)(**fill(step))
    print(f"ok: {scenario['name']}")
