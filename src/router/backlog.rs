//! What a session that stays is owed of the history: how far it has come, and no copy of what is behind that.
//!
//! As long as its client keeps up, events go from the realm into its window. What does not fit into a short line, or comes while the
//! client is away, is left where it is: the session is behind, and reads on in the history when it has room. What is over is a cursor
//! (everything up to it) and the few events that were over before older ones. A restart needs no more than that.
use std::sync::Arc;

use super::Router;
use super::deliver::Passage;
use super::effect::ReadForm;
use super::inflight::{Inflight, Owed, Source};
use super::past::{Catching, PAGE_BYTES, PAGE_EVENTS, Turn, together};
use super::read::{Purpose, is_visible};
use super::session::{Session, SessionKey};
use crate::model::query::{Page, Query, ReadTicket};
use crate::model::record::Flags;
use crate::model::{ConnectionId, Delivery, EventId, Limits, Publication, Qos, Reason, Record, SubscriptionId};

/// Events that wait in memory for a client that is connected, and their bytes.
const LINE_EVENTS: usize = 4_096;
const LINE_BYTES: usize = 1024 * 1024;

/// The same for one that is away.
const AWAY_EVENTS: usize = 64;
const AWAY_BYTES: usize = 64 * 1024;

/// A session that is behind reads on when no more than this waits for its window.
const LOW_EVENTS: usize = 32;

/// Filters that a read asks for; a session with more reads everything.
const MAX_FILTERS: usize = 256;

/// How far a session has come in the history.
#[derive(Debug, Default)]
pub struct Backlog {
    /// Where it goes on reading, if it is behind.
    catching: Option<Catching<Owed>>,
    reading: Option<ReadTicket>,
    /// Events that were for it, ever, and those of them that are over.
    routed: u64,
    done: u64,
    /// Events that are over, though older ones are not.
    over: Ranges,
    /// Some of what it was to read is not kept any more.
    has_gap: bool,
    /// Up to here events may have been sent by an earlier process.
    sent_until: Option<EventId>,
}

/// What is said of it in a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Standing {
    /// Up to here everything is over, by number.
    pub cursor: u64,
    /// Behind that, these are over: from and to, both included.
    pub over: Vec<(u64, u64)>,
    /// Events that were over, ever.
    pub done: u64,
}

/// Sets of numbers, as ranges that neither touch nor overlap, in order; both ends are included.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    fn has(&self, number: u64) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < number);
        self.0.get(at).is_some_and(|(first, _)| *first <= number)
    }

    fn add(&mut self, more: &[(u64, u64)]) {
        let mut all = std::mem::take(&mut self.0);
        all.extend_from_slice(more);
        all.sort_unstable();
        for (first, last) in all {
            match self.0.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => self.0.push((first, last)),
            }
        }
    }

    fn forget_until(&mut self, number: u64) {
        self.0.retain(|(_, last)| *last > number);
        if let Some((first, _)) = self.0.first_mut() {
            *first = (*first).max(number.saturating_add(1));
        }
    }
}

impl Backlog {
    /// Of a session that an earlier process had: behind from this event on, until it is known better.
    pub(super) fn restored(after: Option<EventId>) -> Self {
        Backlog { catching: Some(Catching::after(after)), ..Backlog::default() }
    }

    /// True if there is something to be read for it, sooner or later.
    #[cfg(test)]
    fn is_behind(&self) -> bool {
        self.catching.is_some()
    }

    /// Decides on an event as it happens: gives it back if it goes into the line of the session.
    fn take(&mut self, owed: Owed, inflight: &Inflight, is_connected: bool, limits: &Limits) -> Option<Owed> {
        let Some(id) = EventId::new(owed.publication.id.0) else { return Some(owed) };
        self.routed += 1;
        if let Some(catching) = &mut self.catching {
            return match catching.turn_of(Some(id), owed.publication.weight(), || owed.clone()) {
                Turn::Now => Some(owed),
                Turn::Later => None,
            };
        }
        let (events, bytes) = if is_connected { (LINE_EVENTS, LINE_BYTES) } else { (AWAY_EVENTS, AWAY_BYTES) };
        let events = events.min(limits.max_session_queue);
        if (is_connected && inflight.is_next(limits)) || (inflight.waiting() < events && inflight.waiting_bytes() < bytes) {
            return Some(owed);
        }
        self.catching = Some(Catching::after(id.previous()));
        None
    }

