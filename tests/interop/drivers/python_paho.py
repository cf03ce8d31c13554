"""Drives paho-mqtt: 3.1, 3.1.1 and 5 over TCP and WebSocket."""
import asyncio

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from lines import Lines, Refused

LINES = Lines()
CLIENTS = {}
LEVELS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}
NAMES = {"content_type": "ContentType", "utf8": "PayloadFormatIndicator", "response_topic": "ResponseTopic",
         "correlation": "CorrelationData", "expiry_s": "MessageExpiryInterval", "will_delay_s": "WillDelayInterval"}


def outgoing(kind, properties):
    """Properties as the drivers name them, as paho wants them."""
    if not properties:
        return None
    result = Properties(kind)
    for name, value in properties.items():
        if name == "user":
            result.UserProperty = [tuple(pair) for pair in value]
        else:
            setattr(result, NAMES[name], int(value) if name == "utf8" else value)
    return result


def incoming(properties):
    """The opposite of `outgoing`."""
    result = {"user": []}
    if properties is not None:
        result["user"] = [list(pair) for pair in getattr(properties, "UserProperty", [])]
        for name, theirs in NAMES.items():
            if hasattr(properties, theirs):
                value = getattr(properties, theirs)
                result[name] = bool(value) if name == "utf8" else value
    return result


class Client:
    """One paho client; its network thread reports to the event loop."""

    def __init__(self, name, version, transport, client_id, clean, reconnect):
        self.name, self.version = name, version
        self.loop = asyncio.get_running_loop()
        self.waiting = {}
        self.early = {}
        keep = {} if version == "5" else {"clean_session": clean}
        self.mqtt = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=LEVELS[version],
                                transport=transport, reconnect_on_failure=reconnect, **keep)
        self.mqtt.on_connect = self.on_connect
        self.mqtt.on_disconnect = lambda c, u, flags, code, p: LINES.event(name, "disconnected", code=code.value)
        self.mqtt.on_message = self.on_message
        self.mqtt.on_subscribe = lambda c, u, mid, codes, p: self.settle("subscribe", mid, [x.value for x in codes])
        self.mqtt.on_unsubscribe = lambda c, u, mid, codes, p: self.settle("unsubscribe", mid, None)
        self.mqtt.on_publish = lambda c, u, mid, code, p: self.settle("publish", mid, code.value)

    def on_connect(self, _client, _user, flags, code, _properties):
        if not code.is_failure:
            LINES.event(self.name, "joined", session_present=flags.session_present)
        self.settle("connect", 0, (code.value, str(code), flags.session_present))

    def on_message(self, _client, _user, message):
        LINES.event(self.name, "message", topic=message.topic, payload=message.payload, qos=message.qos,
                    retain=message.retain, dup=message.dup, properties=incoming(getattr(message, "properties", None)))

    def settle(self, kind, mid, value):
        """Called on the network thread: hands `value` to whoever waits for this packet id, now or a little later."""
        self.loop.call_soon_threadsafe(self._settle, kind, mid, value)

    def _settle(self, kind, mid, value):
        future = self.waiting.pop((kind, mid), None)
        if future is None:
            self.early[(kind, mid)] = value
        elif not future.done():
            future.set_result(value)

    async def settled(self, kind, mid):
        """What the acknowledgement of packet `mid` said."""
        if (kind, mid) in self.early:
            return self.early.pop((kind, mid))
        self.waiting[(kind, mid)] = future = self.loop.create_future()
        return await future


async def connect(client, url, version, client_id="", clean=True, session_expiry_s=None, will=None, reconnect=False,
                  username=None, keep_alive_s=60):
    scheme, rest = url.split("://")
    address, _, path = rest.partition("/")
    host, port = address.split(":")
    peer = Client(client, version, "websockets" if scheme == "ws" else "tcp", client_id, clean, reconnect)
    CLIENTS[client] = peer
    if scheme == "ws":
        peer.mqtt.ws_set_options(path=f"/{path}")
    if username is not None:
        peer.mqtt.username_pw_set(username)
    if will:
        properties = outgoing(PacketTypes.WILLMESSAGE, will.get("properties")) if version == "5" else None
        peer.mqtt.will_set(will["topic"], will["payload"], will.get("qos", 0), will.get("retain", False), properties)
    options = {}
    if version == "5":
        options["clean_start"] = clean
        if session_expiry_s is not None:
            options["properties"] = Properties(PacketTypes.CONNECT)
            options["properties"].SessionExpiryInterval = session_expiry_s
    peer.mqtt.reconnect_delay_set(1, 1)
    await asyncio.to_thread(peer.mqtt.connect, host, int(port), keep_alive_s, **options)
    peer.mqtt.loop_start()
    code, text, session_present = await peer.settled("connect", 0)
    if code:
        raise Refused(f"no session: {text}", code=code)
    return {"session_present": session_present}


async def subscribe(client, filter, qos=0, no_local=False, retain_as_published=False, retain_handling=0):
    peer = CLIENTS[client]
    if peer.version == "5":
        options = mqtt.SubscribeOptions(qos, no_local, retain_as_published, retain_handling)
        status, mid = peer.mqtt.subscribe(filter, options=options)
    else:
        status, mid = peer.mqtt.subscribe(filter, qos)
    if status != mqtt.MQTT_ERR_SUCCESS:
        raise Refused(mqtt.error_string(status))
    granted = await peer.settled("subscribe", mid)
    if any(code >= 0x80 for code in granted):
        raise Refused(f"SUBACK {granted}", code=granted[0])
    return {"granted": granted}


async def unsubscribe(client, filter):
    peer = CLIENTS[client]
    _, mid = peer.mqtt.unsubscribe(filter)
    await peer.settled("unsubscribe", mid)


async def publish(client, topic, payload, qos=0, retain=False, properties=None):
    peer = CLIENTS[client]
    info = peer.mqtt.publish(topic, payload, qos, retain, outgoing(PacketTypes.PUBLISH, properties))
    if info.rc != mqtt.MQTT_ERR_SUCCESS:
        raise Refused(mqtt.error_string(info.rc))
    code = await peer.settled("publish", info.mid)
    if code >= 0x80:
        raise Refused(f"reason {code:#x}", code=code)
    return {"code": code}


async def close(client):
    peer = CLIENTS.pop(client)
    peer.mqtt.disconnect()
    await asyncio.to_thread(peer.mqtt.loop_stop)


OPERATIONS = {"connect": connect, "subscribe": subscribe, "unsubscribe": unsubscribe, "publish": publish,
              "close": close}

if __name__ == "__main__":
    asyncio.run(LINES.serve(OPERATIONS))
