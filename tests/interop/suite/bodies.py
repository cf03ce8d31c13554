"""What a message carries, as either protocol shows it, and what one becomes for the other (MAPPING.md, Payloads)."""
import base64
import dataclasses
import json


@dataclasses.dataclass
class Wamp:
    """Arguments of a WAMP message."""

    args: list = dataclasses.field(default_factory=list)
    kwargs: dict = dataclasses.field(default_factory=dict)

    def __eq__(self, other):
        return isinstance(other, Wamp) and same(self.args, other.args) and same(self.kwargs, other.kwargs)


@dataclasses.dataclass
class Mqtt:
    """Application message of MQTT; `content_type` and `utf8` in MQTT 5 alone."""

    payload: bytes = b""
    content_type: str | None = None
    utf8: bool | None = None


def plain(value):
    """Byte strings in one form: a JSON client sees them as text that begins with NUL (WAMP: Basic, Binary Data)."""
    if isinstance(value, str) and value.startswith("\0"):
        return base64.b64decode(value[1:])
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def same(one, other):
    """Equality that tells true from 1 but not 1 from 1.0 (JSON does not either)."""
    one, other = plain(one), plain(other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def json_bytes(value):
    """Compact JSON text."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def is_json(text):
    """True for text that is one JSON value: no number that only Python knows, no depth without a bound."""
    def no_number(name):
        raise ValueError(name)

    try:
        json.loads(text.removeprefix("\ufeff"), parse_constant=no_number)
    except (ValueError, RecursionError):
        return False
    return True


def text_bytes(text):
    """A text as MQTT carries it: bare where it comes back as that text, else as a JSON string."""
    is_bare = text and not text.startswith("\0") and not is_json(text)
    return text.encode() if is_bare else json_bytes(text)


def to_mqtt(body):
    """MAPPING.md, Payloads, rows 1 to 4."""
    args, kwargs = plain(body.args), plain(body.kwargs)
    if args and kwargs:
        return Mqtt(json_bytes({"args": args, "kwargs": kwargs}))
    if kwargs:
        return Mqtt(json_bytes(kwargs))
    if len(args) == 1:
        kinds = {bytes: bytes, str: text_bytes}
        return Mqtt(kinds.get(type(args[0]), json_bytes)(args[0]))
    return Mqtt(json_bytes(args)) if args else Mqtt(b"")


def to_wamp(message):
    """MAPPING.md, Payloads, rows 5 and 7 to 9."""
    if not message.payload:
        return Wamp()
    try:
        text = message.payload.decode()
    except UnicodeDecodeError:
        return Wamp([message.payload])
    if not is_json(text):
        return Wamp([message.payload if text.startswith("\0") else text])
    value = json.loads(text.removeprefix("\ufeff"))
    if isinstance(value, dict) and value.keys() == {"args", "kwargs"}:
        return Wamp(value["args"], value["kwargs"])
    return Wamp([value])


def spelled(body):
    """How an MQTT client writes these arguments when it means exactly them."""
    if len(body.args) == 1 and not body.kwargs:
        return to_mqtt(body)
    return Mqtt(json_bytes({"args": body.args, "kwargs": body.kwargs}))


def difference(expected, received, unaltered=False):
    """What is wrong with `received`, or None. JSON text is compared as values, anything else, and `unaltered`, as bytes."""
    if isinstance(expected, Wamp):
        return None if expected == received else f"expected {expected}, came {received}"
    if expected.payload != received.payload:
        if unaltered:
            return f"expected {expected.payload!r}, came {received.payload!r}"
        try:
            one, other = json.loads(expected.payload.decode()), json.loads(received.payload.decode())
        except (UnicodeDecodeError, json.JSONDecodeError):
            return f"expected {expected.payload!r}, came {received.payload!r}"
        if not same(one, other):
            return f"expected {expected.payload!r}, came {received.payload!r}"
    for name in ("content_type", "utf8"):
        wanted, got = getattr(expected, name), getattr(received, name)
        if wanted is not None and wanted != got:
            return f"expected {name} {wanted!r}, came {got!r}"
    return None
