//! WebSocket (RFC 6455) under a gate: tungstenite as a codec between our own reads and writes.
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

use super::transport::{Taker, Transport, with_scratch};
use crate::gate::Output;
use crate::model::Limits;

/// Bytes that tungstenite holds for an idle connection.
const READ_BUFFER_BYTES: usize = 1024;

/// What frames carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carries {
    /// MQTT: binary frames are pieces of one byte stream [MQTT-6.0.0-1], [MQTT-6.0.0-2].
    Stream,
    /// WAMP: one message a frame, binary.
    Binary,
    /// WAMP: one message a frame, text.
    Text,
}

/// A WebSocket on the server's side.
pub struct WebSocket<S> {
    socket: S,
    context: WebSocketContext,
    carries: Carries,
    max_bytes: usize,
    /// The longest frame of now.
    limit: usize,
    /// A frame that is not whole.
    arrived: BytesMut,
    /// A message whose last piece has not come.
    is_in_pieces: bool,
    /// Messages that the gate has not taken yet.
    messages: VecDeque<Bytes>,
    /// The start of something unfinished (streams only).
    partial: BytesMut,
    /// Frames on their way.
    out: BytesMut,
    has_ended: bool,
}

/// The two ends that tungstenite sees: what was read, and where to write.
struct Ends<'a> {
    input: &'a [u8],
    out: &'a mut BytesMut,
}

impl Read for Ends<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(buffer)
    }
}

impl Write for Ends<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Longest head of a frame: two bytes, eight of length, four of mask.
const MAX_HEAD_BYTES: usize = 14;