    /// Events that are over since the last time, and what to say of it all.
    fn note(&mut self, finished: &[(u64, u64)], cursor: u64) -> Standing {
        self.over.add(finished);
        self.over.forget_until(cursor);
        Standing { cursor, over: self.over.0.clone(), done: self.done }
    }

    /// What an earlier process has said of it.
    pub(super) fn restore(&mut self, standing: Standing) {
        self.over = Ranges(standing.over);
        self.done = standing.done;
        let cursor = EventId::new(standing.cursor);
        self.catching = Some(Catching::after(cursor));
        self.over.forget_until(standing.cursor);
    }

    /// True if this event was over in an earlier process.
    pub(super) fn is_over(&self, id: EventId) -> bool {
        self.catching.as_ref().is_some_and(|catching| Some(id) <= catching.cursor()) || self.over.has(id.value())
    }

    /// An event is over.
    pub(super) fn note_done(&mut self, id: EventId) {
        self.done += 1;
        // What an earlier process sent may be over before it is read again.
        if self.catching.as_ref().is_some_and(|catching| Some(id) > catching.cursor()) {
            self.over.add(&[(id.value(), id.value())]);
        }
    }

    /// Events that were for it, ever.
    pub(super) fn routed(&self) -> u64 {
        self.routed
    }

    /// What is known of it besides where it stands.
    pub(super) fn restore_routed(&mut self, routed: u64, sent_until: Option<EventId>) {
        self.routed = routed;
        self.sent_until = sent_until;
    }

    /// Events up to this one may have been sent to the client, which has not said that it has them.
    pub(super) fn note_sent_until(&mut self, id: Option<EventId>) {
        self.sent_until = id;
    }
}

impl Session {
    /// The last event that its client may have been sent and has not acknowledged.
    pub(super) fn sent_until(&self) -> Option<EventId> {
        // Of what an earlier process sent it is not known what it has been sent again.
        self.inflight.last_sent().max(self.backlog.as_ref().and_then(|backlog| backlog.sent_until))
    }

    /// Puts a delivery in line, or leaves it to the history; an event that can be sent at once comes back.
    pub(super) fn put_in_line(&mut self, owed: Owed, limits: &Limits) -> Option<crate::model::delivery::Event> {
        let is_connected = self.connection.is_some();
        if self.is_replayed && owed.source != Source::Live {
            // What was acknowledged is taken out of the line later than it came in.
            self.inflight.wait(owed);
            return None;
        }
        let owed = match self.backlog.as_deref_mut().filter(|_| owed.source == Source::Live) {
            Some(backlog) => backlog.take(owed, &self.inflight, is_connected, limits)?,
            None => owed,
        };
        self.inflight.offer(owed, is_connected, limits)
    }
}

impl Router {
    /// From now on there is a history to read: sessions that stay need no copies of it.
    pub fn keep_history(&mut self) {
        self.has_history = true;
    }

    /// A session that stays is one that may be behind.
    pub(super) fn start_backlog(&mut self, key: SessionKey) {
        let has_history = self.has_history;
        if let Some(session) = self.sessions.at_mut(key).filter(|session| has_history && session.is_recorded) {
            session.backlog.get_or_insert_default();
        }
    }

    /// What of the history is over for a session, by now: for the record.
    pub(super) fn standing_of(&mut self, key: SessionKey, finished: &[(u64, u64)]) -> Option<Standing> {
        let cursor = self.cursor_of(key)?;
        Some(self.sessions.at_mut(key)?.backlog.as_mut()?.note(finished, cursor))
    }

