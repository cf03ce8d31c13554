"""Drives mosquitto_pub, mosquitto_sub and mosquitto_rr: 3.1, 3.1.1 and 5 over TCP, one process for each thing done.

A subscription is a running mosquitto_sub; a publication is one mosquitto_pub; a request with its answer is one
mosquitto_rr. The will of a client and its session are those of its mosquitto_sub.
"""
import asyncio
import signal

from lines import Lines, Refused

LINES = Lines()
CLIENTS = {}
VERSIONS = {"3.1": "mqttv31", "3.1.1": "mqttv311", "5": "mqttv5"}
MARK = "\x1e"  # begins a message among the debugging output
FIELD = "\x1f"
PLAIN = ["%t", "%q", "%r", "%x"]
WITH_PROPERTIES = PLAIN + ["%C", "%F", "%R", "%D", "%E", "%P"]
PROPERTIES = {"content_type": "content-type", "utf8": "payload-format-indicator", "response_topic": "response-topic",
              "correlation": "correlation-data", "expiry_s": "message-expiry-interval"}


def message_format(version):
    """The argument of -F: every field of a message, its payload in hexadecimal."""
    return MARK + FIELD.join(WITH_PROPERTIES if version == "5" else PLAIN)


def message(text):
    """The fields of a message that was printed so."""
    fields = text.split(FIELD) + [""] * 6
    topic, qos, retain, payload, content_type, utf8, response_topic, correlation, expiry, user = fields[:10]
    properties = {"user": [pair.split(":", 1) for pair in user.split(" ") if ":" in pair]}
    if content_type:
        properties["content_type"] = content_type
    if utf8:
        properties["utf8"] = utf8 == "1"
    if response_topic:
        properties["response_topic"] = response_topic
    if correlation:
        properties["correlation"] = correlation.encode()
    if expiry:
        properties["expiry_s"] = int(expiry)
    return {"topic": topic, "qos": int(qos), "retain": retain == "1", "payload": bytes.fromhex(payload),
            "dup": False, "properties": properties}


def property_arguments(packet, properties):
    """Options -D for these properties."""
    arguments = []
    for name, value in (properties or {}).items():
        if name == "user":
            for key, text in value:
                arguments += ["-D", packet, "user-property", key, text]
        else:
            text = value.decode() if isinstance(value, bytes) else str(int(value) if name == "utf8" else value)
            arguments += ["-D", packet, PROPERTIES[name], text]
    return arguments


class Client:
    """The settings that the processes of one client share, and its running subscriptions."""

    def __init__(self, name, url, version, options):
        self.name, self.version, self.options = name, version, options
        self.host, self.port = url.removeprefix("mqtt://").split(":")
        self.subscriptions = {}

    def arguments(self):
        """Where to connect, and how."""
        return ["-h", self.host, "-p", self.port, "-V", VERSIONS[self.version]]

    def session_arguments(self):
        """Session and will, for the process that subscribes."""
        arguments, options = [], self.options
        if options.get("client_id"):
            arguments += ["-i", options["client_id"]]
        if not options.get("clean", True):
            arguments += ["-c"]
        if self.version == "5" and options.get("session_expiry_s") is not None:
            arguments += ["-x", str(options["session_expiry_s"])]
        if will := options.get("will"):
            arguments += ["--will-topic", will["topic"], "--will-payload", will["payload"].decode(),
                          "--will-qos", str(will.get("qos", 0))] + (["--will-retain"] if will.get("retain") else [])
            if self.version == "5":
                arguments += property_arguments("will", will.get("properties"))
        return arguments


async def connect(client, url, version, **options):
    """Only notes the settings: every process connects for itself."""
    CLIENTS[client] = Client(client, url, version, options)
    return {"session_present": None}


async def subscribe(client, filter, qos=0):
    peer = CLIENTS[client]
    process = await asyncio.create_subprocess_exec(
        "stdbuf", "-oL", "mosquitto_sub", *peer.arguments(), *peer.session_arguments(), "-t", filter, "-q", str(qos),
        "-d", "-F", message_format(peer.version), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        limit=1 << 26)
    peer.subscriptions[filter] = process
    granted = asyncio.get_running_loop().create_future()
    process.reader = asyncio.create_task(read(peer, process, granted))
    return {"granted": [await granted]}


async def read(peer, process, granted):
    """Turns the output of one mosquitto_sub into events."""
    said = []
    while line := (await process.stdout.readline()).decode(errors="replace").rstrip("\n"):
        if line.startswith(MARK):
            LINES.event(peer.name, "message", **message(line[1:]))
        elif line.startswith("Subscribed (mid:"):
            code = int(line.rsplit(":", 1)[1].split(",")[0])
            if not granted.done():
                if code < 0x80:
                    granted.set_result(code)
                else:
                    granted.set_exception(Refused(f"SUBACK {code:#x}", code=code))
        else:
            said.append(line)
    await process.wait()
    if not granted.done():
        granted.set_exception(Refused("mosquitto_sub ended: " + " | ".join(said[-4:])))
    LINES.event(peer.name, "disconnected", code=process.returncode)


async def unsubscribe(client, filter):
    process = CLIENTS[client].subscriptions.pop(filter)
    await end(process, signal.SIGTERM)


async def run(*arguments, payload=None):
    """Runs one program to its end with the payload on its standard input; its output."""
    process = await asyncio.create_subprocess_exec(
        *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    output, _ = await process.communicate(payload)
    return process.returncode, output.decode(errors="replace")


async def publish(client, topic, payload, qos=0, retain=False, properties=None):
    peer = CLIENTS[client]
    code, output = await run("mosquitto_pub", *peer.arguments(), "-t", topic, "-q", str(qos),
                             *(["-r"] if retain else []), *property_arguments("publish", properties),
                             "-s" if payload else "-n", payload=payload)
    if code or output:
        raise Refused(f"mosquitto_pub: {code} {output}")
    return {"code": 0}


async def request(client, topic, payload, response_topic, qos=1, properties=None):
    """One mosquitto_rr: publishes to `topic` and returns the first message on `response_topic`."""
    peer = CLIENTS[client]
    code, output = await run("mosquitto_rr", *peer.arguments(), "-t", topic, "-e", response_topic, "-q", str(qos),
                             "-W", "10", "-F", message_format(peer.version),
                             *property_arguments("publish", properties), "-m", payload.decode())
    for line in output.split("\n"):
        if line.startswith(MARK):
            return message(line[1:])
    raise Refused(f"mosquitto_rr: {code} {output}")


async def end(process, how):
    """Stops the mosquitto_sub behind `stdbuf` (which replaced itself with it)."""
    if process.returncode is None:
        process.send_signal(how)
    await process.wait()


async def drop(client):
    """The client vanishes without a word."""
    for process in CLIENTS[client].subscriptions.values():
        await end(process, signal.SIGKILL)
    CLIENTS[client].subscriptions.clear()


async def close(client):
    for process in CLIENTS.pop(client).subscriptions.values():
        await end(process, signal.SIGTERM)


OPERATIONS = {"connect": connect, "subscribe": subscribe, "unsubscribe": unsubscribe, "publish": publish,
              "request": request, "drop": drop, "close": close}

if __name__ == "__main__":
    asyncio.run(LINES.serve(OPERATIONS))
