//! One connection to the router: reads it in big pieces, and builds the messages that are sent on it.
use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use bytes::BytesMut;
use corsac::model::{Encoding, InvocationId, Payload, RequestId};
use corsac::wire::mqtt::{Packet, Publish, PublishProperties, Qos, Version};
use corsac::wire::wamp::options::{CloseDetails, PublishOptions, YieldOptions};
use corsac::wire::wamp::rawsocket::MAX_MESSAGE_BYTES;
use corsac::wire::wamp::{Message, encode};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{TcpSocket, TcpStream};

use super::inlet::{Inlet, Item, Layout};
use super::stamp;
use super::target::{Protocol, Target};
use super::template::{Framing, SENTINEL, Template};

/// The buffer that the connections of one thread read into, one at a time.
pub(super) type Scratch = Rc<RefCell<Vec<u8>>>;
/// Its size in bytes.
pub(super) const SCRATCH_BYTES: usize = 256 * 1024;

/// An open connection.
pub(super) struct Link {
    stream: TcpStream,
    inlet: Inlet,
    /// The beginning of a frame that is not whole.
    carry: Vec<u8>,
    framing: Framing,
    protocol: Protocol,
    /// The id of the last request before anything is published or called.
    last_request: u64,
    /// QoS 1 and 2 publications that the router takes at once.
    pub receive_maximum: u16,
}

impl Link {
    /// Connects from the address `from`, or any.
    pub(super) async fn connect(target: &Target, from: Option<IpAddr>) -> Result<Link, String> {
        let stream = connect(target.address, from)
            .await
            .map_err(|error| format!("cannot connect to {}: {error}{}", target.authority, advice(&error)))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let (layout, framing) = match &target.protocol {
            Protocol::Mqtt(version) => (Layout::Mqtt { v5: *version == Version::V5 }, Framing::None),
            Protocol::WebSocket(Encoding::Json, _) => (Layout::WebSocket(Encoding::Json), Framing::WebSocket(0x81)),
            Protocol::WebSocket(encoding, _) => (Layout::WebSocket(*encoding), Framing::WebSocket(0x82)),
            Protocol::RawSocket(encoding) => (Layout::RawSocket(*encoding), Framing::RawSocket),
        };
        let protocol = target.protocol.clone();
        let inlet = Inlet::new(layout);
        Ok(Link { stream, inlet, carry: Vec::new(), framing, protocol, last_request: 0, receive_maximum: u16::MAX })
    }

    /// The protocol of this connection.
    pub(super) fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// The encoding of WAMP messages; `None` for MQTT.
    pub(super) fn encoding(&self) -> Option<Encoding> {
        match self.protocol {
            Protocol::Mqtt(_) => None,
            Protocol::WebSocket(encoding, _) | Protocol::RawSocket(encoding) => Some(encoding),
        }
    }

    /// Waits until something has arrived, and hands all of it to `take`.
    pub(super) async fn read(
        &mut self,
        scratch: &Scratch,
        mut take: impl FnMut(Item<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        loop {
            self.stream.readable().await.map_err(lost)?;
            if self.read_now(scratch, &mut take)? {
                return Ok(());
            }
        }
    }

    /// Hands what has arrived to `take`, without waiting; false if nothing has.
    #[inline]
    pub(super) fn read_now(
        &mut self,
        scratch: &Scratch,
        take: impl FnMut(Item<'_>) -> Result<(), String>,
    ) -> Result<bool, String> {
        let mut scratch = scratch.borrow_mut();
        let kept = self.carry.len();
        let Some((start, room)) = scratch.split_at_mut_checked(kept) else { return Err("a frame without an end".into()) };
        start.copy_from_slice(&self.carry);
        let count = match self.stream.try_read(room) {
            Ok(0) => return Err("the router has closed the connection".into()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(lost(error)),
        };
        let bytes = scratch.get(..kept + count).unwrap_or_default();
        let used = self.inlet.walk(bytes, take)?;
        self.carry.clear();
        self.carry.extend_from_slice(bytes.get(used..).unwrap_or_default());
        Ok(true)
    }

    /// Waits for the next bytes and appends them to what is not used yet: for the time before frames follow each other.
    pub(super) async fn read_raw(&mut self) -> Result<&mut Vec<u8>, String> {
        loop {
            self.stream.readable().await.map_err(lost)?;
            match self.stream.try_read_buf(&mut self.carry) {
                Ok(0) => return Err("the router has closed the connection".into()),
                Ok(_) => return Ok(&mut self.carry),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(lost(error)),
            }
        }
    }

    /// Waits for one item for which `wanted` has an answer; other items before it are passed over.
    pub(super) async fn wait_for<T>(&mut self, mut wanted: impl FnMut(&[u8]) -> Option<Result<T, String>>) -> Result<T, String> {
        // The items behind the answer stay in `carry`, so the buffer of the thread is not needed.
        loop {
            let mut found = None;
            let carry = std::mem::take(&mut self.carry);
            let mut at = 0;
            while found.is_none()
                && let Some(rest) = carry.get(at..)
                && let Some((used, item)) = self.inlet.next(rest)?
            {
                at += used;
                if let Item::Other(message) = item {
                    found = wanted(message);
                }
            }
            self.carry = carry.get(at..).unwrap_or_default().to_vec();
            match found {
                Some(answer) => return answer,
                None => drop(self.read_raw().await?),
            }
        }
    }

    /// Sends bytes that are framed already.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).await.map_err(lost)
    }

    /// Sends bytes that are framed already, and hands what arrives meanwhile to `take`: neither side waits for the other.
    pub(super) async fn send_and_read(
        &mut self,
        mut bytes: &[u8],
        scratch: &Scratch,
        mut take: impl FnMut(Item<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    let ready = self.stream.ready(Interest::READABLE | Interest::WRITABLE).await.map_err(lost)?;
                    if ready.is_readable() {
                        self.read_now(scratch, &mut take)?;
                    }
                }
                Err(error) => return Err(lost(error)),
            }
        }
        Ok(())
    }