    /// The number of the last event up to which all is over for a session.
    fn cursor_of(&self, key: SessionKey) -> Option<u64> {
        let session = self.sessions.at(key)?;
        let backlog = session.backlog.as_ref()?;
        let last = self.reads.last_id().map_or(0, EventId::value);
        let number = |id: Option<EventId>| id.map_or(0, EventId::value);
        let reading = backlog.catching.as_ref().map(|catching| number(catching.cursor()));
        // What it asked for when it subscribed comes first; what is live then is behind that.
        let selected = session.selections.values().filter_map(|selection| self.selections.get(*selection as usize));
        let selected = selected.filter_map(|selected| {
            let since = session.subscriptions.get(&(selected.filter.clone(), None)).map_or(0, |subscribed| subscribed.since);
            selected.catching.as_ref().map(|catching| number(catching.cursor()).max(since))
        });
        let unfinished = session.inflight.first_unfinished().map(|id| id.value() - 1);
        Some(reading.into_iter().chain(selected).chain(unfinished).fold(last, u64::min))
    }

    /// Reads on for a session that is behind, if its client is there and has taken most of what it was sent.
    pub(super) fn continue_backlog(&mut self, key: SessionKey) {
        let last = self.reads.last_id();
        let Some(session) = self.sessions.at_mut(key).filter(|session| session.connection.is_some()) else { return };
        let Some(backlog) = session.backlog.as_mut().filter(|backlog| backlog.reading.is_none()) else { return };
        let Some(catching) = &mut backlog.catching else { return };
        if session.inflight.waiting() > LOW_EVENTS && !session.inflight.is_awaiting() {
            return;
        }
        catching.start_read(last);
        let after = catching.cursor();
        let mut filters = session.subscriptions.keys().filter(|(_, share)| share.is_none()).map(|(filter, _)| filter.clone());
        let Some(filter) = filters.next() else {
            let Some(connection) = session.connection else { return };
            return self.pass_backlog(key, connection, &Page { is_end: true, ..Page::default() });
        };
        let also: Vec<_> = filters.collect();
        // So many are looked up one by one in every segment: it is less work to look at every record.
        let (filter, also) = if also.len() < MAX_FILTERS { (Some(filter), also) } else { (None, Vec::new()) };
        let query = Query { filter, also, after, limit: PAGE_EVENTS, max_bytes: PAGE_BYTES, ..Query::new("") };
        let ticket = self.read(key, Purpose::Backlog, query, ReadForm::Stored);
        if let Some(backlog) = self.sessions.at_mut(key).and_then(|session| session.backlog.as_mut()) {
            backlog.reading = ticket;
        }
    }

    /// A page has come for a session that is behind.
    pub(super) fn handle_backlog_page(&mut self, key: SessionKey, ticket: ReadTicket, page: Result<Page, Reason>) {
        let Some(session) = self.sessions.at_mut(key) else { return };
        let Some(backlog) = session.backlog.as_mut().filter(|backlog| backlog.reading == Some(ticket)) else { return };
        backlog.reading = None;
        let Some(connection) = session.connection else { return };
        match page {
            Ok(page) => self.pass_backlog(key, connection, &page),
            Err(Reason::HistoryTooOld(oldest)) => {
                backlog.has_gap = true;
                let resumed = oldest.previous();
                backlog.catching = Some(Catching::after(resumed));
                if let Some(until) = resumed {
                    session.inflight.give_up_awaited(until);
                }
            }
            Err(reason) => return self.end_connection(key, reason),
        }
        self.continue_window(key, connection);
    }

    fn pass_backlog(&mut self, key: SessionKey, connection: ConnectionId, page: &Page) {
        let records = together(&page.records);
        let is_cut = records.len() < page.records.len();
        let found: Vec<Owed> = records.iter().filter_map(|record| self.owed_of(key, record)).collect();
        let last = self.reads.last_id();
        let Some(session) = self.sessions.at_mut(key) else { return };
        let Some(backlog) = &mut session.backlog else { return };
        let Some(catching) = &mut backlog.catching else { return };
        let cut_at = records.last().filter(|_| is_cut).map(|record| record.id);
        let held = catching.finish_read(page, cut_at, last);
        let cursor = catching.cursor();
        let is_live = held.is_some();
        let line: Vec<Owed> = found.into_iter().chain(held.into_iter().flatten()).collect();
        if is_live {
            backlog.catching = None;
            let unfinished = session.inflight.unfinished() + line.len();
            let missed = backlog.routed.saturating_sub(backlog.done).saturating_sub(unfinished as u64);
            backlog.done += missed;
            if std::mem::take(&mut backlog.has_gap) && missed > 0 {
                self.deliver(connection, Delivery::Missed(missed));
            }
        }
        let Some(session) = self.sessions.at_mut(key) else { return };
        let sent_until = session.sent_until().map(EventId::value);
        for owed in line {
            let is_old = Some(owed.publication.id.0) <= sent_until;
            let owed = if is_old { session.inflight.restore_read(owed) } else { Some(owed) };
            if let Some(owed) = owed {
                session.inflight.wait(owed);
            }
        }
        if let Some(cursor) = cursor {
            session.inflight.give_up_awaited(cursor);
        }
    }

