//! The window of QoS > 0 deliveries of one MQTT session, and the line behind it; both outlive the connection.
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::model::command::{AcknowledgeStep, Acknowledgement};
use crate::model::delivery::Event;
use crate::model::{EventId, Limits, PacketId, Publication, PublicationId, Qos};
use crate::router::base::claim::Token;
use crate::router::base::passage::Source;
use crate::router::session::Owed;

/// A delivery that is owed until it is acknowledged.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The publication that is delivered.
    pub publication: Arc<Publication>,
    /// 1 or 2.
    pub qos: Qos,
    /// RETAIN flag.
    pub retain: bool,
    /// Subscription identifiers.
    pub subscriptions: SmallVec<[u64; 2]>,
    /// Where it comes from, and so what becomes of it after the session or the process.
    pub source: Source,
    /// An earlier process may have sent it: DUP [MQTT-3.3.1-1].
    pub again: bool,
    /// The claim of the item of a queue that it is: it goes to somebody else if this connection ends.
    pub claim: Option<Token>,
}

/// The fate of a delivery that is offered to a session.
#[derive(Debug)]
pub enum Offered {
    /// The delivery is to be sent now.
    Now(Event),
    /// The delivery waits in the session.
    Waits,
    /// The delivery is left to the history, where the session reads it in its turn.
    InHistory,
    /// The delivery is lost: the session's line is full.
    Dropped,
}

/// The effect of an acknowledgement.
#[derive(PartialEq, Eq, Debug)]
pub enum Progress {
    /// The delivery of this publication is over.
    Done(PublicationId, Source),
    /// The delivery of an item is over; true if its receiver is done with it.
    Settled(Token, bool),
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
    Sent(Outgoing),
    Released(PublicationId, Source),
    /// An earlier process sent this event under this id, as QoS 2. The event is being read again, or comes in the replay that goes on.
    Awaited(EventId, Source),
}

impl Slot {
    /// The event of the history that it stands for.
    fn event(&self) -> Option<EventId> {
        match self {
            Slot::Sent(owed) if owed.source.is_history() => owed.publication.id.event(),
            Slot::Released(id, source) if source.is_history() => id.event(),
            Slot::Awaited(id, source) if source.is_history() => Some(*id),
            _ => None,
        }
    }

    /// True for a delivery of this event, which came from there.
    fn is_of(&self, event: EventId, from: Source) -> bool {
        let (id, source) = match self {
            Slot::Free => return false,
            Slot::Sent(owed) => (owed.publication.id, owed.source),
            Slot::Released(id, source) => (*id, *source),
            Slot::Awaited(id, source) => ((*id).into(), *source),
        };
        id == event.into() && (source == from || (source.is_history() && from.is_history()))
    }
}

/// A delivery that was overtaken, or that an earlier process had begun.
#[derive(Debug)]
struct Overtaken {
    /// Its place in the order of sending.
    order: u64,
    /// True once it was sent on the connection of now.
    is_sent: bool,
    slot: Slot,
}

/// The deliveries that are older than all of `Inflight::slots`, by packet id. Most sessions have none.
#[derive(Debug, Default)]
struct Older {
    by_id: BTreeMap<u16, Overtaken>,
    /// The ids that are to be sent again, in the order of sending.
    again: VecDeque<u16>,
    last_order: u64,
}

/// In-flight window with packet ids, and the queue of what does not fit into it.
///
/// Ids are given in sequence, so `slots[i]` belongs to packet id `first + i` and finding one is arithmetic. A delivery that stays
/// unacknowledged while many behind it are over moves to `older`, so that it neither holds up the ids nor keeps room for them.
/// An id that is in use there is passed over when the sequence comes round [MQTT-2.2.1-4].
#[derive(Debug)]
pub struct Inflight {
    window: usize,
    first: u16,
    slots: VecDeque<Slot>,
    older: Option<Box<Older>>,
    /// Slots from the front that were sent on the connection of now; those behind wait for room in its window.
    sent: usize,
    /// The number of `slots[..sent]` that are not over.
    active: usize,
    active_bytes: usize,
    queue: VecDeque<Outgoing>,
    queue_bytes: usize,
    /// Deliveries lost because the queue was full.
    dropped: u64,
}