    /// Frames one message and sends it.
    pub(super) async fn send_message(&mut self, message: &[u8]) -> Result<(), String> {
        let mut out = Vec::new();
        self.framing.append(message, &mut out);
        self.send(&out).await
    }

    /// The id of the next request, which in WAMP has to count by one (WAMP: Basic, Identifiers).
    pub(super) fn next_request(&mut self) -> u64 {
        self.last_request += 1;
        self.last_request
    }

    /// The framing of messages on this connection.
    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    /// Says goodbye and closes.
    pub(super) async fn close(mut self) {
        let mut goodbye = BytesMut::new();
        match self.encoding() {
            None => goodbye.extend_from_slice(b"\xE0\0"),
            Some(encoding) => {
                let (details, reason) = (CloseDetails::default(), "wamp.close.normal".into());
                encode(&Message::Goodbye { details, reason }, encoding, &mut goodbye);
            }
        }
        // The connection may be gone already, which is as good.
        let _ = self.send_message(&goodbye).await;
    }

    /// The template of publications to `topic` (spelled as in MQTT) with `size` bytes of payload.
    pub(super) fn publication(&self, topic: &str, qos: Qos, retain: bool, size: usize) -> Result<Template, String> {
        let payload = stamp::payload(size);
        match (&self.protocol, self.encoding()) {
            (Protocol::Mqtt(version), _) => mqtt_publication(*version, topic, qos, retain, &payload),
            (_, Some(encoding)) => {
                let options = PublishOptions {
                    acknowledge: (qos != Qos::AtMostOnce).then_some(true),
                    retain: retain.then_some(true),
                    ..PublishOptions::default()
                };
                let topic = wamp_spelling(topic).into();
                let payload = Payload::Bytes(payload.into());
                let message = Message::Publish { request: RequestId(SENTINEL), options, topic, payload };
                self.template(&message, encoding)
            }
            _ => Err("no such protocol".into()),
        }
    }

    /// The template of a WAMP message.
    pub(super) fn template(&self, message: &Message<'_>, encoding: Encoding) -> Result<Template, String> {
        let mut encoded = BytesMut::new();
        encode(message, encoding, &mut encoded);
        if self.framing == Framing::RawSocket && encoded.len() > MAX_MESSAGE_BYTES {
            return Err(format!("RawSocket carries messages of up to {MAX_MESSAGE_BYTES} bytes, not of {}", encoded.len()));
        }
        Ok(Template::new(self.framing, &encoded))
    }

    /// The template of WAMP's YIELD.
    pub(super) fn answer(&self, encoding: Encoding, size: usize) -> Result<Template, String> {
        let payload = Payload::Bytes(stamp::payload(size).into());
        self.template(&Message::Yield { invocation: InvocationId(SENTINEL), options: YieldOptions::default(), payload }, encoding)
    }
}

fn mqtt_publication(version: Version, topic: &str, qos: Qos, retain: bool, payload: &[u8]) -> Result<Template, String> {
    let packet_id = (qos != Qos::AtMostOnce).then_some(std::num::NonZeroU16::MAX);
    let properties = PublishProperties::default();
    let publish = Publish { dup: false, qos, retain, topic, packet_id, properties, payload };
    let mut encoded = BytesMut::new();
    let head = publish.encode_head(version, payload.len(), &mut encoded).map_err(|error| format!("{topic}: {error}"))?;
    encoded.extend_from_slice(payload);
    Ok(match head.packet_id_at {
        Some(at) => Template::with_packet_id(&encoded, at),
        None => Template::new(Framing::None, &encoded),
    })
}

/// Appends one MQTT packet.
pub(super) fn append_packet(packet: &Packet<'_>, version: Version, out: &mut BytesMut) -> Result<(), String> {
    packet.encode(version, out).map_err(|error| error.to_string())
}

/// A topic in WAMP's spelling; the topics of a load test need no escapes.
pub(super) fn wamp_spelling(topic: &str) -> String {
    topic.replace('/', ".")
}

fn lost(error: std::io::Error) -> String {
    format!("the connection is lost: {error}")
}

fn advice(error: &std::io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(24) => "; raise the limit of open files (ulimit -n)",
        Some(99) => "; there are no ports left, wait a minute",
        Some(111) => "; is the router running?",
        _ => "",
    }
}

async fn connect(address: SocketAddr, from: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let Some(from) = from else { return TcpStream::connect(address).await };
    let socket = TcpSocket::new_v4()?;
    // A port that waits after an earlier connection may be used again.
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(address).await
}

/// The loopback address for the connection with this number: each has only some 28,000 ports. `None` where there is but one.
pub(super) fn source(target: &Target, index: usize) -> Option<IpAddr> {
    match target.address.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => {
            let low = u8::try_from(index % 64).unwrap_or(0) + 2;
            Some(IpAddr::from([127, 0, 0, low]))
        }
        _ => None,
    }
}