    /// What a session is owed of a record of the history, if anything.
    fn owed_of(&self, key: SessionKey, record: &Record) -> Option<Owed> {
        let session = self.sessions.at(key)?;
        let backlog = session.backlog.as_ref()?;
        if !is_visible(record) || backlog.over.has(record.id.value()) {
            return None;
        }
        let publication = record.to_publication()?;
        let passage = self.passage_of(session, record, &publication)?;
        let qos = publication.qos.min(passage.qos);
        if qos == Qos::AtMostOnce || publication.is_expired(self.now_ms) {
            return None;
        }
        let again = qos == Qos::AtLeastOnce && Some(record.id) <= backlog.sent_until;
        let Passage { retain, subscriptions, .. } = passage;
        Some(Owed { publication: Arc::new(publication), qos, retain, subscriptions, source: Source::Past, claim: None, again })
    }

    /// How an event of the history comes to a session, through its subscriptions that were there before.
    fn passage_of(&self, session: &Session, record: &Record, publication: &Publication) -> Option<Passage> {
        let is_own = record.item.origin.as_ref().is_some_and(|origin| origin.session == session.id);
        if is_own && record.item.flags.has(Flags::NOT_TO_ITSELF) {
            return None;
        }
        let mut merged: Option<Passage> = None;
        for ((filter, share), subscribed) in &session.subscriptions {
            let options = subscribed.options;
            let is_kept_from = (is_own && options.no_local) || (options.retained_only && !publication.retain);
            if share.is_some() || subscribed.since >= record.id.value() || is_kept_from || !filter.covers(&publication.topic) {
                continue;
            }
            if let Some(selection) = session.selections.get(filter) {
                let selected = self.selections.get(*selection as usize);
                let comes_otherwise = selected.is_some_and(|selected| selected.catching.is_some() || selected.is_snapshot());
                if comes_otherwise || !self.is_wanted(*selection, publication) {
                    continue;
                }
            }
            let retain = options.retain_as_published && publication.retain;
            let passage = Passage::of(options, filter, session.protocol, SubscriptionId(0));
            Passage::merge(&mut merged, Passage { retain, source: Source::Past, ..passage });
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::command::{
        Acknowledge, AcknowledgeStep, Acknowledgement, Open, Protocol, SubscribeEntry, SubscribeOptions, UnsubscribeEntry,
    };
    use crate::model::{Command, Filter, PacketId, Payload, PublicationId, RequestId, Topic};
    use crate::router::tests::{Realm, mqtt_open};

    /// One subscriber that stays, a publisher, and what the first has seen.
    struct World {
        realm: Realm,
        subscriber: Option<ConnectionId>,
        window: u16,
        qos: Qos,
        /// What came, in the order of first copies, and how often without DUP.
        seen: BTreeMap<u64, usize>,
        order: Vec<u64>,
        held: Vec<(PacketId, AcknowledgeStep)>,
    }

    #[derive(Clone, Debug)]
    enum Step {
        Publish(usize),
        Page,
        Append,
        /// Acknowledges so many of what came.
        Acknowledge(usize),
        Leave,
        Come,
        Time,
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1_usize..200).prop_map(Step::Publish),
            3 => Just(Step::Page),
            2 => Just(Step::Append),
            4 => (1_usize..60).prop_map(Step::Acknowledge),
            2 => Just(Step::Leave),
            2 => Just(Step::Come),
            1 => Just(Step::Time),
            1 => Just(Step::Restart),
        ]
    }

    fn topic(text: &str) -> Topic {
        Topic::from_mqtt(text).unwrap()
    }

    fn entry(filter: &str, qos: Qos) -> SubscribeEntry {
        let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
        SubscribeEntry::Topic { filter: Filter::from_mqtt(filter).unwrap(), share: None, options }
    }

