//! Past events for a new subscription, and the step to live ones.
use std::sync::Arc;

use super::Realm;
use crate::model::command::{
    Acknowledge, AcknowledgeStep, Acknowledgement, Past, PublishOptions, Selection, SubscribeEntry, SubscribeOptions,
    UnsubscribeEntry,
};
use crate::model::delivery::Granted;
use crate::model::{
    Command, ConnectionId, Delivery, EventId, Filter, Limits, Payload, Publication, PublicationId, Qos, Reason, Record,
    RequestId, SessionId, Topic,
};
use crate::router::base::catching::{PAGE_BYTES, PAGE_EVENTS};
use proptest::prelude::*;

fn filter(mqtt: &str) -> Filter {
    Filter::from_mqtt(mqtt).unwrap()
}

fn id(number: u64) -> Option<EventId> {
    EventId::new(number)
}

fn publish_with(
    realm: &mut Realm,
    from: ConnectionId,
    topic: &str,
    text: &str,
    acknowledge: Acknowledge,
    options: Option<PublishOptions>,
) {
    let payload = Payload::Bytes(text.to_owned().into());
    let qos = if acknowledge == Acknowledge::None { Qos::AtMostOnce } else { Qos::AtLeastOnce };
    let publication = Arc::new(Publication::new(Topic::from_mqtt(topic).unwrap(), payload, qos));
    realm.send(from, Command::Publish { publication, acknowledge, options: options.map(Box::new) });
}

/// Publishes an event that will be in the history.
fn store(realm: &mut Realm, from: ConnectionId, topic: &str, text: &str) {
    publish_with(realm, from, topic, text, Acknowledge::Request(RequestId(1)), None);
}

fn selected(mqtt: &str, qos: Qos, selection: Selection) -> SubscribeEntry {
    let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
    SubscribeEntry::Selected { filter: filter(mqtt), options, selection: Box::new(selection) }
}

fn after(after: Option<EventId>) -> Selection {
    Selection { past: Some(Past::After(after)), ..Selection::default() }
}

fn last(count: u64) -> Selection {
    Selection { past: Some(Past::Last(count)), ..Selection::default() }
}

