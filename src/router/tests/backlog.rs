//! Sessions that stay, over any length of absence.
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Realm, mqtt_open};
use crate::model::command::{
    Acknowledge, AcknowledgeStep, Acknowledgement, Open, Protocol, SubscribeEntry, SubscribeOptions, UnsubscribeEntry,
};
use crate::model::{
    Command, ConnectionId, Delivery, Filter, PacketId, Payload, Publication, PublicationId, Qos, Record, RequestId, Topic,
};
use crate::router::session::backlog::{AWAY_EVENTS, LINE_EVENTS};
use proptest::prelude::*;

/// One subscriber that stays, a publisher, and what the first has seen.
struct World {
    realm: Realm,
    subscriber: Option<ConnectionId>,
    window: u16,
    qos: Qos,
    /// The events that came, in the order of first copies, and how often without DUP.
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
            crate::router::flow::append::append(&mut self.realm.router.realm, None, None, publication, Acknowledge::None, None);
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
        let is_for_it =
            |record: &&Record| record.item.indexed_topic().is_some_and(|topic| topic.as_mqtt() != "v" && topic.as_mqtt() != "w");
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

/// A client that is away is owed a number, not a copy of each event.
#[test]
fn nothing_is_copied_for_a_client_that_is_away() {
    let mut world = World::start(Qos::AtLeastOnce, 1_024);
    let subscriber = world.subscriber.take().unwrap();
    world.realm.lose(subscriber);
    world.publish(30_000);
    let key = world.realm.router.realm.sessions.of_client_id("s").unwrap();
    let session = world.realm.router.realm.sessions.at(key).unwrap();
    assert!(session.inflight.waiting() <= AWAY_EVENTS && session.backlog.as_ref().unwrap().is_behind());
    world.finish();
    assert_eq!((world.order.len(), &world.order), (20_000, &world.expected()));
    let session = world.realm.router.realm.sessions.at(key).unwrap();
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