    impl World {
        fn start(qos: Qos, window: u16) -> Self {
            let (seen, order, held) = Default::default();
            let mut world = World { realm: Realm::new(), subscriber: None, window, qos, seen, order, held };
            world.come();
            let entries = vec![entry("t/+", qos), entry("u", qos)];
            world.realm.send(world.subscriber.unwrap(), Command::Subscribe { request: RequestId(1), entries });
            world.look();
            world
        }

        fn come(&mut self) {
            if self.subscriber.is_none() {
                let open = mqtt_open(Protocol::Mqtt5, "s");
                let open = Open { clean_start: false, expiry_s: 3_600, receive_maximum: self.window, ..open };
                self.subscriber = Some(self.realm.open(open));
                self.held.clear();
            }
        }

        fn publish(&mut self, count: usize) {
            for number in 0..count {
                let publication = Publication::new(topic(["t/a", "u", "v"][number % 3]), Payload::Bytes("x".into()), self.qos);
                let publication = Arc::new(publication);
                self.realm.router.append(None, None, publication, Acknowledge::None, None);
                self.realm.advance(0);
            }
        }

        fn look(&mut self) {
            let Some(subscriber) = self.subscriber else { return };
            for told in self.realm.inbox(subscriber) {
                match told {
                    Delivery::Event(event) => {
                        let PublicationId(id) = event.publication.id;
                        let times = self.seen.entry(id).or_insert(0);
                        if *times == 0 {
                            self.order.push(id);
                        }
                        *times += usize::from(!event.duplicate || *times == 0);
                        let is_twice = event.qos == Qos::ExactlyOnce;
                        let step = if is_twice { AcknowledgeStep::Received } else { AcknowledgeStep::Acknowledged };
                        self.held.push((event.packet_id.unwrap(), step));
                    }
                    Delivery::Release(id, _) => self.held.push((id, AcknowledgeStep::Completed)),
                    _ => {}
                }
            }
        }

        fn acknowledge(&mut self, count: usize) {
            self.look();
            let Some(subscriber) = self.subscriber else { return };
            let steps = self.held.drain(..count.min(self.held.len()));
            let steps = steps.map(|(packet_id, step)| Acknowledgement { packet_id, step }).collect();
            self.realm.send(subscriber, Command::Acknowledge(steps));
            self.look();
        }

        fn take(&mut self, step: Step) {
            match step {
                Step::Publish(count) => self.publish(count),
                Step::Page if !self.realm.reads.is_empty() => self.realm.page(),
                Step::Append => (0..self.realm.on_their_way().div_ceil(2)).for_each(|_| self.realm.append()),
                Step::Acknowledge(count) => self.acknowledge(count),
                Step::Leave => {
                    if let Some(subscriber) = self.subscriber.take() {
                        self.realm.lose(subscriber);
                    }
                }
                Step::Come => self.come(),
                Step::Time => self.realm.advance(300),
                Step::Restart => {
                    self.realm.restart();
                    self.realm.reads.clear();
                    self.subscriber = None;
                }
                Step::Page => {}
            }
            self.look();
        }

        fn finish(&mut self) {
            (self.realm.is_reader_slow, self.realm.is_disk_slow) = (false, false);
            while self.realm.on_their_way() > 0 {
                self.realm.append();
            }
            while !self.realm.reads.is_empty() {
                self.realm.page();
            }
            self.come();
            self.look();
            while !self.held.is_empty() {
                self.acknowledge(usize::MAX);
            }
        }

