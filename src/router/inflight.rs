//! The window of QoS > 0 deliveries of one MQTT session, and the line behind it; both outlive the connection.
use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::model::command::{AcknowledgeStep, Acknowledgement};
use crate::model::delivery::Event;
use crate::model::{Limits, PacketId, Publication, Qos};

/// A delivery that is owed until it is acknowledged.
#[derive(Clone, Debug)]
pub struct Owed {
    /// What is delivered.
    pub publication: Arc<Publication>,
    /// 1 or 2.
    pub qos: Qos,
    /// RETAIN flag.
    pub retain: bool,
    /// Subscription identifiers.
    pub subscriptions: SmallVec<[u64; 2]>,
    /// The shared subscription it came through: it goes to another member if this session ends.
    pub share: Option<u32>,
}

/// What becomes of an acknowledgement.
#[derive(PartialEq, Eq, Debug)]
pub enum Progress {
    /// The delivery is over.
    Done,
    /// PUBREL is owed for this id.
    Release(PacketId),
    /// No delivery with that id.
    Unknown,
    /// The delivery with that id is not at this step: a protocol error.
    Violation,
}

#[derive(Debug)]
enum Slot {
    Free,
    Sent(Owed),
    Released,
}

/// In-flight window with packet ids, and the queue of what does not fit into it.
///
/// Ids are given in sequence, so `slots[i]` belongs to packet id `first + i` and finding one is arithmetic.
#[derive(Debug)]
pub struct Inflight {
    window: usize,
    first: u16,
    slots: VecDeque<Slot>,
    active: usize,
    active_bytes: usize,
    queue: VecDeque<Owed>,
    queue_bytes: usize,
    /// Deliveries lost because the queue was full.
    pub dropped: u64,
}

const IDS: usize = 65_535;

fn id_at(first: u16, index: usize) -> Option<PacketId> {
    let id = (usize::from(first) - 1 + index) % IDS + 1;
    PacketId::new(id as u16)
}

impl Inflight {
    /// An empty window for a client that takes `receive_maximum` unacknowledged deliveries.
    pub fn new(receive_maximum: u16) -> Self {
        Inflight {
            window: usize::from(receive_maximum.max(1)),
            first: 1,
            slots: VecDeque::new(),
            active: 0,
            active_bytes: 0,
            queue: VecDeque::new(),
            queue_bytes: 0,
            dropped: 0,
        }
    }

    /// The client came back with another Receive Maximum [MQTT-3.3.4-9].
    pub fn resize(&mut self, receive_maximum: u16) {
        self.window = usize::from(receive_maximum.max(1));
    }

    /// Deliveries sent and not over.
    pub fn active(&self) -> usize {
        self.active
    }

    /// Deliveries waiting behind the window.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Takes a delivery in line: returns it as an event if it may be sent now, else queues it, or drops it at the bound.
    pub fn offer(&mut self, owed: Owed, connected: bool, limits: &Limits) -> Option<Event> {
        if connected && self.queue.is_empty() && self.has_room(limits) {
            return self.send(owed);
        }
        let weight = owed.publication.weight();
        if self.queue.len() >= limits.max_session_queue || self.queue_bytes + weight > limits.max_session_queue_bytes {
            self.dropped += 1;
            return None;
        }
        self.queue_bytes += weight;
        self.queue.push_back(owed);
        None
    }

    /// The next waiting delivery, if the window has room; expired ones are skipped [MQTT-3.3.2-5].
    pub fn poll_next(&mut self, now_ms: u64, limits: &Limits) -> Option<Event> {
        while self.has_room(limits) {
            let owed = self.queue.pop_front()?;
            self.queue_bytes -= owed.publication.weight();
            if !owed.publication.is_expired(now_ms) {
                return self.send(owed);
            }
        }
        None
    }

