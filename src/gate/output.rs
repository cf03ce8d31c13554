//! The output of a gate: bytes to be sent, with large payloads between them that are not copied, and commands for the realm.
use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::report::Report;
use crate::model::{Command, Topic};

/// Payloads from this size on are sent from where they are: to copy fewer bytes costs less than to send them apart.
const SHARED_BYTES: usize = 8 * 1024;

/// Topics that are named at a time of those whose messages are withheld.
const MAX_WITHHELD: usize = 16;

/// The output of a gate after an input.
#[derive(Debug, Default)]
pub struct Output {
    /// To be written to the socket, in order.
    pub bytes: BytesMut,
    /// Where each message in `bytes` ends, for transports that frame messages; a gate of a byte stream leaves it empty.
    pub ends: Vec<usize>,
    /// For the realm, in order; the first one ever is `Open`.
    pub commands: Vec<Command>,
    /// Set once, with `Open`: the realm that all commands go to.
    pub realm: Option<Box<str>>,
    /// Close the socket once everything is written.
    pub close: bool,
    /// For the log.
    pub report: Report,
    /// Packets or messages that came in, since somebody last took the count.
    pub received: u64,
    /// Packets or messages that were put into `bytes`, likewise.
    pub sent: u64,
    /// Properties of messages that were left out as no MQTT client can be sent them, likewise.
    pub left_out: u64,
    /// Events that were passed over as their receiver takes no message that large, likewise.
    pub too_large: u64,
    /// Topics of messages that were withheld as no MQTT client can be sent them, likewise.
    pub withheld: Vec<Topic>,
    /// The transport can send several pieces as one.
    pub(crate) is_in_pieces: bool,
    /// Large payloads between `bytes`: few, as each is large.
    pub(crate) shared: VecDeque<Shared>,
}

/// A payload that is sent from where it is; not empty.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The bytes that go before it and behind the payload before it.
    after: usize,
    payload: Bytes,
}

impl Output {
    /// For a transport that can send several pieces as one.
    pub fn in_pieces() -> Self {
        Output { is_in_pieces: true, ..Output::default() }
    }

    /// Puts a payload behind everything that is there.
    pub fn put_payload(&mut self, payload: &Bytes) {
        if payload.len() < SHARED_BYTES || !self.is_in_pieces {
            return self.bytes.extend_from_slice(payload);
        }
        let after = self.bytes.len().saturating_sub(self.placed());
        self.shared.push_back(Shared { after, payload: payload.clone() });
    }

    /// A message of this topic is withheld.
    pub fn withhold(&mut self, topic: &Topic) {
        if self.withheld.len() < MAX_WITHHELD {
            self.withheld.push(topic.clone());
        }
    }

    /// The number of bytes that are to be sent.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.shared.iter().map(|shared| shared.payload.len()).sum::<usize>()
    }

    /// True if nothing is to be sent.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.shared.is_empty()
    }

    /// The output to be sent, in order, in pieces that are not empty; one piece at the most where no payloads are shared.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        let shared = self.shared.iter().flat_map(move |shared| {
            let from = at;
            at += shared.after;
            [self.bytes.get(from..at).unwrap_or_default(), &shared.payload]
        });
        shared.chain([self.bytes.get(self.placed()..).unwrap_or_default()]).filter(|piece| !piece.is_empty())
    }

    /// The bytes that go before the last shared payload.
    fn placed(&self) -> usize {
        self.shared.iter().map(|shared| shared.after).sum()
    }

    /// So many bytes from the front have been sent.
    pub fn advance(&mut self, mut sent: usize) {
        while let Some(next) = self.shared.front_mut() {
            let before = sent.min(next.after);
            self.bytes.advance(before);
            next.after -= before;
            let of_payload = (sent - before).min(next.payload.len());
            next.payload.advance(of_payload);
            sent -= before + of_payload;
            if !next.payload.is_empty() {
                return;
            }
            self.shared.pop_front();
        }
        self.bytes.advance(sent.min(self.bytes.len()));
    }

    /// Forgets what is to be sent.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.shared.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sent(output: &Output) -> Vec<u8> {
        output.pieces().collect::<Vec<_>>().concat()
    }

    proptest! {
        /// However it is sent, the bytes are those that were put, in that order.
        #[test]
        fn pieces_are_what_was_put(
            in_pieces: bool,
            steps in proptest::collection::vec((0..4u8, 0..3 * SHARED_BYTES, any::<u8>()), 0..24),
        ) {
            let mut output = if in_pieces { Output::in_pieces() } else { Output::default() };
            let mut expected: Vec<u8> = Vec::new();
            for (step, size, byte) in steps {
                match step {
                    0 => {
                        output.bytes.extend_from_slice(&vec![byte; size % 50]);
                        expected.resize(expected.len() + size % 50, byte);
                    }
                    1 | 2 => {
                        output.put_payload(&vec![byte; size].into());
                        expected.resize(expected.len() + size, byte);
                    }
                    _ => {
                        let count = size.min(output.len());
                        output.advance(count);
                        expected.drain(..count);
                    }
                }
                prop_assert_eq!(output.len(), expected.len());
                prop_assert!(sent(&output) == expected);
            }
            output.clear();
            prop_assert!(output.is_empty() && output.pieces().next().is_none());
        }
    }
}