        fn expected(&self) -> Vec<u64> {
            let is_for_it = |record: &&Record| {
                record.item.indexed_topic().is_some_and(|topic| topic.as_mqtt() != "v" && topic.as_mqtt() != "w")
            };
            self.realm.records.iter().filter(is_for_it).map(|record| record.id.value()).collect()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

        /// Every event comes, first copies in order; with QoS 2 once, whatever is lost in between.
        #[test]
        fn a_session_that_stays_is_owed_every_event(
            is_qos_2 in any::<bool>(),
            window in prop_oneof![Just(1_u16), Just(3), Just(100), Just(1_024)],
            page_records in prop_oneof![Just(1_usize), Just(7), Just(1_000)],
            slow in any::<[bool; 2]>(),
            steps in proptest::collection::vec(step(), 0..60),
        ) {
            let mut world = World::start(if is_qos_2 { Qos::ExactlyOnce } else { Qos::AtLeastOnce }, window);
            (world.realm.is_reader_slow, world.realm.is_disk_slow, world.realm.page_records) = (slow[0], slow[1], page_records);
            steps.into_iter().for_each(|step| world.take(step));
            world.finish();
            prop_assert_eq!(&world.order, &world.expected());
            // That a client came back may not be on record yet at the crash: then nobody knows that it may have QoS 1 events.
            let is_known = is_qos_2 || !slow[1];
            prop_assert!(!is_known || world.seen.values().all(|times| *times == 1), "{:?}", world.seen);
        }
    }

    fn numbers(events: Vec<Delivery>) -> Vec<u64> {
        events
            .into_iter()
            .filter_map(|told| if let Delivery::Event(event) = told { Some(event.publication.id.0) } else { None })
            .collect()
    }

    /// What waits for a client that is away is a number, not a copy of each event.
    #[test]
    fn nothing_is_copied_for_a_client_that_is_away() {
        let mut world = World::start(Qos::AtLeastOnce, 1_024);
        let subscriber = world.subscriber.take().unwrap();
        world.realm.lose(subscriber);
        world.publish(30_000);
        let key = world.realm.router.sessions.of_client_id("s").unwrap();
        let session = world.realm.router.sessions.at(key).unwrap();
        assert!(session.inflight.waiting() <= AWAY_EVENTS && session.backlog.as_ref().unwrap().is_behind());
        world.finish();
        assert_eq!((world.order.len(), &world.order), (20_000, &world.expected()));
        let session = world.realm.router.sessions.at(key).unwrap();
        assert!(!session.backlog.as_ref().unwrap().is_behind());
    }

    #[test]
    fn a_client_is_told_how_much_of_what_it_is_owed_is_not_kept() {
        for is_restarted in [false, true] {
            let mut world = World::start(Qos::ExactlyOnce, 1_024);
            let subscriber = world.subscriber.take().unwrap();
            world.realm.lose(subscriber);
            world.publish(300);
            if is_restarted {
                world.realm.restart();
            }
            let expected = world.expected();
            let in_line = if is_restarted { 0 } else { AWAY_EVENTS };
            world.realm.trimmed = expected[149];
            world.come();
            let told = world.realm.inbox(world.subscriber.unwrap());
            let missed: Vec<u64> =
                told.iter().filter_map(|told| if let Delivery::Missed(count) = told { Some(*count) } else { None }).collect();
            assert_eq!(missed, [150 - in_line as u64]);
            assert_eq!(numbers(told), [&expected[..in_line], &expected[150..]].concat());
        }
    }

    #[test]
    fn a_subscription_gets_what_came_behind_it_and_no_longer_than_it_lasts() {
        let mut world = World::start(Qos::AtLeastOnce, 1);
        let subscriber = world.subscriber.unwrap();
        world.publish(3 * LINE_EVENTS);
        let entries = vec![entry("v", Qos::AtLeastOnce)];
        world.realm.send(subscriber, Command::Subscribe { request: RequestId(2), entries });
        let since = world.realm.records.len() as u64;
        let filter = Filter::from_mqtt("u").unwrap();
        let entries = vec![UnsubscribeEntry::Topic { filter, share: None }];
        world.publish(300);
        world.realm.send(subscriber, Command::Unsubscribe { request: RequestId(3), entries });
        world.finish();
        let is_on = |record: &&Record, name: &str| record.item.indexed_topic().is_some_and(|topic| topic.as_mqtt() == name);
        for name in ["t/a", "v"] {
            let wanted = world.realm.records.iter().filter(|record| is_on(record, name)).map(|record| record.id.value());
            let wanted: Vec<u64> = wanted.filter(|id| name != "v" || *id > since).collect();
            assert!(wanted.iter().all(|id| world.seen.contains_key(id)));
        }
        let is_early = |id: &u64| is_on(&&world.realm.records[*id as usize - 1], "v") && *id <= since;
        assert!(!world.order.iter().any(is_early));
    }
}
