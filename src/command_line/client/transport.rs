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
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::target::{Scheme, Url};

/// How long the router may take to answer while a connection is made.
pub const CONNECT: Duration = Duration::from_secs(10);

/// An open connection that carries whole messages.
pub enum Transport {
    /// Text or binary frames, as the subprotocol says.
    WebSocket(Box<WebSocketStream<TcpStream>>, Subprotocol),
    /// Frames with a head of four bytes.
    RawSocket(RawSocket),
}

impl Transport {
    /// Connects; an error says what to do.
    pub async fn open(url: &Url, encoding: Encoding) -> Result<Self, String> {
        tokio::time::timeout(CONNECT, Self::connect(url, encoding))
            .await
            .unwrap_or_else(|_| Err(format!("{url} does not answer; is it the router's address?")))
    }

    async fn connect(url: &Url, encoding: Encoding) -> Result<Self, String> {
        let place = format!("{}:{}", url.host, url.port);
        let stream = TcpStream::connect(place).await.map_err(|error| unreachable(url, &error))?;
        stream.set_nodelay(true).map_err(|error| lost(&error))?;
        if url.scheme == Scheme::RawSocket {
            return Ok(Transport::RawSocket(RawSocket::open(stream, encoding, url).await?));
        }
        let subprotocol = Subprotocol { encoding, batched: false };
        let mut request = url.to_string().into_client_request().map_err(|error| format!("{url} is no URL: {error}"))?;
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol.name()));
        let (stream, _) = client_async(request, stream).await.map_err(|error| no_websocket(url, subprotocol, &error))?;
        Ok(Transport::WebSocket(Box::new(stream), subprotocol))
    }

    /// Takes a message for sending; `flush` sends it.
    pub async fn feed(&mut self, message: Bytes) -> Result<(), String> {
        match self {
            Transport::WebSocket(stream, subprotocol) => {
                let frame = if subprotocol.is_text() {
                    Message::Text(message.try_into().map_err(|error| format!("a message is not UTF-8: {error}"))?)
                } else {
                    Message::Binary(message)
                };
                stream.feed(frame).await.map_err(|error| lost(&error))
            }
            Transport::RawSocket(socket) => socket.feed(FrameKind::Message, &message),
        }
    }

    /// Sends what was taken.
    pub async fn flush(&mut self) -> Result<(), String> {
        match self {
            Transport::WebSocket(stream, _) => stream.flush().await.map_err(|error| lost(&error)),
            Transport::RawSocket(socket) => socket.flush().await.map_err(|error| lost(&error)),
        }
    }

    /// The next message; `None` once the connection is closed. May be given up at any time without loss.
    pub async fn receive(&mut self) -> Result<Option<Bytes>, String> {
        match self {
            Transport::WebSocket(stream, _) => loop {
                match stream.next().await {
                    Some(Ok(Message::Text(text))) => return Ok(Some(text.into())),
                    Some(Ok(Message::Binary(bytes))) => return Ok(Some(bytes)),
                    Some(Ok(Message::Close(_))) | None => return Ok(None),
                    Some(Ok(_)) => {}
                    Some(Err(tungstenite::Error::ConnectionClosed)) => return Ok(None),
                    Some(Err(error)) => return Err(lost(&error)),
                }
            },
            Transport::RawSocket(socket) => socket.receive().await,
        }
    }
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
    async fn open(mut stream: TcpStream, encoding: Encoding, url: &Url) -> Result<Self, String> {
        let request = Handshake::new(encoding, MAX_MESSAGE_BYTES);
        stream.write_all(&request.encode()).await.map_err(|error| lost(&error))?;
        let mut input = BytesMut::new();
        let reply = loop {
            let reply = Handshake::decode_reply(&input, request);
            match reply.map_err(|error| format!("{url} refused RawSocket: {error}; try --serializer json or a ws:// URL"))? {
                Some(reply) => break reply,
                None if stream.read_buf(&mut input).await.map_err(|error| lost(&error))? == 0 => {
                    return Err(format!("{url} speaks no RawSocket; is it the port of a WAMP router?"));
                }
                None => {}
            }
        };
        input.advance(HEAD_BYTES);
        Ok(RawSocket { stream, input, output: BytesMut::new(), max_message_bytes: reply.max_message_bytes })
    }

    fn feed(&mut self, kind: FrameKind, payload: &[u8]) -> Result<(), String> {
        let head = FrameHead { kind, length: payload.len() }.encode().filter(|_| payload.len() <= self.max_message_bytes);
        let Some(head) = head else {
            return Err(format!(
                "a message of {} bytes is too long: the router takes {}; send less at a time",
                payload.len(),
                self.max_message_bytes
            ));
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

/// What to do when nobody listens at `url`.
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

fn no_websocket(url: &Url, subprotocol: Subprotocol, error: &tungstenite::Error) -> String {
    match error {
        tungstenite::Error::Http(response) if response.status().as_u16() == 404 => {
            format!("{url}: there is nothing at {} (404); Corsac speaks WAMP at /ws", url.path)
        }
        tungstenite::Error::Http(response) => {
            format!("{url}: the WebSocket was refused ({}); Corsac speaks WAMP at /ws", response.status())
        }
        tungstenite::Error::Protocol(tungstenite::error::ProtocolError::SecWebSocketSubProtocolError(_)) => {
            format!("{url} does not speak {}; Corsac speaks WAMP at /ws", subprotocol.name())
        }
        error => format!("{url} opens no WebSocket: {error}; Corsac speaks WAMP at /ws"),
    }
}
