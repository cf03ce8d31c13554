//! The publications that a publisher has sent and the router has not acknowledged yet.
use corsac::wire::mqtt::Qos;

use super::inlet::Item;
use super::link::Link;
use super::template::Framing;

/// The acknowledgements that a publisher waits for.
#[derive(Debug)]
pub(super) struct Flight {
    framing: Framing,
    /// Publications that may be unacknowledged; `None` = they never are acknowledged.
    window: Option<u64>,
    in_flight: u64,
    acknowledged: u64,
    next_id: u64,
    max_id: u64,
    /// Answers to be sent.
    replies: Vec<u8>,
}

impl Flight {
    /// Nothing under way; `window` publications may be, if they are acknowledged.
    pub(super) fn new(link: &mut Link, qos: Qos, window: usize) -> Self {
        let next_id = link.next_request();
        // [MQTT-3.3.4-7]
        let window = window.min(usize::from(link.receive_maximum)) as u64;
        let max_id = if link.encoding().is_some() { 1 << 53 } else { u64::from(u16::MAX) };
        let window = (qos != Qos::AtMostOnce).then_some(window);
        Flight { framing: link.framing(), window, in_flight: 0, acknowledged: 0, next_id, max_id, replies: Vec::new() }
    }

    /// The part of `most` that may be sent now.
    pub(super) fn room(&self, most: u64) -> u64 {
        self.window.map_or(most, |window| most.min(window.saturating_sub(self.in_flight)))
    }

    /// True while acknowledgements are missing.
    pub(super) fn is_waiting(&self) -> bool {
        self.in_flight > 0
    }

    /// The id of the next message, which is under way with that. Ids come round long after their acknowledgements.
    #[inline]
    pub(super) fn next(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id = if id == self.max_id { 1 } else { id + 1 };
        self.in_flight += u64::from(self.window.is_some());
        id
    }

    /// Takes one thing that the router says to a publisher.
    #[inline]
    pub(super) fn take(&mut self, item: &Item<'_>) {
        match item {
            Item::Acknowledged => {
                self.in_flight = self.in_flight.saturating_sub(1);
                self.acknowledged += 1;
            }
            Item::Received(id) => append_ack(0x62, *id, &mut self.replies),
            Item::Ping(ping) => self.framing.append_pong(ping, &mut self.replies),
            _ => {}
        }
    }

    /// Acknowledgements since the last call.
    pub(super) fn newly_acknowledged(&mut self) -> u64 {
        std::mem::take(&mut self.acknowledged)
    }

    /// Sends the answers that are due.
    pub(super) async fn reply(&mut self, link: &mut Link) -> Result<(), String> {
        if !self.replies.is_empty() {
            link.send(&self.replies).await?;
            self.replies.clear();
        }
        Ok(())
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP, which mean success at this length in every version.
#[inline]
pub(super) fn append_ack(first: u8, packet_id: u16, out: &mut Vec<u8>) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[first, 2, high, low]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(window: Option<u64>) -> Flight {
        Flight {
            framing: Framing::None,
            window,
            in_flight: 0,
            acknowledged: 0,
            next_id: 65_535,
            max_id: 65_535,
            replies: Vec::new(),
        }
    }

    #[test]
    fn acknowledgements_make_room() {
        let mut flight = flight(Some(2));
        assert_eq!((flight.room(9), flight.next(), flight.next(), flight.room(9)), (2, 65_535, 1, 0));
        flight.take(&Item::Received(1));
        assert_eq!((flight.room(9), flight.replies.as_slice()), (0, &[0x62, 2, 0, 1][..]));
        flight.take(&Item::Acknowledged);
        assert_eq!((flight.room(9), flight.newly_acknowledged(), flight.newly_acknowledged()), (1, 1, 0));
        assert!(flight.is_waiting());
    }

    #[test]
    fn what_is_not_acknowledged_has_always_room() {
        let mut flight = flight(None);
        flight.next();
        assert!(flight.room(9) == 9 && !flight.is_waiting());
    }
}
