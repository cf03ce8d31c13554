"""swampyer: each request has 53 random bits for an id. Prints what the calls returned and the events brought."""
import sys

from swampyer import WAMPClient


def client():
    """A session."""
    peer = WAMPClient(url=sys.argv[1], realm="realm1", uri_base="numbering")
    peer.start()
    return peer


peer, other = client(), client()
peer.register("swampyer", lambda _, text: text.upper())
peer.register("swampyer.again", lambda _, text: text.upper())
peer.subscribe("swampyer", lambda _, text: print("event", text, flush=True))
for procedure, text in (("swampyer", "one"), ("swampyer.again", "two")):
    print("result", other.call(procedure, text), flush=True)
for text in ("three", "four"):
    other.publish("swampyer", args=[text])
sys.stdin.read()
