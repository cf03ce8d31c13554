//! WebSocket subprotocol names of WAMP (WAMP: Basic, WebSocket Transport; Advanced, Batched WebSocket).
use crate::model::Encoding;

/// The subprotocol of a WebSocket connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Subprotocol {
    /// The encoding of the messages.
    pub encoding: Encoding,
    /// Several messages to a frame.
    pub batched: bool,
}

/// Every name, the preferred ones first.
const NAMES: [(&str, Encoding, bool); 6] = [
    ("wamp.2.cbor", Encoding::Cbor, false),
    ("wamp.2.msgpack", Encoding::MsgPack, false),
    ("wamp.2.json", Encoding::Json, false),
    ("wamp.2.cbor.batched", Encoding::Cbor, true),
    ("wamp.2.msgpack.batched", Encoding::MsgPack, true),
    ("wamp.2.json.batched", Encoding::Json, true),
];

impl Subprotocol {
    /// The subprotocol of this name in `Sec-WebSocket-Protocol`.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(known, ..)| *known == name)
            .map(|(_, encoding, batched)| Subprotocol { encoding: *encoding, batched: *batched })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match (self.encoding, self.batched) {
            (Encoding::Json, false) => "wamp.2.json",
            (Encoding::Json, true) => "wamp.2.json.batched",
            (Encoding::MsgPack, false) => "wamp.2.msgpack",
            (Encoding::MsgPack, true) => "wamp.2.msgpack.batched",
            (Encoding::Cbor, false) => "wamp.2.cbor",
            (Encoding::Cbor, true) => "wamp.2.cbor.batched",
        }
    }

    /// True if frames are text, false if they are binary. Frames of the other kind are a fault.
    pub fn is_text(self) -> bool {
        self.encoding == Encoding::Json
    }
}