/// First byte and length, head included, of the frame at the head of `input`; `None` until its head says it.
fn frame_head(input: &[u8]) -> Option<(u8, usize)> {
    let (first, second) = (*input.first()?, *input.get(1)?);
    let (head, length) = match second & 0x7F {
        126 => (4, u64::from(u16::from_be_bytes(input.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(input.get(2..10)?.try_into().ok()?)),
        length => (2, u64::from(length)),
    };
    let mask = if second & 0x80 != 0 { 4 } else { 0 };
    Some((first, usize::try_from(length).unwrap_or(usize::MAX).saturating_add(head + mask)))
}

impl<S> WebSocket<S> {
    /// A WebSocket over a socket that has been upgraded; `arrived` came behind the request.
    pub fn new(socket: S, arrived: &[u8], carries: Carries, limits: &Limits) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .max_message_size(Some(limits.max_packet_before_auth_bytes))
            .max_frame_size(Some(limits.max_packet_before_auth_bytes));
        let mut websocket = WebSocket {
            socket,
            context: WebSocketContext::new(Role::Server, Some(config)),
            carries,
            max_bytes: limits.max_packet_bytes,
            limit: limits.max_packet_before_auth_bytes,
            arrived: BytesMut::new(),
            is_in_pieces: false,
            messages: VecDeque::new(),
            partial: BytesMut::new(),
            out: BytesMut::new(),
            has_ended: false,
        };
        websocket.collect(arrived);
        websocket
    }

    /// Decodes the whole frames in what has arrived and keeps the rest: tungstenite makes room for a frame as soon as it has
    /// seen its length, so it sees none before all of it is there (or its length is too much anyway).
    fn collect(&mut self, bytes: &[u8]) {
        if self.arrived.is_empty() {
            let whole = self.whole_frames(bytes);
            let (frames, rest) = bytes.split_at(whole);
            self.decode(frames);
            self.arrived.extend_from_slice(rest);
            return;
        }
        let mut arrived = std::mem::take(&mut self.arrived);
        arrived.extend_from_slice(bytes);
        let whole = self.whole_frames(&arrived);
        if whole > 0 {
            self.decode(&arrived.split_to(whole));
        }
        if !arrived.is_empty() {
            self.arrived = arrived;
        }
    }

    /// Length of the frames at the head of `input` that are whole (RFC 6455, 5.2). A frame that declares too much counts as
    /// whole with what there is of it, so that it is refused at once.
    fn whole_frames(&mut self, input: &[u8]) -> usize {
        let mut whole = 0;
        while let Some((first, length)) = input.get(whole..).and_then(frame_head) {
            if length > self.limit.saturating_add(MAX_HEAD_BYTES) {
                return input.len();
            }
            if input.len() - whole < length {
                break;
            }
            whole += length;
            // Control frames may come between the pieces of a message.
            if first & 0x08 == 0 {
                self.is_in_pieces = first & 0x80 == 0;
            }
        }
        whole
    }

    /// Takes every whole message out of `input`.
    fn decode(&mut self, input: &[u8]) {
        let mut ends = Ends { input, out: &mut self.out };
        while !self.has_ended {
            match (self.context.read(&mut ends), self.carries) {
                (Ok(Message::Binary(bytes)), Carries::Stream) => self.partial.extend_from_slice(&bytes),
                (Ok(Message::Binary(bytes)), Carries::Binary) if !bytes.is_empty() => self.messages.push_back(bytes),
                (Ok(Message::Text(text)), Carries::Text) if !text.is_empty() => self.messages.push_back(text.into()),
                // An empty message is none, and a frame of the other kind is nobody's [MQTT-6.0.0-1].
                (Ok(Message::Binary(_) | Message::Text(_)), _) => {
                    let frame = CloseFrame { code: CloseCode::Unsupported, reason: "wrong kind of frame".into() };
                    self.context.close(&mut ends, Some(frame)).ok();
                    self.has_ended = true;
                }
                (Ok(_), _) => {}
                (Err(Error::Io(error)), _) if error.kind() == io::ErrorKind::WouldBlock => break,
                (Err(error), _) => {
                    self.context.close(&mut ends, close_frame(&error)).ok();
                    self.has_ended = true;
                }
            }
        }
        // PONGs and the answer to CLOSE.
        self.context.flush(&mut ends).ok();
    }

    /// Puts the gate's output into frames.
    fn encode(&mut self, output: &mut Output) {
        let opcode = if self.carries == Carries::Text { Data::Text } else { Data::Binary };
        let mut ends = Ends { input: &[], out: &mut self.out };
        let mut frame = |bytes: Bytes| {
            let frame = Frame::message(bytes, OpCode::Data(opcode), true);
            // Once CLOSE has been said nothing more is sent.
            self.context.write(&mut ends, Message::Frame(frame)).ok();
        };
        if self.carries == Carries::Stream {
            frame(output.bytes.split().freeze());
        } else {
            let mut start = 0;
            for end in output.ends.drain(..) {
                frame(output.bytes.split_to(end - start).freeze());
                start = end;
            }
        }
        self.context.flush(&mut ends).ok();
    }
}

/// What a fault of the client is answered with (RFC 6455, 7.4.1).
fn close_frame(error: &Error) -> Option<CloseFrame> {
    let code = match error {
        Error::Capacity(_) => CloseCode::Size,
        Error::Utf8(_) => CloseCode::Invalid,
        Error::Protocol(_) => CloseCode::Protocol,
        _ => return None,
    };
    Some(CloseFrame { code, reason: error.to_string().into() })
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Transport for WebSocket<S> {
    fn poll_receive(&mut self, context: &mut Context<'_>, take: Taker<'_>) -> Poll<io::Result<bool>> {
        if self.has_ended {
            return Poll::Ready(Ok(false));
        }
        with_scratch(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.socket).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(false));
            }
            self.collect(buffer.filled());
            self.offer_again(take);
            Poll::Ready(Ok(true))
        })
    }

    fn offer_again(&mut self, take: Taker<'_>) {
        if self.carries == Carries::Stream {
            let used = take(&self.partial);
            self.partial.advance(used);
            return;
        }
        while let Some(message) = self.messages.front() {
            if take(message) == 0 {
                return;
            }
            self.messages.pop_front();
        }
        self.messages.shrink_to(16);
    }

    fn leftover(&self) -> usize {
        self.partial.len() + self.messages.len()
    }

    fn set_open(&mut self) {
        self.limit = self.max_bytes;
        let max_bytes = Some(self.max_bytes);
        self.context.set_config(|config| {
            config.max_message_size = max_bytes;
            config.max_frame_size = max_bytes;
        });
    }

    fn poll_send(&mut self, context: &mut Context<'_>, output: &mut Output) -> Poll<io::Result<usize>> {
        if !output.bytes.is_empty() {
            self.encode(output);
        }
        if self.out.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let sent = ready!(Pin::new(&mut self.socket).poll_write(context, &self.out))?;
        if sent == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.out.advance(sent);
        if self.out.is_empty() {
            self.out = BytesMut::new();
        }
        Poll::Ready(Ok(sent))
    }

    fn unsent(&self) -> usize {
        self.out.len()
    }

    fn is_unfinished(&self) -> bool {
        self.is_in_pieces || !self.arrived.is_empty()
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.has_ended {
            self.has_ended = true;
            let mut ends = Ends { input: &[], out: &mut self.out };
            let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            self.context.close(&mut ends, Some(frame)).ok();
            self.context.flush(&mut ends).ok();
        }
        while !self.out.is_empty() {
            let sent = ready!(Pin::new(&mut self.socket).poll_write(context, &self.out))?;
            self.out.advance(sent);
        }
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        super::transport::poll_discard(&mut self.socket, context)
    }
}