    /// Drops what waits behind the window and is not worth sending any more; what was sent stays owed [MQTT-4.4.0-1].
    pub fn forget_waiting(&mut self, is_stale: impl Fn(&Publication) -> bool) {
        self.queue.retain(|owed| !is_stale(&owed.publication));
        self.queue_bytes = self.queue.iter().map(|owed| owed.publication.weight()).sum();
    }

    fn has_room(&self, limits: &Limits) -> bool {
        self.active < self.window && self.slots.len() < IDS && (self.active == 0 || self.active_bytes < limits.max_outbox_bytes)
    }

    fn send(&mut self, owed: Owed) -> Option<Event> {
        let packet_id = id_at(self.first, self.slots.len())?;
        let event = event(&owed, packet_id, false);
        self.active += 1;
        self.active_bytes += owed.publication.weight();
        self.slots.push_back(Slot::Sent(owed));
        Some(event)
    }

    /// The receiver's next step for one delivery.
    pub fn handle_acknowledgement(&mut self, acknowledgement: Acknowledgement) -> Progress {
        let id = acknowledgement.packet_id;
        let index = (usize::from(id.value()) + IDS - usize::from(self.first)) % IDS;
        let Some(slot) = self.slots.get_mut(index).filter(|slot| !matches!(slot, Slot::Free)) else { return Progress::Unknown };
        let is_over = match (&*slot, acknowledgement.step) {
            (Slot::Sent(owed), AcknowledgeStep::Acknowledged) => owed.qos == Qos::AtLeastOnce,
            (Slot::Sent(owed), AcknowledgeStep::Received) if owed.qos == Qos::ExactlyOnce => {
                self.active_bytes -= owed.publication.weight();
                *slot = Slot::Released;
                return Progress::Release(id);
            }
            (Slot::Released, AcknowledgeStep::Received) => return Progress::Release(id),
            (Slot::Sent(owed), AcknowledgeStep::Rejected) => owed.qos == Qos::ExactlyOnce,
            (Slot::Released, AcknowledgeStep::Completed) => true,
            _ => false,
        };
        if !is_over {
            return Progress::Violation;
        }
        if let Slot::Sent(owed) = std::mem::replace(slot, Slot::Free) {
            self.active_bytes -= owed.publication.weight();
        }
        self.active -= 1;
        self.trim();
        Progress::Done
    }

    fn trim(&mut self) {
        while matches!(self.slots.front(), Some(Slot::Free)) {
            self.slots.pop_front();
            self.first = id_at(self.first, 1).map_or(1, PacketId::value);
        }
        if self.slots.is_empty() && self.slots.capacity() > 64 {
            self.slots.shrink_to(16);
        }
    }

    /// Everything that is owed again after a reconnect, in its first order, with the same packet ids [MQTT-4.4.0-1].
    pub fn resend(&self) -> impl Iterator<Item = Resend> + '_ {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let packet_id = id_at(self.first, index)?;
            match slot {
                Slot::Free => None,
                Slot::Sent(owed) => Some(Resend::Publish(event(owed, packet_id, true))),
                Slot::Released => Some(Resend::Release(packet_id)),
            }
        })
    }

    /// Ends the window: what was owed through shared subscriptions and may go to another member [MQTT-4.8.2-4].
    /// QoS 2 that was sent stays with its member [MQTT-4.8.2-5].
    pub fn into_shared(self) -> impl Iterator<Item = (u32, Owed)> {
        let sent = self.slots.into_iter().filter_map(|slot| match slot {
            Slot::Sent(owed) if owed.qos == Qos::AtLeastOnce => Some(owed),
            _ => None,
        });
        sent.chain(self.queue).filter_map(|owed| owed.share.map(|share| (share, owed)))
    }
}

/// One thing to send again.
#[derive(Debug)]
pub enum Resend {
    /// PUBLISH with DUP.
    Publish(Event),
    /// PUBREL.
    Release(PacketId),
}

