"""wampy for Python: each request has 32 random bits for an id. Prints what the calls returned and the events brought."""
import sys

from wampy.backends import async_adapter
from wampy.peers import Client
from wampy.roles.callee import callee
from wampy.roles.subscriber import subscribe


class Peer(Client):
    """Serves a procedure and hears a topic, as the library wants it said."""

    @callee
    def numbering_wampy(self, text):
        """The procedure; its name is that of the function."""
        return text.upper()

    @subscribe(topic="numbering.wampy")
    def heard(self, message, **_):
        """An event."""
        print("event", message, flush=True)


with Peer(url=sys.argv[1]) as peer, Client(url=sys.argv[1]) as other:
    for text in ("one", "two"):
        print("result", other.rpc.numbering_wampy(text), flush=True)
    for text in ("three", "four"):
        other.publish(topic="numbering.wampy", message=text)
    async_adapter.sleep(60)  # the library hears nothing while its program waits in any other way