/// The deliveries to a connection, in short: events by their text, answers and ends by name.
fn told(realm: &mut Realm, connection: ConnectionId) -> Vec<String> {
    let text = |delivery| match delivery {
        Delivery::Event(event) => match &event.publication.payload {
            Payload::Bytes(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
            other => panic!("{other:?}"),
        },
        Delivery::Revoked(_, outcome) => Some(outcome.map_or_else(|reason| reason.to_string(), |()| "complete".to_owned())),
        Delivery::Subscribed(_, results) => Some(match results[0] {
            Ok(_) => "subscribed".to_owned(),
            Err(reason) => reason.to_string(),
        }),
        Delivery::Close(reason) => Some(format!("closed: {reason}")),
        _ => None,
    };
    realm.inbox(connection).into_iter().filter_map(text).collect()
}

/// Everything that comes as the outbox is emptied again and again.
fn drained(realm: &mut Realm, connection: ConnectionId) -> Vec<String> {
    let mut all = told(realm, connection);
    loop {
        realm.drain(connection);
        let more = told(realm, connection);
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// A realm with the events `1`..`count` on `t`, each with the id that it says, its publisher and a subscriber.
fn realm_with(count: u64) -> (Realm, ConnectionId, ConnectionId) {
    let mut realm = Realm::new();
    let (publisher, subscriber) = (realm.wamp(), realm.wamp());
    for number in 1..=count {
        store(&mut realm, publisher, "t", &number.to_string());
    }
    (realm, publisher, subscriber)
}

#[test]
fn history_comes_first_and_live_events_follow() {
    for page_records in [1, 3, 100] {
        let (mut realm, publisher, subscriber) = realm_with(10);
        realm.page_records = page_records;
        assert!(realm.ask(subscriber, selected("t", Qos::AtMostOnce, after(id(4)))).is_ok());
        assert_eq!(drained(&mut realm, subscriber), numbers(5..11));
        store(&mut realm, publisher, "t", "11");
        publish_with(&mut realm, publisher, "t", "fast", Acknowledge::None, None);
        assert_eq!(told(&mut realm, subscriber), ["11", "fast"]);
        // Nothing special is left of it.
        assert!(realm.router.realm.selections.is_empty());
    }
}

#[test]
fn the_last_events_come_first() {
    for (count, expected) in [(0, 11..11), (1, 10..11), (4, 7..11), (10, 1..11), (99, 1..11), (u64::MAX, 1..11)] {
        for page_records in [1, 3, 100] {
            let (mut realm, publisher, subscriber) = realm_with(10);
            realm.page_records = page_records;
            realm.ask(subscriber, selected("t", Qos::AtMostOnce, last(count))).unwrap();
            assert_eq!(drained(&mut realm, subscriber), numbers(expected.clone()), "{count}");
            store(&mut realm, publisher, "t", "11");
            assert_eq!(told(&mut realm, subscriber), ["11"]);
        }
    }
    let (mut realm, publisher, subscriber) = realm_with(0);
    realm.is_reader_slow = true;
    realm.send(subscriber, Command::Subscribe { request: RequestId(1), entries: vec![selected("t", Qos::AtMostOnce, last(2))] });
    realm.page();
    store(&mut realm, publisher, "t", "1");
    store(&mut realm, publisher, "t", "2");
    store(&mut realm, publisher, "t", "3");
    while !realm.reads.is_empty() {
        realm.page();
    }
    // Events after it subscribed are live: there is no end of counting them.
    assert_eq!(drained(&mut realm, subscriber), ["subscribed", "1", "2", "3"]);
}

#[test]
fn a_large_event_has_an_outbox_to_itself() {
    let (mut realm, publisher, subscriber) = realm_with(2);
    let large = "x".repeat(PAGE_BYTES);
    store(&mut realm, publisher, "t", &large);
    store(&mut realm, publisher, "t", "4");
    realm.ask(subscriber, selected("t", Qos::AtMostOnce, after(None))).unwrap();
    assert_eq!(told(&mut realm, subscriber), ["1", "2"]);
    assert_eq!(drained(&mut realm, subscriber), [&large, "4"]);
}

#[test]
fn live_events_wait_behind_the_last_page_but_for_what_is_not_stored() {
    let (mut realm, publisher, subscriber) = realm_with(3);
    realm.is_reader_slow = true;
    let entries = vec![selected("t", Qos::AtMostOnce, after(None))];
    realm.send(subscriber, Command::Subscribe { request: RequestId(1), entries });
    assert!(told(&mut realm, subscriber).is_empty());
    realm.page();
    assert_eq!(told(&mut realm, subscriber), ["subscribed"]);
    store(&mut realm, publisher, "t", "4");
    publish_with(&mut realm, publisher, "t", "fast", Acknowledge::None, None);
    assert_eq!(told(&mut realm, subscriber), ["fast"]);
    realm.page();
    assert_eq!(told(&mut realm, subscriber), ["1", "2", "3", "4"]);
    store(&mut realm, publisher, "t", "5");
    assert_eq!(told(&mut realm, subscriber), ["5"]);
    assert!(realm.reads.is_empty());
}

#[test]
fn more_than_is_held_is_read() {
    let (mut realm, publisher, subscriber) = realm_with(3);
    realm.ask(subscriber, selected("u", Qos::AtMostOnce, after(None))).unwrap();
    realm.is_reader_slow = true;
    let entries = vec![selected("t", Qos::AtMostOnce, after(None))];
    realm.send(subscriber, Command::Subscribe { request: RequestId(1), entries });
    realm.page();
    let count = 3 + 3 * PAGE_EVENTS as u64;
    for number in 4..=count {
        store(&mut realm, publisher, "t", &number.to_string());
        let held: usize = realm.router.realm.selections.iter().map(|(_, s)| s.catching.as_ref().map_or(0, |c| c.held())).sum();
        assert!(held <= PAGE_EVENTS);
    }
    let mut all = told(&mut realm, subscriber);
    while !realm.reads.is_empty() {
        realm.page();
        all.extend(told(&mut realm, subscriber));
        realm.drain(subscriber);
    }
    all.extend(told(&mut realm, subscriber));
    assert_eq!(all[1..], numbers(1..count + 1));
}

#[test]
fn what_is_not_kept_is_refused_with_what_is() {
    let (mut realm, _, subscriber) = realm_with(10);
    realm.trimmed = 5;
    let oldest = Reason::HistoryTooOld(EventId::new(6).unwrap());
    assert_eq!(realm.ask(subscriber, selected("t", Qos::AtMostOnce, after(id(4)))), Err(oldest));
    let refused = realm.ask(subscriber, selected("t", Qos::AtMostOnce, after(id(11))));
    assert_eq!(refused, Err(Reason::WrongValue("after", crate::model::reason::MustBe::KnownEvent)));
    assert_eq!(realm.router.realm.broker.members(), 0);
    let entries = vec![selected("t", Qos::AtMostOnce, after(id(5))), selected("u", Qos::AtMostOnce, after(id(2)))];
    realm.send(subscriber, Command::Subscribe { request: RequestId(1), entries });
    match realm.next(subscriber) {
        Delivery::Subscribed(_, results) => assert!(matches!(results[..], [Ok(_), Err(reason)] if reason == oldest)),
        other => panic!("{other:?}"),
    }
    assert_eq!(drained(&mut realm, subscriber), numbers(6..11));
    for selection in [after(None), last(7)] {
        let other = realm.wamp();
        realm.ask(other, selected("t", Qos::AtMostOnce, selection)).unwrap();
        assert_eq!(drained(&mut realm, other), numbers(6..11));
    }
    realm.has_no_history = true;
    assert_eq!(realm.ask(subscriber, selected("t", Qos::AtMostOnce, last(1))), Err(Reason::NoHistory));
}

/// Events that are trimmed while a slow reader is at them cannot be sent: the reader must know.
#[test]
fn what_is_trimmed_on_the_way_ends_the_subscription() {
    for is_mqtt in [false, true] {
        let (mut realm, _, wamp) = realm_with(10);
        let subscriber = if is_mqtt { realm.mqtt("s") } else { wamp };
        realm.page_records = 2;
        realm.ask(subscriber, selected("t", Qos::AtMostOnce, after(None))).unwrap();
        assert_eq!(told(&mut realm, subscriber), ["1", "2"]);
        realm.trimmed = 5;
        realm.drain(subscriber);
        let why = Reason::HistoryTooOld(EventId::new(6).unwrap());
        let expected = if is_mqtt { format!("closed: {why}") } else { why.to_string() };
        assert_eq!(told(&mut realm, subscriber), [expected]);
        assert!(realm.router.realm.broker.members() == 0 && realm.router.realm.selections.is_empty());
    }
}

#[test]
fn commands_behind_a_subscribe_wait_for_it() {
    let (mut realm, _, subscriber) = realm_with(2);
    realm.is_reader_slow = true;
    let entries = vec![selected("t", Qos::AtMostOnce, after(None))];
    realm.send(subscriber, Command::Subscribe { request: RequestId(1), entries });
    store(&mut realm, subscriber, "u", "stored");
    publish_with(&mut realm, subscriber, "u", "fast", Acknowledge::None, None);
    let plain = SubscribeEntry::Topic { filter: filter("u"), share: None, options: SubscribeOptions::default() };
    realm.send(subscriber, Command::Subscribe { request: RequestId(2), entries: vec![plain] });
    assert!(realm.router.is_owed(subscriber) && realm.inbox(subscriber).is_empty());
    assert_eq!(realm.records.len(), 2);
    realm.page();
    let inbox = realm.inbox(subscriber);
    assert!(matches!(
        inbox[..],
        [Delivery::Subscribed(RequestId(1), _), Delivery::Published(..), Delivery::Subscribed(RequestId(2), _)]
    ));
    assert!(realm.settled.contains(&subscriber));
    realm.page();
    assert_eq!(told(&mut realm, subscriber), ["1", "2"]);
}

#[test]
fn a_session_that_is_lost_meanwhile_leaves_nothing_behind() {
    let (mut realm, publisher, subscriber) = realm_with(2);
    realm.is_reader_slow = true;
    let entries = || vec![selected("t", Qos::AtMostOnce, after(None))];
    realm.send(subscriber, Command::Subscribe { request: RequestId(1), entries: entries() });
    realm.lose(subscriber);
    realm.page();
    let other = realm.wamp();
    realm.send(other, Command::Subscribe { request: RequestId(1), entries: entries() });
    realm.page();
    realm.lose(other);
    while !realm.reads.is_empty() {
        realm.page();
    }
    assert!(realm.router.realm.selections.is_empty() && realm.router.realm.broker.members() == 0 && realm.reads.is_empty());
    store(&mut realm, publisher, "t", "3");
}

#[test]
fn a_snapshot_ends_with_what_there_was() {
    let (mut realm, publisher, subscriber) = realm_with(3);
    realm.is_reader_slow = true;
    let entries = vec![selected("t", Qos::AtMostOnce, Selection { is_snapshot: true, ..last(2) })];
    realm.send(subscriber, Command::Subscribe { request: RequestId(1), entries });
    realm.page();
    publish_with(&mut realm, publisher, "t", "fast", Acknowledge::None, None);
    store(&mut realm, publisher, "u", "other");
    realm.page();
    realm.page();
    assert_eq!(told(&mut realm, subscriber), ["subscribed", "2", "3", "complete"]);
    assert!(realm.router.realm.broker.members() == 0 && realm.router.realm.selections.is_empty());
}

#[test]
fn a_snapshot_without_history_is_of_retained_values() {
    let (mut realm, publisher, subscriber) = realm_with(0);
    let snapshot = || Selection { is_snapshot: true, ..Selection::default() };
    realm.ask(subscriber, selected("v/#", Qos::AtMostOnce, snapshot())).unwrap();
    assert_eq!(told(&mut realm, subscriber), ["complete"]);
    for number in 0..300 {
        let topic = Topic::from_mqtt(&format!("v/{number}")).unwrap();
        let payload = Payload::Bytes(number.to_string().into());
        let publication = Arc::new(Publication { retain: true, ..Publication::new(topic, payload, Qos::AtMostOnce) });
        realm.send(publisher, Command::Publish { publication, acknowledge: Acknowledge::None, options: None });
    }
    realm.ask(subscriber, selected("v/#", Qos::AtMostOnce, snapshot())).unwrap();
    publish_with(&mut realm, publisher, "v/x", "live", Acknowledge::None, None);
    let all = drained(&mut realm, subscriber);
    assert_eq!((all.len(), all.last().map(String::as_str)), (301, Some("complete")));
    assert!(!all.contains(&"live".to_owned()));
    // Without history too.
    realm.has_no_history = true;
    realm.ask(subscriber, selected("v/7", Qos::AtMostOnce, snapshot())).unwrap();
    assert_eq!(drained(&mut realm, subscriber), ["7", "complete"]);
}

fn json_args(payload: &Payload, _: Option<&crate::model::properties::Properties>, _: crate::model::Encoding) -> Payload {
    let Payload::Bytes(bytes) = payload else { return payload.clone() };
    let args = format!("[{}]", String::from_utf8_lossy(bytes)).into();
    Payload::Args { encoding: crate::model::Encoding::Json, args, kwargs: Default::default() }
}

#[test]
fn a_pattern_chooses_among_past_retained_and_live_events() {
    let (mut realm, publisher, subscriber) = realm_with(0);
    realm.router.convert_with(json_args);
    let pattern = |json: serde_json::Value| Some(json);
    let big = format!("{{\"k\":1,\"x\":\"{}\"}}", "x".repeat(100_000));
    for text in ["{\"k\":1,\"n\":1}", "{\"k\":2}", "no JSON", "{\"k\":1,\"n\":2}", &big] {
        store(&mut realm, publisher, "t", text);
    }
    let k1 = serde_json::json!({"k": 1});
    let selection = Selection { pattern: pattern(k1.clone()), ..last(1) };
    realm.ask(subscriber, selected("t", Qos::AtMostOnce, selection)).unwrap();
    assert_eq!(drained(&mut realm, subscriber), ["{\"k\":1,\"n\":2}"]);
    for text in ["{\"k\":1.0}", "{\"k\":3}"] {
        store(&mut realm, publisher, "t", text);
        publish_with(&mut realm, publisher, "t", text, Acknowledge::None, None);
    }
    assert_eq!(told(&mut realm, subscriber), ["{\"k\":1.0}", "{\"k\":1.0}"]);
    for (topic, text) in [("r/a", "{\"k\":1}"), ("r/b", "{\"k\":2}")] {
        let payload = Payload::Bytes(text.into());
        let topic = Topic::from_mqtt(topic).unwrap();
        let publication = Arc::new(Publication { retain: true, ..Publication::new(topic, payload, Qos::AtMostOnce) });
        realm.send(publisher, Command::Publish { publication, acknowledge: Acknowledge::None, options: None });
    }
    realm.ask(subscriber, selected("r/+", Qos::AtMostOnce, Selection { pattern: pattern(k1), ..Selection::default() })).unwrap();
    assert_eq!(drained(&mut realm, subscriber), ["{\"k\":1}"]);
    let give_up = UnsubscribeEntry::Topic { filter: filter("t"), share: None };
    realm.give_up(subscriber, give_up).unwrap();
    store(&mut realm, publisher, "t", "{\"k\":1}");
    realm.nothing(subscriber);
}

#[test]
fn an_overlapping_subscription_is_not_held_up() {
    let (mut realm, publisher, _) = realm_with(2);
    let subscriber = realm.mqtt("s");
    realm.subscribe(subscriber, "#", Qos::AtMostOnce).unwrap();
    realm.is_reader_slow = true;
    let entries = vec![selected("t", Qos::AtMostOnce, after(id(1)))];
    realm.send(subscriber, Command::Subscribe { request: RequestId(1), entries });
    realm.page();
    store(&mut realm, publisher, "t", "3");
    assert_eq!(told(&mut realm, subscriber), ["subscribed", "3"]);
    realm.page();
    assert_eq!(told(&mut realm, subscriber), ["2", "3"]);
    // From now on one copy for both.
    store(&mut realm, publisher, "t", "4");
    assert_eq!(told(&mut realm, subscriber), ["4"]);
}

#[test]
fn a_restricted_event_reaches_whom_it_is_for_while_the_history_hides_it() {
    let (mut realm, publisher, subscriber) = realm_with(1);
    realm.is_reader_slow = true;
    let entries = vec![selected("t", Qos::AtMostOnce, after(None))];
    realm.send(subscriber, Command::Subscribe { request: RequestId(1), entries });
    realm.page();
    for sessions in [vec![SessionId(1_002)], vec![SessionId(5)]] {
        let eligible = Some(crate::model::readers::Audience { sessions: Some(sessions), ..Default::default() });
        let readers = Some(Box::new(crate::model::readers::Readers { eligible, exclude: None }));
        let publication = Publication::new(Topic::from_mqtt("t").unwrap(), Payload::Bytes("secret".into()), Qos::AtLeastOnce);
        let publication = Arc::new(Publication { readers, ..publication });
        let acknowledge = Acknowledge::Request(RequestId(1));
        realm.send(publisher, Command::Publish { publication, acknowledge, options: None });
    }
    realm.page();
    assert_eq!(told(&mut realm, subscriber), ["subscribed", "secret", "1"]);
}

#[test]
fn its_own_events_come_back_only_if_it_wants_them() {
    let (mut realm, _, subscriber) = realm_with(0);
    store(&mut realm, subscriber, "t", "not back");
    let options = PublishOptions { exclude_me: false, ..PublishOptions::default() };
    publish_with(&mut realm, subscriber, "t", "back", Acknowledge::Request(RequestId(1)), Some(options));
    realm.inbox(subscriber);
    realm.ask(subscriber, selected("t", Qos::AtMostOnce, after(None))).unwrap();
    assert_eq!(drained(&mut realm, subscriber), ["back"]);
    let other = realm.wamp();
    realm.ask(other, selected("t", Qos::AtMostOnce, after(None))).unwrap();
    assert_eq!(drained(&mut realm, other), ["not back", "back"]);
}

/// With acknowledged deliveries the reader's window sets the pace; a client that goes away is met again where it left.
#[test]
fn acknowledged_deliveries_are_paced_by_the_window_and_outlast_the_connection() {
    let limits = Limits { max_session_queue: 20, ..Limits::default() };
    let mut realm = Realm::with_limits(limits);
    let publisher = realm.wamp();
    for number in 1..=100 {
        store(&mut realm, publisher, "t", &number.to_string());
    }
    let open = || crate::model::command::Open {
        clean_start: false,
        expiry_s: 3_600,
        receive_maximum: 3,
        ..crate::router::tests::mqtt_open(crate::model::command::Protocol::Mqtt5, "s")
    };
    let mut subscriber = realm.open(open());
    let options = SubscribeOptions { qos: Qos::AtLeastOnce, ..SubscribeOptions::default() };
    let entry = SubscribeEntry::Selected { filter: filter("t"), options, selection: Box::new(after(None)) };
    assert!(matches!(realm.ask(subscriber, entry), Ok(Granted::Subscription(..))));
    let mut seen: Vec<PublicationId> = Vec::new();
    for round in 0..200 {
        let mut steps = Vec::new();
        for delivery in realm.inbox(subscriber) {
            let Delivery::Event(event) = delivery else { continue };
            steps.push(Acknowledgement { packet_id: event.packet_id.unwrap(), step: AcknowledgeStep::Acknowledged });
            seen.extend((!event.duplicate).then_some(event.publication.id));
        }
        assert!(steps.len() <= 3);
        if round == 20 || round == 40 {
            // Events that are not acknowledged now come again with the next connection.
            realm.lose(subscriber);
            store(&mut realm, publisher, "t", "more");
            subscriber = realm.open(open());
            continue;
        }
        realm.send(subscriber, Command::Acknowledge(steps));
        if round % 3 == 0 {
            realm.drain(subscriber);
        }
    }
    let expected: Vec<PublicationId> = realm.records.iter().filter(is_on_t).map(|record| record.id.into()).collect();
    assert_eq!((seen.len(), seen), (102, expected));
    assert_eq!(realm.router.counters().dropped, 0);
}

/// One thing that happens while a subscriber catches up.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many stored events.
    Publish(usize),
    /// Stored on another topic.
    Other,
    Page,
    Drain,
    Append,
    /// The client goes away, or comes back.
    Leave,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1_usize..4).prop_map(Step::Publish),
        1 => Just(Step::Publish(300)),
        1 => Just(Step::Other),
        4 => Just(Step::Page),
        3 => Just(Step::Drain),
        4 => Just(Step::Append),
        2 => Just(Step::Leave),
    ]
}