fn event(owed: &Owed, packet_id: PacketId, duplicate: bool) -> Event {
    Event {
        publication: owed.publication.clone(),
        qos: owed.qos,
        retain: owed.retain,
        duplicate,
        by_pattern: false,
        packet_id: Some(packet_id),
        subscriptions: owed.subscriptions.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Payload, Topic};

    fn owed(qos: Qos) -> Owed {
        let topic = Topic::from_mqtt("t").unwrap();
        let publication = Arc::new(Publication::new(topic, Payload::empty(), qos));
        Owed { publication, qos, retain: false, subscriptions: SmallVec::new(), share: None }
    }

    fn step(id: u16, step: AcknowledgeStep) -> Acknowledgement {
        Acknowledgement { packet_id: PacketId::new(id).unwrap(), step }
    }

    #[test]
    fn window_bounds_what_is_sent_and_keeps_order() {
        let limits = Limits::default();
        let mut inflight = Inflight::new(2);
        let ids: Vec<_> = (0..4).map(|_| inflight.offer(owed(Qos::AtLeastOnce), true, &limits)).collect();
        assert_eq!(ids.iter().filter(|e| e.is_some()).count(), 2);
        assert_eq!(inflight.handle_acknowledgement(step(2, AcknowledgeStep::Acknowledged)), Progress::Done);
        assert_eq!(inflight.poll_next(0, &limits).unwrap().packet_id.unwrap().value(), 3);
        assert!(inflight.poll_next(0, &limits).is_none());
        assert_eq!(inflight.handle_acknowledgement(step(2, AcknowledgeStep::Acknowledged)), Progress::Unknown);
        assert_eq!(inflight.resend().count(), 2);
    }

    #[test]
    fn exactly_once_goes_through_release() {
        let limits = Limits::default();
        let mut inflight = Inflight::new(10);
        inflight.offer(owed(Qos::ExactlyOnce), true, &limits).unwrap();
        assert_eq!(inflight.handle_acknowledgement(step(1, AcknowledgeStep::Completed)), Progress::Violation);
        assert_eq!(inflight.handle_acknowledgement(step(1, AcknowledgeStep::Acknowledged)), Progress::Violation);
        let id = PacketId::new(1).unwrap();
        assert_eq!(inflight.handle_acknowledgement(step(1, AcknowledgeStep::Received)), Progress::Release(id));
        assert!(matches!(inflight.resend().next(), Some(Resend::Release(_))));
        assert_eq!(inflight.handle_acknowledgement(step(1, AcknowledgeStep::Received)), Progress::Release(id));
        assert_eq!(inflight.handle_acknowledgement(step(1, AcknowledgeStep::Completed)), Progress::Done);
        assert_eq!(inflight.active(), 0);
    }

    #[test]
    fn ids_wrap_past_65535_and_are_never_zero_or_reused_in_flight() {
        let limits = Limits::default();
        let mut inflight = Inflight::new(3);
        let mut seen = Vec::new();
        for _ in 0..70_000u32 {
            let id = inflight.offer(owed(Qos::AtLeastOnce), true, &limits).unwrap().packet_id.unwrap();
            seen.push(id.value());
            if seen.len() > 2 {
                let oldest = seen.remove(0);
                assert_eq!(inflight.handle_acknowledgement(step(oldest, AcknowledgeStep::Acknowledged)), Progress::Done);
            }
            assert!(seen.iter().all(|id| *id != 0));
            assert_eq!(seen.iter().collect::<std::collections::HashSet<_>>().len(), seen.len());
        }
    }

    #[test]
    fn queue_is_bounded_and_counts_what_it_drops() {
        let limits = Limits { max_session_queue: 2, ..Limits::default() };
        let mut inflight = Inflight::new(10);
        for _ in 0..5 {
            assert!(inflight.offer(owed(Qos::AtLeastOnce), false, &limits).is_none());
        }
        assert_eq!((inflight.waiting(), inflight.dropped), (2, 3));
    }
}
