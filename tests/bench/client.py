"""Just enough of an MQTT 3.1.1 client to see a router start and to leave sessions behind."""
import socket


def packet(first_byte, body):
    assert len(body) < 128, "one byte of length is all that is needed here"
    return bytes([first_byte, len(body)]) + body


def text(value):
    return len(value).to_bytes(2, "big") + value.encode()


class Client:
    """A connection; every step waits for its answer."""

    def __init__(self, port, client_id, clean=True):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        flags = 2 if clean else 0
        self.ask(packet(0x10, text("MQTT") + bytes([4, flags, 0, 60]) + text(client_id)), 0x20)

    def ask(self, request, answer):
        self.socket.sendall(request)
        self.expect(answer)

    def expect(self, first_byte):
        head = self.read(2)
        assert head[0] == first_byte, f"packet {head[0]:#x} instead of {first_byte:#x}"
        return self.read(head[1])

    def read(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise ConnectionError("the router has closed the connection")
            data += more
        return data

    def subscribe(self, topic, qos=0):
        self.ask(packet(0x82, b"\0\1" + text(topic) + bytes([qos])), 0x90)

    def publish(self, topic, payload):
        self.socket.sendall(packet(0x30, text(topic) + payload))

    def close(self):
        self.socket.sendall(packet(0xE0, b""))
        self.socket.close()


def returns_a_message(port):
    """Whether a message comes back from the router at this port, which may still be starting."""
    try:
        client = Client(port, "first")
        client.subscribe("bench/first")
        client.publish("bench/first", b"hello")
        client.expect(0x30)
        client.close()
        return True
    except OSError:
        return False