/// A realm with a subscriber that catches up, and what it has seen.
struct HandOver {
    realm: Realm,
    publisher: ConnectionId,
    subscriber: ConnectionId,
    is_persistent: bool,
    is_away: bool,
    /// The first event that it asked for.
    first: u64,
    seen: Vec<u64>,
}

fn is_on_t(record: &&Record) -> bool {
    record.item.topic.as_ref().is_some_and(|topic| topic.as_mqtt() == "t")
}

impl HandOver {
    /// Subscribed behind `cursor`, or with so many of the last events, in a realm that has `before` events.
    fn start(before: u64, cursor: u64, is_last: bool, is_persistent: bool, page_records: usize) -> Self {
        let mut realm = Realm::new();
        realm.page_records = page_records;
        let publisher = realm.mqtt("p");
        let subscriber = if is_persistent { realm.persistent("s") } else { realm.wamp() };
        for number in 0..before {
            store(&mut realm, publisher, if number % 3 == 2 { "u" } else { "t" }, "x");
        }
        let cursor = cursor.min(before);
        let (selection, first) = if is_last {
            let on_t: Vec<_> = realm.records.iter().filter(is_on_t).collect();
            let skipped = on_t.len().saturating_sub(cursor as usize);
            (last(cursor), on_t.get(skipped).map_or(realm.records.len() as u64 + 1, |record| record.id.value()))
        } else {
            (after(id(cursor)), cursor + 1)
        };
        let qos = if is_persistent { Qos::AtLeastOnce } else { Qos::AtMostOnce };
        (realm.is_reader_slow, realm.is_disk_slow) = (true, true);
        let entries = vec![selected("t", qos, selection)];
        realm.send(subscriber, Command::Subscribe { request: RequestId(1), entries });
        realm.append_all();
        realm.page();
        HandOver { realm, publisher, subscriber, is_persistent, is_away: false, first, seen: Vec::new() }
    }

