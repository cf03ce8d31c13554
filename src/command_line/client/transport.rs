//! WAMP messages over WebSocket and RawSocket, the client's side.
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use corsac::model::Encoding;
use corsac::wire::wamp::Subprotocol;
use corsac::wire::wamp::rawsocket::{FrameHead, FrameKind, HEAD_BYTES, Handshake, MAX_MESSAGE_BYTES};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::Trouble;
use super::target::{Scheme, Url};
use crate::command_line::output::grouped;

/// The time that the router may take to answer while a connection is made.
pub const CONNECT: Duration = Duration::from_secs(10);

/// The time that the router may take to say why it closes.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// A message of this size may be the reason why a connection ends.
const LARGE_BYTES: usize = 256 * 1024;

/// An open connection that carries whole messages.
pub struct Transport {
    carrier: Carrier,
    /// The longest message that was sent.
    longest_bytes: usize,
}

enum Carrier {
    /// Text or binary frames, as the subprotocol says.
    WebSocket(Box<WebSocketStream<TcpStream>>, Subprotocol),
    /// Frames with a head of four bytes.
    RawSocket(RawSocket),
}

impl Transport {
    /// Connects; an error says what to do.
    pub async fn open(url: &Url, encoding: Encoding) -> Result<Self, Trouble> {
        let carrier = tokio::time::timeout(CONNECT, Carrier::connect(url, encoding)).await;
        let unanswered = || Trouble::Lost(format!("{url} does not answer; is it the router's address?"));
        Ok(Transport { carrier: carrier.unwrap_or_else(|_| Err(unanswered()))?, longest_bytes: 0 })
    }

    /// Takes a message for sending; `flush` sends it.
    pub async fn feed(&mut self, message: Bytes) -> Result<(), String> {
        self.longest_bytes = self.longest_bytes.max(message.len());
        match &mut self.carrier {
            Carrier::WebSocket(stream, subprotocol) => {
                let frame = if subprotocol.is_text() {
                    Message::Text(message.try_into().map_err(|error| format!("a message is not UTF-8: {error}"))?)
                } else {
                    Message::Binary(message)
                };
                match stream.feed(frame).await {
                    Ok(()) => Ok(()),
                    Err(error) => Err(self.why_lost(&error).await),
                }
            }
            Carrier::RawSocket(socket) => socket.feed(FrameKind::Message, &message),
        }
    }

    /// Sends what was taken.
    pub async fn flush(&mut self) -> Result<(), String> {
        let flushed = match &mut self.carrier {
            Carrier::WebSocket(stream, _) => stream.flush().await,
            Carrier::RawSocket(socket) => socket.flush().await.map_err(tungstenite::Error::Io),
        };
        match flushed {
            Ok(()) => Ok(()),
            Err(error) => Err(self.why_lost(&error).await),
        }
    }

    /// The next message; `None` once the connection is closed. May be given up at any time without loss.
    pub async fn receive(&mut self) -> Result<Option<Bytes>, String> {
        match &mut self.carrier {
            Carrier::WebSocket(stream, _) => loop {
                match stream.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(Some(text.into())),
                    Some(Ok(Message::Binary(bytes))) => return Ok(Some(bytes)),
                    Some(Ok(Message::Close(Some(frame)))) => return why_closed(&frame, self.longest_bytes).map_or(Ok(None), Err),
                    Some(Ok(Message::Close(None)) | Err(tungstenite::Error::ConnectionClosed)) | None => return Ok(None),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(self.why_lost(&error).await),
                }
            },
            Carrier::RawSocket(socket) => socket.receive().await,
        }
    }

    /// Why the connection was lost: as the router says it, if it still does.
    async fn why_lost(&mut self, error: &tungstenite::Error) -> String {
        if let Carrier::WebSocket(stream, _) = &mut self.carrier {
            let words = async {
                while let Some(Ok(message)) = stream.next().await {
                    if let Message::Close(frame) = message {
                        return frame;
                    }
                }
                None
            };
            let frame = tokio::time::timeout(LAST_WORDS, words).await.ok().flatten();
            if let Some(why) = frame.and_then(|frame| why_closed(&frame, self.longest_bytes)) {
                return why;
            }
        }
        if self.longest_bytes < LARGE_BYTES {
            return lost(error);
        }
        let bytes = grouped(self.longest_bytes as u64);
        format!(
            "the connection was lost: {error}; is a message of {bytes} bytes more than the router takes (limits.max_packet_bytes)?"
        )
    }
}