const IDS: usize = 65_535;
/// Deliveries in flight, however large the client's window: half of the ids, so that looking for a free one takes one step on average.
const MAX_IN_FLIGHT: usize = IDS / 2;
/// Slots that a window keeps, at least, before the oldest delivery counts as overtaken.
const OVERTAKEN_AT: usize = 256;

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
            older: None,
            sent: 0,
            active: 0,
            active_bytes: 0,
            queue: VecDeque::new(),
            queue_bytes: 0,
            dropped: 0,
        }
    }

    /// The client came back, with this Receive Maximum [MQTT-3.3.4-9]: everything that is owed is to be sent again.
    pub fn reconnect(&mut self, receive_maximum: u16) {
        self.window = usize::from(receive_maximum.max(1));
        self.sent = 0;
        self.active = 0;
        self.active_bytes = 0;
        if let Some(older) = &mut self.older {
            older.send_again();
        }
    }

    /// Deliveries that the client takes unacknowledged.
    pub fn window(&self) -> u32 {
        u32::try_from(self.window).unwrap_or(u32::MAX)
    }

    /// Deliveries sent and not over.
    #[cfg(test)]
    pub fn active(&self) -> usize {
        self.active
    }

    /// Deliveries lost because the line was full.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Deliveries waiting behind the window.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Takes a delivery in line: it may be sent now [MQTT-4.9.0-2], waits, or is dropped at the bound.
    pub fn offer(&mut self, owed: Outgoing, connected: bool, limits: &Limits) -> Offered {
        if connected && self.is_next(limits) {
            return self.send(owed).map_or(Offered::Dropped, Offered::Now);
        }
        let weight = owed.publication.weight();
        if self.queue.len() >= limits.max_session_queue || self.queue_bytes + weight > limits.max_session_queue_bytes {
            self.dropped += 1;
            return Offered::Dropped;
        }
        self.wait(owed);
        Offered::Waits
    }

    /// Puts a delivery behind all that waits, whatever the bounds.
    pub fn wait(&mut self, owed: Outgoing) {
        self.queue_bytes += owed.publication.weight();
        self.queue.push_back(owed);
    }

    /// True if what comes now can be sent at once.
    pub fn is_next(&self, limits: &Limits) -> bool {
        self.queue.is_empty() && self.sent == self.slots.len() && self.is_all_sent_again() && self.has_room(limits)
    }

    /// Bytes waiting behind the window.
    pub fn waiting_bytes(&self) -> usize {
        self.queue_bytes
    }

    /// The next thing to send, if the window has room. First come deliveries owed again after a reconnect, in their first order
    /// and with the same packet ids [MQTT-4.4.0-1], then those that wait. Expired messages are skipped [MQTT-3.3.2-5].
    pub fn poll_next(&mut self, now_ms: u64, limits: &Limits) -> Option<Next> {
        while self.has_room(limits) {
            let (packet_id, slot) = match self.older.as_mut().and_then(|older| older.poll_again()) {
                Some((_, Slot::Awaited(..))) => return None,
                Some(one) => one,
                None => {
                    let Some(slot) = self.slots.get(self.sent) else { break };
                    let packet_id = id_at(self.first, self.sent)?;
                    self.sent += 1;
                    (packet_id, slot)
                }
            };
            match slot {
                Slot::Free | Slot::Awaited(..) => {}
                Slot::Sent(owed) => {
                    self.active += 1;
                    self.active_bytes += owed.publication.weight();
                    // [MQTT-3.3.1-1]; what was sent does not expire [MQTT-4.3.3-7].
                    return Some(Next::Publish(event(owed, packet_id, true)));
                }
                Slot::Released(..) => {
                    // [MQTT-4.3.3-6]
                    self.active += 1;
                    return Some(Next::Release(packet_id));
                }
            }
        }
        while self.has_room(limits) {
            let owed = self.queue.pop_front()?;
            self.queue_bytes -= owed.publication.weight();
            if !owed.publication.is_expired(now_ms) {
                return self.send(owed).map(Next::Publish);
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
        self.active < self.window.min(MAX_IN_FLIGHT) && (self.active == 0 || self.active_bytes < limits.max_outbox_bytes)
    }

    /// Deliveries in `older`.
    fn overtaken(&self) -> usize {
        self.older.as_ref().map_or(0, |older| older.by_id.len())
    }

    fn is_all_sent_again(&self) -> bool {
        self.older.as_ref().is_none_or(|older| older.again.is_empty())
    }

    /// Sends for the first time, without DUP [MQTT-4.3.2-2], [MQTT-4.3.3-2], under the next packet id that is not in use
    /// [MQTT-2.2.1-4], [MQTT-4.3.2-1], [MQTT-4.3.3-1]: neither one of `slots`, nor one of `older`.
    fn send(&mut self, owed: Outgoing) -> Option<Event> {
        self.make_room();
        let mut packet_id = id_at(self.first, self.slots.len())?;
        while self.older.as_ref().is_some_and(|older| older.by_id.contains_key(&packet_id.value())) {
            self.slots.push_back(Slot::Free);
            self.sent = self.slots.len();
            self.trim();
            self.make_room();
            packet_id = id_at(self.first, self.slots.len())?;
        }
        let event = event(&owed, packet_id, owed.again);
        self.active += 1;
        self.active_bytes += owed.publication.weight();
        self.slots.push_back(Slot::Sent(owed));
        self.sent = self.slots.len();
        Some(event)
    }

    /// The receiver's next step for one delivery. 3.1.1: the steps are those of [MQTT-4.3.2-1] and [MQTT-4.3.3-1].
    pub fn handle_acknowledgement(&mut self, acknowledgement: Acknowledgement) -> Progress {
        let id = acknowledgement.packet_id;
        let index = self.index_of(id);
        // A delivery that was not sent on this connection cannot be acknowledged on it.
        let recent = self.slots.get_mut(index).filter(|slot| index < self.sent && !matches!(slot, Slot::Free));
        let is_recent = recent.is_some();
        let older = self.older.as_mut().filter(|_| !is_recent).and_then(|older| older.sent_mut(id));
        let Some(slot) = recent.or(older) else { return Progress::Unknown };
        let is_over = match (&*slot, acknowledgement.step) {
            // [MQTT-4.3.2-3]; refused or not [MQTT-4.4.0-2], it goes to nobody else [MQTT-4.8.2-6].
            (Slot::Sent(owed), AcknowledgeStep::Acknowledged | AcknowledgeStep::Declined) => owed.qos == Qos::AtLeastOnce,
            (Slot::Sent(owed), AcknowledgeStep::Received) if owed.qos == Qos::ExactlyOnce => {
                // [MQTT-4.3.3-3]
                self.active_bytes -= owed.publication.weight();
                *slot = Slot::Released(owed.publication.id, owed.source);
                return Progress::Release(id);
            }
            (Slot::Released(..), AcknowledgeStep::Received) => return Progress::Release(id),
            (Slot::Sent(owed), AcknowledgeStep::Rejected) => owed.qos == Qos::ExactlyOnce,
            (Slot::Released(..), AcknowledgeStep::Completed) => true, // [MQTT-4.3.3-5]
            _ => false,
        };
        if !is_over {
            return Progress::Violation;
        }
        let mut claim = None;
        let (publication, source) = match std::mem::replace(slot, Slot::Free) {
            Slot::Sent(owed) => {
                self.active_bytes -= owed.publication.weight();
                claim = owed.claim;
                (owed.publication.id, owed.source)
            }
            Slot::Released(id, source) => (id, source),
            Slot::Free | Slot::Awaited(..) => (PublicationId(0), Source::Other),
        };
        self.active -= 1;
        self.trim();
        if let Some(older) = self.older.as_mut().filter(|_| !is_recent) {
            older.by_id.remove(&id.value());
            self.older = self.older.take().filter(|older| !older.by_id.is_empty());
        }
        let is_done = acknowledgement.step != AcknowledgeStep::Declined;
        claim.map_or(Progress::Done(publication, source), |claim| Progress::Settled(claim, is_done))
    }

    /// The oldest event of the history that is not over.
    pub fn first_unfinished(&self) -> Option<EventId> {
        let waiting = self.queue.iter().filter(|owed| owed.source.is_history());
        let waiting = waiting.filter_map(|owed| owed.publication.id.event());
        self.all().filter_map(Slot::event).chain(waiting).min()
    }

    /// The last event of the history among those that were sent and are not over.
    pub fn last_sent(&self) -> Option<EventId> {
        self.all().filter_map(Slot::event).max()
    }

    /// Events of the history that are not over.
    pub fn unfinished(&self) -> usize {
        let waiting = self.queue.iter().filter(|owed| owed.source.is_history()).count();
        self.all().filter(|slot| slot.event().is_some()).count() + waiting
    }

    /// Deliveries that are not over, and the bytes of their payloads.
    pub fn held(&self) -> Owed {
        let mut held = Owed::default();
        for slot in self.all().filter(|slot| !matches!(slot, Slot::Free)) {
            let bytes = if let Slot::Sent(owed) = slot { owed.publication.payload.len() as u64 } else { 0 };
            held.add(&Owed { messages: 1, bytes, in_flight: 1 });
        }
        let bytes = self.queue.iter().map(|owed| owed.publication.payload.len() as u64).sum();
        held.add(&Owed { messages: self.queue.len() as u64, bytes, in_flight: 0 });
        held
    }

    /// The deliveries in `older`, in the order of their ids.
    fn older(&self) -> impl Iterator<Item = (u16, &Overtaken)> {
        self.older.iter().flat_map(|older| older.by_id.iter().map(|(id, one)| (*id, one)))
    }

    /// Every delivery that has begun.
    fn all(&self) -> impl Iterator<Item = &Slot> {
        self.older().map(|(_, one)| &one.slot).chain(&self.slots)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        let older = self.older.iter_mut().flat_map(|older| older.by_id.values_mut().map(|one| &mut one.slot));
        older.chain(&mut self.slots)
    }

    /// Every delivery that has begun, with its id; first those of `older`, in the order of sending.
    fn with_ids(&self) -> impl Iterator<Item = (PacketId, &Slot)> {
        let mut older: Vec<_> = self.older().collect();
        older.sort_by_key(|(_, one)| one.order);
        let older = older.into_iter().filter_map(|(id, one)| Some((PacketId::new(id)?, &one.slot)));
        let recent = (0..).zip(&self.slots).filter_map(|(index, slot)| Some((id_at(self.first, index)?, slot)));
        older.chain(recent)
    }

    /// The QoS 2 deliveries of stored events that have begun, but for those of shared subscriptions without PUBREC.
    pub fn begun(&self) -> impl Iterator<Item = (PacketId, EventId, Begun)> {
        self.with_ids().filter_map(|(packet_id, slot)| match slot {
            Slot::Sent(owed) if owed.qos == Qos::ExactlyOnce && owed.source == Source::Replayed => {
                Some((packet_id, owed.publication.id.event()?, Begun::ReplayedSent))
            }
            Slot::Sent(owed) if owed.qos == Qos::ExactlyOnce => Some((packet_id, slot.event()?, Begun::Sent)),
            Slot::Sent(_) | Slot::Free => None,
            Slot::Released(id, Source::Shared(_)) => Some((packet_id, id.event()?, Begun::SharedReceived)),
            Slot::Released(id, Source::Replayed) => Some((packet_id, id.event()?, Begun::ReplayedReceived)),
            Slot::Released(..) => Some((packet_id, slot.event()?, Begun::Received)),
            Slot::Awaited(event, Source::Replayed) => Some((packet_id, *event, Begun::ReplayedSent)),
            Slot::Awaited(event, _) => Some((packet_id, *event, Begun::Sent)),
        })
    }

    /// The oldest packet id of those given in sequence, or the next.
    pub fn first_id(&self) -> PacketId {
        id_at(self.first, 0).unwrap_or(PacketId(NonZeroU16::MIN))
    }

    /// Where an earlier process was in the sequence of ids.
    pub fn restore_first(&mut self, packet_id: PacketId) {
        self.first = packet_id.value();
    }

    /// A delivery that had begun in an earlier process.
    pub fn restore_begun(&mut self, packet_id: PacketId, event: EventId, step: Begun) {
        let source = match step {
            Begun::Sent | Begun::Received => Source::Past,
            Begun::SharedReceived => Source::Shared(u32::MAX),
            Begun::ReplayedSent | Begun::ReplayedReceived => Source::Replayed,
        };
        self.restore_awaited(packet_id, event, source);
        if matches!(step, Begun::Received | Begun::SharedReceived | Begun::ReplayedReceived) {
            self.restore_received(packet_id);
        }
    }

    /// The delivery with this id, sent or not.
    fn slot_mut(&mut self, packet_id: PacketId) -> Option<&mut Slot> {
        let index = self.index_of(packet_id);
        let recent = self.slots.get_mut(index).filter(|slot| !matches!(slot, Slot::Free));
        recent.or(self.older.as_mut().and_then(|older| older.by_id.get_mut(&packet_id.value())).map(|one| &mut one.slot))
    }

    fn index_of(&self, packet_id: PacketId) -> usize {
        (usize::from(packet_id.value()) + IDS - usize::from(self.first)) % IDS
    }

    /// The deliveries owed through shared subscriptions, with the packet id of QoS 2 that was sent.
    pub fn shared(&self) -> impl Iterator<Item = (Option<PacketId>, &Outgoing)> {
        let sent = self.with_ids().filter_map(|(id, slot)| match slot {
            Slot::Sent(owed) => Some((Some(id).filter(|_| owed.qos == Qos::ExactlyOnce), owed)),
            _ => None,
        });
        sent.chain(self.queue.iter().map(|owed| (None, owed))).filter(|(_, owed)| matches!(owed.source, Source::Shared(_)))
    }

    /// Where the event that was sent under this id comes from.
    pub fn source_of(&self, packet_id: PacketId) -> Option<Source> {
        let recent = self.slots.get(self.index_of(packet_id)).filter(|slot| !matches!(slot, Slot::Free));
        let older = || Some(&self.older.as_ref()?.by_id.get(&packet_id.value())?.slot);
        match recent.or_else(older)? {
            Slot::Sent(owed) => Some(owed.source),
            _ => None,
        }
    }

    /// The first that waits of this share group.
    pub fn first_waiting(&self, group: u32) -> Option<&Outgoing> {
        self.queue.iter().find(|owed| owed.source == Source::Shared(group))
    }

    /// True if something of this share group waits, and one more of so many bytes may.
    pub fn has_line(&self, group: u32, bytes: usize, limits: &Limits) -> bool {
        let has_room = self.queue.len() < limits.max_session_queue && self.queue_bytes + bytes <= limits.max_session_queue_bytes;
        has_room && self.first_waiting(group).is_some()
    }

    /// Takes it out of the line.
    pub fn take_first_waiting(&mut self, group: u32) -> Option<Outgoing> {
        let index = self.queue.iter().position(|owed| owed.source == Source::Shared(group))?;
        let owed = self.queue.remove(index)?;
        self.queue_bytes -= owed.publication.weight();
        Some(owed)
    }

    /// The connection has ended: takes out what is owed through these share groups and may go to another member (4.8.2), in the order of
    /// sending. QoS 2 that was sent stays [MQTT-4.8.2-5].
    pub fn take_shared(&mut self, may_go: impl Fn(u32) -> bool) -> Vec<(u32, Outgoing)> {
        let group_of = |owed: &Outgoing| match owed.source {
            Source::Shared(group) if may_go(group) => Some(group),
            _ => None,
        };
        let mut older: Vec<_> = self.older.iter_mut().flat_map(|older| older.by_id.values_mut()).collect();
        older.sort_by_key(|one| one.order);
        let mut taken = Vec::new();
        for slot in older.into_iter().map(|one| &mut one.slot).chain(&mut self.slots) {
            if let Slot::Sent(owed) = slot
                && owed.qos == Qos::AtLeastOnce
                && let Some(group) = group_of(owed)
                && let Slot::Sent(owed) = std::mem::replace(slot, Slot::Free)
            {
                taken.push((group, owed));
            }
        }
        for owed in std::mem::take(&mut self.queue) {
            match group_of(&owed) {
                Some(group) => taken.push((group, owed)),
                None => self.queue.push_back(owed),
            }
        }
        self.queue_bytes = self.queue.iter().map(|owed| owed.publication.weight()).sum();
        self.trim();
        self.forget_older();
        taken
    }

    /// Takes what waits of this publication, and came through a shared subscription, out of the line.
    pub fn take_waiting(&mut self, publication: PublicationId) -> Option<Outgoing> {
        let is_it = |owed: &Outgoing| owed.publication.id == publication && matches!(owed.source, Source::Shared(_));
        let index = self.queue.iter().position(is_it)?;
        let owed = self.queue.remove(index)?;
        self.queue_bytes -= owed.publication.weight();
        Some(owed)
    }

    /// An earlier process sent this event as QoS 2 under this packet id.
    pub fn restore_sent(&mut self, packet_id: PacketId, event: EventId, owed: Outgoing) {
        self.restore_slot(packet_id, event, Slot::Sent(owed));
    }

    /// The same, of an event that is not at hand: it comes from there again.
    pub fn restore_awaited(&mut self, packet_id: PacketId, event: EventId, source: Source) {
        self.restore_slot(packet_id, event, Slot::Awaited(event, source));
    }

    fn restore_slot(&mut self, packet_id: PacketId, event: EventId, slot: Slot) {
        // Ids go round: one that is less than half a round ahead was given later than `first`, the others before.
        let ahead = self.index_of(packet_id);
        if ahead < IDS / 2 {
            self.first = id_at(self.first, ahead + 1).map_or(1, PacketId::value);
        }
        self.older.get_or_insert_default().put(packet_id.value(), slot, event.value(), false);
    }

    /// An event that an earlier process may have sent has been read; gives it back if it was not sent under a packet id that is
    /// known.
    pub fn restore_read(&mut self, owed: Outgoing) -> Option<Outgoing> {
        let Some(event) = owed.publication.id.event() else { return Some(owed) };
        match self.all_mut().find(|slot| slot.is_of(event, owed.source)) {
            Some(slot @ Slot::Awaited(..)) => *slot = Slot::Sent(owed),
            // The client has it.
            Some(_) => {}
            None => return Some(owed),
        }
        None
    }

    /// Deliveries that an earlier process sent up to this event cannot be read any more: with PUBREL both sides forget them.
    pub fn give_up_awaited(&mut self, until: EventId) {
        self.give_up(|event, source| source.is_history() && event <= until);
    }

    /// No replay is left in which the events could come that an earlier process sent.
    pub fn give_up_replayed(&mut self) {
        self.give_up(|_, source| source == Source::Replayed);
    }

    fn give_up(&mut self, is_lost: impl Fn(EventId, Source) -> bool) {
        for slot in self.all_mut() {
            if let Slot::Awaited(event, source) = slot
                && is_lost(*event, *source)
            {
                *slot = Slot::Released((*event).into(), *source);
            }
        }
    }

    /// True if an event is to be sent again that has not been read in the history.
    pub fn is_awaiting(&self) -> bool {
        self.all().any(|slot| matches!(slot, Slot::Awaited(_, source) if source.is_history()))
    }

    /// True if an event is to be sent again that has not come in a replay.
    pub fn is_awaiting_replay(&self) -> bool {
        self.older().any(|(_, one)| matches!(one.slot, Slot::Awaited(_, Source::Replayed)))
    }

    /// The client was connected to an earlier process: what waits may have been sent. Not so with QoS 2: what was sent is on
    /// record with its packet id, and waits no more.
    pub fn restore_connected(&mut self) {
        self.queue.iter_mut().for_each(|owed| owed.again = owed.qos == Qos::AtLeastOnce);
    }

    /// An earlier process heard that the QoS 2 delivery under this packet id was received.
    pub fn restore_received(&mut self, packet_id: PacketId) {
        if let Some(slot) = self.slot_mut(packet_id) {
            match slot {
                Slot::Sent(owed) => *slot = Slot::Released(owed.publication.id, owed.source),
                Slot::Awaited(event, source) => *slot = Slot::Released((*event).into(), *source),
                Slot::Free | Slot::Released(..) => {}
            }
        }
    }

    /// An earlier process heard that these deliveries are over.
    pub fn restore_finished(&mut self, is_over: impl Fn(PublicationId, Source) -> bool) {
        self.queue.retain(|owed| !is_over(owed.publication.id, owed.source));
        self.queue_bytes = self.queue.iter().map(|owed| owed.publication.weight()).sum();
        for slot in self.all_mut() {
            let (id, source) = match slot {
                Slot::Sent(owed) => (owed.publication.id, owed.source),
                Slot::Released(id, source) => (*id, *source),
                Slot::Awaited(event, source) => ((*event).into(), *source),
                Slot::Free => continue,
            };
            if is_over(id, source) {
                *slot = Slot::Free;
            }
        }
        self.trim();
        self.forget_older();
    }

    /// Drops what waits above the bounds, the oldest first.
    pub fn trim_to(&mut self, limits: &Limits) {
        while self.queue.len() > limits.max_session_queue || self.queue_bytes > limits.max_session_queue_bytes {
            let Some(owed) = self.queue.pop_front() else { break };
            self.queue_bytes -= owed.publication.weight();
            self.dropped += 1;
        }
    }

    /// Items of queues are owed to a connection, not to its session: what was sent of them is not sent again, and what waits is
    /// not sent at all.
    pub fn forget_claims(&mut self) {
        let older = self.older.iter_mut().flat_map(|older| older.by_id.values_mut());
        let older = older.map(|one| (one.is_sent, &mut one.slot));
        let recent = (0..).zip(&mut self.slots).map(|(index, slot): (usize, _)| (index < self.sent, slot));
        for (is_sent, slot) in older.chain(recent) {
            let Slot::Sent(Outgoing { claim: Some(_), publication, .. }) = slot else { continue };
            if is_sent {
                self.active -= 1;
                self.active_bytes -= publication.weight();
            }
            *slot = Slot::Free;
        }
        self.trim();
        self.forget_older();
        self.queue.retain(|owed| owed.claim.is_none());
        self.queue_bytes = self.queue.iter().map(|owed| owed.publication.weight()).sum();
    }

    /// Moves the oldest deliveries to `older` where most behind them are over.
    fn make_room(&mut self) {
        let live = self.active.saturating_sub(self.overtaken());
        let most = OVERTAKEN_AT.max(4 * live).min(MAX_IN_FLIGHT);
        while self.sent == self.slots.len() && self.slots.len() >= most {
            let Some(slot) = self.slots.pop_front() else { return };
            let packet_id = self.first;
            self.sent -= 1;
            self.first = id_at(self.first, 1).map_or(1, PacketId::value);
            let older = self.older.get_or_insert_default();
            let order = older.last_order + 1;
            older.put(packet_id, slot, order, true);
            self.trim();
        }
    }

    /// Forgets of `older` what is over.
    fn forget_older(&mut self) {
        let Some(older) = &mut self.older else { return };
        let Older { by_id, again, .. } = &mut **older;
        by_id.retain(|_, one| !matches!(one.slot, Slot::Free));
        again.retain(|id| by_id.contains_key(id));
        if by_id.is_empty() {
            self.older = None;
        }
    }

    fn trim(&mut self) {
        while matches!(self.slots.front(), Some(Slot::Free)) {
            self.slots.pop_front();
            self.sent = self.sent.saturating_sub(1);
            self.first = id_at(self.first, 1).map_or(1, PacketId::value);
        }
        if self.slots.is_empty() && self.slots.capacity() > 64 {
            self.slots.shrink_to(16);
        }
    }

    /// Ends the window: what was owed through shared subscriptions and may go to another member (4.8.2).
    /// QoS 2 that was sent stays with its member [MQTT-4.8.2-5].
    pub fn into_shared(self) -> impl Iterator<Item = (u32, Outgoing)> {
        let mut older: Vec<_> = self.older.map(|older| older.by_id.into_values().collect()).unwrap_or_default();
        older.sort_by_key(|one| one.order);
        let sent = older.into_iter().map(|one| one.slot).chain(self.slots).filter_map(|slot| match slot {
            Slot::Sent(owed) if owed.qos == Qos::AtLeastOnce => Some(owed),
            _ => None,
        });
        sent.chain(self.queue).filter_map(|owed| match owed.source {
            Source::Shared(group) => Some((group, owed)),
            _ => None,
        })
    }
}

impl Older {
    fn put(&mut self, packet_id: u16, slot: Slot, order: u64, is_sent: bool) {
        self.last_order = self.last_order.max(order);
        self.by_id.insert(packet_id, Overtaken { order, is_sent, slot });
        if !is_sent {
            self.again.push_back(packet_id);
        }
    }

    /// All of it is to be sent on a new connection, in the order in which it was sent [MQTT-4.6.0-1].
    fn send_again(&mut self) {
        self.by_id.values_mut().for_each(|one| one.is_sent = false);
        let mut again: Vec<_> = self.by_id.iter().map(|(id, one)| (one.order, *id)).collect();
        again.sort_unstable();
        self.again = again.into_iter().map(|(_, id)| id).collect();
    }

    /// The next that is to be sent again; one that is still to be read stays the next.
    fn poll_again(&mut self) -> Option<(PacketId, &Slot)> {
        let id = *self.again.front()?;
        let one = self.by_id.get_mut(&id)?;
        if !matches!(one.slot, Slot::Awaited(..)) {
            one.is_sent = true;
            self.again.pop_front();
        }
        Some((PacketId::new(id)?, &one.slot))
    }

    /// The delivery with this id, if it was sent on the connection of now.
    fn sent_mut(&mut self, packet_id: PacketId) -> Option<&mut Slot> {
        let one = self.by_id.get_mut(&packet_id.value())?;
        (one.is_sent && !matches!(one.slot, Slot::Free)).then_some(&mut one.slot)
    }
}

/// The progress of a QoS 2 delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub enum Begun {
    /// PUBLISH was sent.
    Sent,
    /// PUBREC has come.
    Received,
    /// The same, of one that came through a shared subscription.
    SharedReceived,
    /// PUBLISH was sent, of a replay.
    ReplayedSent,
    /// PUBREC has come, of a replay.
    ReplayedReceived,
}