    fn look(&mut self) {
        let mut steps = Vec::new();
        for delivery in self.realm.inbox(self.subscriber) {
            let Delivery::Event(event) = delivery else { continue };
            self.seen.extend((!event.duplicate).then_some(event.publication.id.0));
            let step = |packet_id| Acknowledgement { packet_id, step: AcknowledgeStep::Acknowledged };
            steps.extend(event.packet_id.map(step));
        }
        self.realm.send(self.subscriber, Command::Acknowledge(steps));
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Publish(count) => (0..count).for_each(|_| store(&mut self.realm, self.publisher, "t", "x")),
            Step::Other => store(&mut self.realm, self.publisher, "u", "x"),
            Step::Page if !self.realm.reads.is_empty() => self.realm.page(),
            Step::Append => (0..self.realm.on_their_way().div_ceil(2)).for_each(|_| self.realm.append()),
            Step::Drain => self.realm.drain(self.subscriber),
            Step::Leave if self.is_away => self.come_back(),
            Step::Leave if self.is_persistent => {
                self.realm.lose(self.subscriber);
                self.is_away = true;
            }
            Step::Page | Step::Leave => {}
        }
        self.look();
    }

    fn come_back(&mut self) {
        self.subscriber = self.realm.persistent("s");
        self.is_away = false;
    }

    /// Lets everything come; true if the subscription is a plain one in the end.
    fn finish(&mut self) -> bool {
        if self.is_away {
            self.come_back();
        }
        (self.realm.is_reader_slow, self.realm.is_disk_slow) = (false, false);
        while self.realm.on_their_way() > 0 {
            self.realm.append();
        }
        while !self.realm.reads.is_empty() {
            self.realm.page();
        }
        store(&mut self.realm, self.publisher, "t", "the end");
        // Pages of one record, on each of which the outbox is emptied.
        for _ in 0..30_000 {
            self.look();
            if self.realm.router.realm.selections.is_empty() {
                break;
            }
            self.realm.drain(self.subscriber);
        }
        // A session that stays may be behind for itself.
        let mut seen = usize::MAX;
        while seen != self.seen.len() {
            seen = self.seen.len();
            self.look();
        }
        self.realm.router.realm.selections.is_empty()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Each event behind the cursor once and in order, wherever pages, publications, drained outboxes and lost connections fall.
    #[test]
    fn hand_over_has_no_gap_and_no_repeat(
        before in 0_u64..30,
        cursor in 0_u64..30,
        is_last in any::<bool>(),
        is_persistent in any::<bool>(),
        page_records in 1_usize..8,
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let mut hand_over = HandOver::start(before, cursor, is_last, is_persistent, page_records);
        steps.into_iter().for_each(|step| hand_over.take(step));
        prop_assert!(hand_over.finish());
        let ids = hand_over.realm.records.iter().filter(is_on_t).map(|record| record.id.value());
        prop_assert_eq!(hand_over.seen, ids.filter(|id| *id >= hand_over.first).collect::<Vec<u64>>());
    }
}