/// The words for a close frame about a message that was too long; nothing else needs words.
fn why_closed(frame: &CloseFrame, longest_bytes: usize) -> Option<String> {
    if frame.code != CloseCode::Size {
        return None;
    }
    // The router writes `… 17000012 > 16777216`.
    let mut numbers = frame.reason.split(|character: char| !character.is_ascii_digit()).filter_map(|digits| digits.parse().ok());
    let sizes = (numbers.next(), numbers.next());
    Some(match sizes {
        (Some(bytes), Some(most)) => too_long(bytes, most),
        _ => {
            let bytes = grouped(longest_bytes as u64);
            format!("a message of {bytes} bytes is more than the router takes (limits.max_packet_bytes); send less at a time")
        }
    })
}

/// A message that no router will take.
pub fn too_long(bytes: u64, most: u64) -> String {
    let (bytes, most) = (grouped(bytes), grouped(most));
    format!("the message has {bytes} bytes, the router takes {most} (limits.max_packet_bytes); send less at a time")
}

impl Carrier {
    async fn connect(url: &Url, encoding: Encoding) -> Result<Self, Trouble> {
        let stream = connect(url).await?;
        if url.scheme == Scheme::RawSocket {
            return Ok(Carrier::RawSocket(RawSocket::open(stream, encoding, url).await?));
        }
        let subprotocol = Subprotocol { encoding, batched: false };
        let request = url.to_string().into_client_request();
        let mut request = request.map_err(|error| Trouble::Refused(String::new(), format!("{url} is no URL: {error}")))?;
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol.name()));
        match client_async(request, stream).await {
            Ok((stream, _)) => Ok(Carrier::WebSocket(Box::new(stream), subprotocol)),
            Err(error) => Err(no_websocket(url, subprotocol, &error).await),
        }
    }
}

/// A TCP connection to the router.
async fn connect(url: &Url) -> Result<TcpStream, Trouble> {
    let stream = TcpStream::connect(format!("{}:{}", url.host, url.port)).await;
    let stream = stream.map_err(|error| Trouble::Lost(unreachable(url, &error)))?;
    stream.set_nodelay(true).map_err(|error| Trouble::Lost(lost(&error)))?;
    Ok(stream)
}

/// A RawSocket connection after its handshake.
pub struct RawSocket {
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
    /// The longest message that the router takes.
    max_message_bytes: usize,
}

impl RawSocket {
    async fn open(mut stream: TcpStream, encoding: Encoding, url: &Url) -> Result<Self, Trouble> {
        let request = Handshake::new(encoding, MAX_MESSAGE_BYTES);
        let broken = |error: io::Error| Trouble::Lost(lost(&error));
        stream.write_all(&request.encode()).await.map_err(broken)?;
        let mut input = BytesMut::new();
        let reply = loop {
            match Handshake::decode_reply(&input, request) {
                Ok(Some(reply)) => break reply,
                Ok(None) => {}
                Err(_) if speaks_mqtt(url).await => return Err(mqtt_only(url)),
                Err(error) => {
                    let why = format!("{url} refused RawSocket: {error}; try --serializer json or a ws:// URL");
                    return Err(Trouble::Refused(String::new(), why));
                }
            }
            if stream.read_buf(&mut input).await.map_err(broken)? == 0 {
                if speaks_mqtt(url).await {
                    return Err(mqtt_only(url));
                }
                return Err(Trouble::Lost(format!("{url} speaks no RawSocket; is it the port of a WAMP router?")));
            }
        };
        input.advance(HEAD_BYTES);
        Ok(RawSocket { stream, input, output: BytesMut::new(), max_message_bytes: reply.max_message_bytes })
    }