/// One thing to send.
#[derive(Debug)]
pub enum Next {
    /// PUBLISH, with DUP if it is sent again.
    Publish(Event),
    /// PUBREL.
    Release(PacketId),
}

fn event(owed: &Outgoing, packet_id: PacketId, duplicate: bool) -> Event {
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

    fn now(offered: Offered) -> Option<Event> {
        match offered {
            Offered::Now(event) => Some(event),
            _ => None,
        }
    }

    fn owed(qos: Qos) -> Outgoing {
        let topic = Topic::from_mqtt("t").unwrap();
        let publication = Arc::new(Publication::new(topic, Payload::empty(), qos));
        Outgoing {
            publication,
            qos,
            retain: false,
            subscriptions: SmallVec::new(),
            source: Source::Other,
            claim: None,
            again: false,
        }
    }

    fn id(next: Option<Next>) -> Option<u16> {
        match next? {
            Next::Publish(event) => event.packet_id.map(PacketId::value),
            Next::Release(packet_id) => Some(packet_id.value()),
        }
    }

    fn step(id: u16, step: AcknowledgeStep) -> Acknowledgement {
        Acknowledgement { packet_id: PacketId::new(id).unwrap(), step }
    }

    #[test]
    fn window_bounds_what_is_sent_and_keeps_order() {
        let limits = Limits::default();
        let mut inflight = Inflight::new(2);
        let ids: Vec<_> = (0..4).map(|_| now(inflight.offer(owed(Qos::AtLeastOnce), true, &limits))).collect();
        assert_eq!(ids.iter().filter(|e| e.is_some()).count(), 2);
        assert_eq!(
            inflight.handle_acknowledgement(step(2, AcknowledgeStep::Acknowledged)),
            Progress::Done(PublicationId(0), Source::Other)
        );
        assert_eq!(id(inflight.poll_next(0, &limits)), Some(3));
        assert!(inflight.poll_next(0, &limits).is_none());
        assert_eq!(inflight.handle_acknowledgement(step(2, AcknowledgeStep::Acknowledged)), Progress::Unknown);
        // Back with a smaller window: the same ids, one after the other.
        inflight.reconnect(1);
        assert_eq!(id(inflight.poll_next(0, &limits)), Some(1));
        assert!(inflight.poll_next(0, &limits).is_none());
        assert_eq!(inflight.handle_acknowledgement(step(3, AcknowledgeStep::Acknowledged)), Progress::Unknown);
        for next in [3, 4] {
            assert_eq!(
                inflight.handle_acknowledgement(step(next - 1 - u16::from(next == 3), AcknowledgeStep::Acknowledged)),
                Progress::Done(PublicationId(0), Source::Other)
            );
            assert_eq!(id(inflight.poll_next(0, &limits)), Some(next));
        }
    }

    #[test]
    fn exactly_once_goes_through_release() {
        let limits = Limits::default();
        let mut inflight = Inflight::new(10);
        now(inflight.offer(owed(Qos::ExactlyOnce), true, &limits)).unwrap();
        assert_eq!(inflight.handle_acknowledgement(step(1, AcknowledgeStep::Completed)), Progress::Violation);
        assert_eq!(inflight.handle_acknowledgement(step(1, AcknowledgeStep::Acknowledged)), Progress::Violation);
        let id = PacketId::new(1).unwrap();
        assert_eq!(inflight.handle_acknowledgement(step(1, AcknowledgeStep::Received)), Progress::Release(id));
        inflight.reconnect(10);
        assert!(matches!(inflight.poll_next(0, &limits), Some(Next::Release(_))));
        assert_eq!(inflight.handle_acknowledgement(step(1, AcknowledgeStep::Received)), Progress::Release(id));
        assert_eq!(
            inflight.handle_acknowledgement(step(1, AcknowledgeStep::Completed)),
            Progress::Done(PublicationId(0), Source::Other)
        );
        assert_eq!(inflight.active(), 0);
    }

    /// [MQTT-2.2.1-4], [MQTT-4.3.2-1], [MQTT-4.3.3-1]
    #[test]
    fn ids_wrap_past_65535_and_are_never_zero_or_reused_in_flight() {
        let limits = Limits::default();
        let mut inflight = Inflight::new(3);
        let mut seen = Vec::new();
        for _ in 0..70_000u32 {
            let id = now(inflight.offer(owed(Qos::AtLeastOnce), true, &limits)).unwrap().packet_id.unwrap();
            seen.push(id.value());
            if seen.len() > 2 {
                let oldest = seen.remove(0);
                assert_eq!(
                    inflight.handle_acknowledgement(step(oldest, AcknowledgeStep::Acknowledged)),
                    Progress::Done(PublicationId(0), Source::Other)
                );
            }
            assert!(seen.iter().all(|id| *id != 0));
            assert_eq!(seen.iter().collect::<std::collections::HashSet<_>>().len(), seen.len());
        }
    }

    /// Deliveries in flight by id, in the order of sending, as a client sees them.
    #[derive(Default)]
    struct Client {
        held: Vec<(u16, u64)>,
        ids: std::collections::HashSet<u16>,
    }

    impl Client {
        fn receive(&mut self, event: &Event) {
            let id = event.packet_id.unwrap().value();
            assert!(id != 0 && self.ids.insert(id), "id {id} is in use [MQTT-2.2.1-4]");
            self.held.push((id, event.publication.id.0));
        }

        /// Acknowledges the delivery at this place of `held`.
        fn acknowledge(&mut self, at: usize, inflight: &mut Inflight) {
            let (id, number) = self.held.remove(at);
            self.ids.remove(&id);
            let progress = inflight.handle_acknowledgement(step(id, AcknowledgeStep::Acknowledged));
            assert_eq!(progress, Progress::Done(PublicationId(number), Source::Other));
            assert_eq!(inflight.handle_acknowledgement(step(id, AcknowledgeStep::Acknowledged)), Progress::Unknown);
        }
    }

    fn numbered(number: u64) -> Outgoing {
        let mut owed = owed(Qos::AtLeastOnce);
        Arc::get_mut(&mut owed.publication).unwrap().id = PublicationId(number);
        owed
    }

    fn roomy() -> Limits {
        Limits { max_outbox_bytes: usize::MAX, ..Limits::default() }
    }

    /// Sends `count` deliveries through a window, of which those that `keeps` names are never acknowledged.
    fn overtake(window: u16, count: u64, keeps: impl Fn(u64) -> bool) -> (Inflight, Client) {
        let limits = roomy();
        let (mut inflight, mut client) = (Inflight::new(window), Client::default());
        for number in 1..=count {
            let sent = now(inflight.offer(numbered(number), true, &limits));
            client.receive(&sent.expect("there is room in the window"));
            if !keeps(number) {
                client.acknowledge(client.held.len() - 1, &mut inflight);
            }
        }
        (inflight, client)
    }

    #[test]
    fn deliveries_that_stay_unacknowledged_stop_nothing() {
        for keeps in [1, 7, 20_000, 65_500] {
            let (mut inflight, mut client) = overtake(100, 140_000, |number| number % 65_535 == keeps);
            assert_eq!((inflight.active(), client.held.len()), if keeps < 8_000 { (3, 3) } else { (2, 2) });
            assert!(inflight.slots.len() <= OVERTAKEN_AT, "what is over is not kept");
            while !client.held.is_empty() {
                client.acknowledge(0, &mut inflight);
            }
            assert_eq!((inflight.active(), inflight.active_bytes), (0, 0));
            assert!(inflight.older.is_none());
        }
    }

    #[test]
    fn a_window_of_all_ids_holds_half_of_them() {
        let (mut inflight, mut client) =
            overtake(u16::MAX, 110_000, |number| number % 3 == 0 && number / 3 < MAX_IN_FLIGHT as u64);
        assert_eq!(client.held.len(), MAX_IN_FLIGHT - 1);
        let limits = roomy();
        client.receive(&now(inflight.offer(numbered(110_001), true, &limits)).expect("there is room for one"));
        assert!(now(inflight.offer(numbered(110_002), true, &limits)).is_none(), "there is room for none");
    }

    #[test]
    fn what_was_overtaken_is_sent_again_first_and_in_order() {
        let limits = Limits::default();
        let (mut inflight, client) = overtake(10, 150_000, |number| matches!(number, 5 | 70_000 | 149_999 | 150_000));
        now(inflight.offer(numbered(150_001), false, &limits));
        inflight.reconnect(10);
        assert!(!inflight.is_next(&limits));
        let mut again = Vec::new();
        while let Some(Next::Publish(event)) = inflight.poll_next(0, &limits) {
            again.push((event.packet_id.unwrap().value(), event.publication.id.0, event.duplicate));
        }
        let expected = client.held.iter().map(|(id, number)| (*id, *number, true));
        assert_eq!(again[..4], expected.collect::<Vec<_>>());
        assert_eq!((again.len(), again[4].1, again[4].2), (5, 150_001, false));
    }

    #[test]
    fn ids_of_an_earlier_process_are_passed_over() {
        let limits = Limits::default();
        let mut inflight = Inflight::new(10);
        inflight.restore_first(PacketId::new(65_534).unwrap());
        for (id, event) in [(65_534, 11), (2, 13), (40_000, 7)] {
            inflight.restore_begun(PacketId::new(id).unwrap(), EventId::new(event).unwrap(), Begun::Received);
        }
        inflight.reconnect(10);
        let again: Vec<_> = std::iter::from_fn(|| id(inflight.poll_next(0, &limits))).collect();
        assert_eq!(again, [40_000, 65_534, 2], "in the order of the events");
        let next = now(inflight.offer(owed(Qos::ExactlyOnce), true, &limits)).unwrap();
        assert_eq!(next.packet_id, PacketId::new(3));
    }

    proptest::proptest! {
        /// Acknowledgements in any order, over reconnects, lead to no id twice, nothing lost and no standstill.
        #[test]
        fn any_order_of_acknowledgements(
            window in 1_u16..400,
            steps in proptest::collection::vec((0_u8..40, 0_usize..10_000), 1..4_000),
        ) {
            let limits = Limits::default();
            let (mut inflight, mut client, mut number) = (Inflight::new(window), Client::default(), 0);
            for (what, which) in steps {
                match what {
                    0 => {
                        inflight.reconnect(window);
                        let before = std::mem::take(&mut client.held);
                        client.ids.clear();
                        while let Some(Next::Publish(event)) = inflight.poll_next(0, &limits) {
                            client.receive(&event);
                        }
                        assert_eq!(client.held, before);
                    }
                    1..25 => {
                        number += 1;
                        let event = now(inflight.offer(numbered(number), true, &limits));
                        assert_eq!(event.is_some(), client.held.len() < usize::from(window));
                        match event {
                            Some(event) => client.receive(&event),
                            None => { inflight.queue.clear(); inflight.queue_bytes = 0; }
                        }
                    }
                    // Mostly the newest, so that the others are overtaken.
                    _ if !client.held.is_empty() => {
                        let last = client.held.len() - 1;
                        let at = if which % 50 == 0 { which % client.held.len() } else { last };
                        client.acknowledge(at, &mut inflight);
                    }
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn queue_is_bounded_and_counts_what_it_drops() {
        let limits = Limits { max_session_queue: 2, ..Limits::default() };
        let mut inflight = Inflight::new(10);
        for _ in 0..5 {
            assert!(now(inflight.offer(owed(Qos::AtLeastOnce), false, &limits)).is_none());
        }
        assert_eq!((inflight.waiting(), inflight.dropped), (2, 3));
    }
}
