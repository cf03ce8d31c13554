//! Where WAMP messages begin and end: given by WebSocket, or by RawSocket's handshake and frame heads.
use bytes::Bytes;

use super::{State, WampGate};
use crate::gate::Output;
use crate::gate::report::Ending;
use crate::model::{Command, Reason};
use crate::wire::wamp::Message;
use crate::wire::wamp::encode;
use crate::wire::wamp::rawsocket::{FrameHead, FrameKind, HEAD_BYTES, Handshake, HandshakeError};

/// The way in which messages are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// Every input is one message.
    Messages,
    /// RawSocket before its handshake.
    Handshake,
    /// RawSocket; the client takes messages of at most this many bytes.
    Frames(usize),
}

impl WampGate {
    /// Handles what has arrived; returns how many bytes were used.
    pub fn handle_bytes(&mut self, input: &[u8], now_ms: u64, output: &mut Output) -> usize {
        let mut used = 0;
        while matches!(self.state, State::Newcomer | State::Open) && self.wants_input() {
            let rest = input.get(used..).unwrap_or_default();
            let length = match self.framing {
                Framing::Messages if rest.is_empty() => None,
                Framing::Messages => {
                    self.handle_message(rest, now_ms, output);
                    Some(rest.len())
                }
                Framing::Handshake => self.handle_handshake(rest, output),
                Framing::Frames(_) => self.handle_frame(rest, now_ms, output),
            };
            match length {
                Some(length) => used += length,
                None => break,
            }
        }
        if self.state == State::Closed { input.len() } else { used }
    }

    fn handle_handshake(&mut self, input: &[u8], output: &mut Output) -> Option<usize> {
        match Handshake::decode_request(input) {
            Ok(None) => None,
            Ok(Some(request)) => {
                self.encoding = request.encoding;
                self.framing = Framing::Frames(request.max_message_bytes);
                let reply = Handshake::new(request.encoding, self.settings.limits.max_packet_bytes);
                output.bytes.extend_from_slice(&reply.encode());
                Some(HEAD_BYTES)
            }
            Err(error) => {
                if let HandshakeError::Refused(refusal) = error {
                    output.bytes.extend_from_slice(&refusal.encode());
                }
                output.report.end(Ending::Cut(Reason::ProtocolViolation, format!("RawSocket: {error}").into()));
                self.close(output);
                None
            }
        }
    }

    fn handle_frame(&mut self, input: &[u8], now_ms: u64, output: &mut Output) -> Option<usize> {
        let head = match FrameHead::decode(input, self.max_message_bytes()) {
            Ok(head) => head?,
            Err(error) => {
                self.end(Reason::MessageTooLarge, &error.to_string(), output);
                return None;
            }
        };
        let end = HEAD_BYTES + head.length;
        let body = input.get(HEAD_BYTES..end)?;
        match head.kind {
            FrameKind::Message => self.handle_message(body, now_ms, output),
            FrameKind::Ping if self.state == State::Newcomer => send_pong(body, output),
            // By the realm, so that its answer does not overtake those owed for earlier messages.
            FrameKind::Ping => {
                self.ping_bytes += HEAD_BYTES + body.len();
                self.pings.push_back(Bytes::copy_from_slice(body));
                output.commands.push(Command::Ping);
            }
            FrameKind::Pong => {}
        }
        Some(end)
    }

    /// The answer to the oldest PING has its turn.
    pub(super) fn handle_pong(&mut self, output: &mut Output) {
        if let Some(body) = self.pings.pop_front() {
            self.ping_bytes -= HEAD_BYTES + body.len();
            send_pong(&body, output);
        }
    }

    /// Sends one message; false, and nothing is sent, if the client cannot take it.
    pub(super) fn send(&self, message: &Message<'_>, output: &mut Output) -> bool {
        self.send_with(output, |output| encode(message, self.encoding, &mut output.bytes))
    }

    /// Sends the first of these that the client can take; false if there is none.
    pub(super) fn send_first<'m>(&self, messages: impl IntoIterator<Item = Message<'m>>, output: &mut Output) -> bool {
        messages.into_iter().any(|message| self.send(&message, output))
    }

    /// Sends the one message that `write` appends; a RawSocket client that cannot take it is spared it.
    pub(super) fn send_with(&self, output: &mut Output, write: impl FnOnce(&mut Output)) -> bool {
        let start = output.bytes.len();
        let Framing::Frames(max_bytes) = self.framing else {
            write(output);
            output.sent += 1;
            output.ends.push(output.bytes.len());
            return true;
        };
        output.bytes.extend_from_slice(&[0; HEAD_BYTES]);
        write(output);
        let length = output.bytes.len() - start - HEAD_BYTES;
        let head = FrameHead { kind: FrameKind::Message, length }.encode().filter(|_| length <= max_bytes);
        match (head, output.bytes.get_mut(start..start + HEAD_BYTES)) {
            (Some(head), Some(place)) => {
                place.copy_from_slice(&head);
                output.sent += 1;
                true
            }
            _ => {
                output.bytes.truncate(start);
                false
            }
        }
    }
}

fn send_pong(body: &[u8], output: &mut Output) {
    let pong = FrameHead { kind: FrameKind::Pong, length: body.len() };
    output.bytes.extend_from_slice(&pong.encode().unwrap_or_default());
    output.bytes.extend_from_slice(body);
}