    fn feed(&mut self, kind: FrameKind, payload: &[u8]) -> Result<(), String> {
        let head = FrameHead { kind, length: payload.len() }.encode().filter(|_| payload.len() <= self.max_message_bytes);
        let Some(head) = head else {
            return Err(too_long(payload.len() as u64, self.max_message_bytes as u64));
        };
        self.output.extend_from_slice(&head);
        self.output.extend_from_slice(payload);
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all_buf(&mut self.output).await
    }

    async fn receive(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            let head = FrameHead::decode(&self.input, MAX_MESSAGE_BYTES).map_err(|error| lost(&error))?;
            match head.filter(|head| self.input.len() >= HEAD_BYTES + head.length) {
                Some(FrameHead { kind, length }) => {
                    self.input.advance(HEAD_BYTES);
                    let payload = self.input.split_to(length).freeze();
                    match kind {
                        FrameKind::Message => return Ok(Some(payload)),
                        FrameKind::Ping => self.feed(FrameKind::Pong, &payload)?,
                        FrameKind::Pong => {}
                    }
                }
                None => {
                    self.flush().await.map_err(|error| lost(&error))?;
                    if self.stream.read_buf(&mut self.input).await.map_err(|error| lost(&error))? == 0 {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

/// The advice when nobody listens at `url`.
pub fn unreachable(url: &Url, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("{url}: connection refused; is the router running? start it with `corsac`, or name another with --url")
        }
        _ => format!("{url}: {error}; check --url"),
    }
}

fn lost(error: &impl std::fmt::Display) -> String {
    format!("the connection was lost: {error}; is the router still running?")
}

async fn no_websocket(url: &Url, subprotocol: Subprotocol, error: &tungstenite::Error) -> Trouble {
    let refused = |why: String| Trouble::Refused(String::new(), why);
    match error {
        tungstenite::Error::Http(response) if response.status().as_u16() == 404 => {
            refused(format!("{url}: there is nothing at {} (404); Corsac speaks WAMP at /ws", url.path))
        }
        tungstenite::Error::Http(response) => {
            let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            let said = body.lines().next().filter(|line| !line.is_empty()).map_or(String::new(), |line| format!(": {line}"));
            let why = format!("{url}: the WebSocket was refused ({}){said}; Corsac speaks WAMP at /ws", response.status());
            if response.status().is_server_error() { Trouble::Lost(why) } else { refused(why) }
        }
        tungstenite::Error::Protocol(tungstenite::error::ProtocolError::SecWebSocketSubProtocolError(_)) => {
            refused(format!("{url} does not speak {}; Corsac speaks WAMP at /ws", subprotocol.name()))
        }
        _ if speaks_mqtt(url).await => mqtt_only(url),
        error => Trouble::Lost(format!("{url} opens no WebSocket: {error}; Corsac speaks WAMP at /ws")),
    }
}

fn mqtt_only(url: &Url) -> Trouble {
    let Url { host, port, .. } = url;
    let why =
        format!("{url}: that port speaks MQTT only; take mqtt://{host}:{port}, or the port at which Corsac speaks WAMP at /ws");
    Trouble::Refused(String::new(), why)
}

/// True if MQTT is spoken at the port of `url`: asked where nothing else is.
async fn speaks_mqtt(url: &Url) -> bool {
    // CONNECT of MQTT 3.1.1 by a client without a name, which wants a clean session.
    const CONNECT_PACKET: &[u8] = b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0";
    const CONNACK: u8 = 0x20;
    let ask = async {
        let mut stream = connect(url).await.ok()?;
        stream.write_all(CONNECT_PACKET).await.ok()?;
        stream.read_u8().await.ok()
    };
    tokio::time::timeout(LAST_WORDS, ask).await.is_ok_and(|first| first == Some(CONNACK))
}
