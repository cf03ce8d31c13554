//! Publications of a client of one protocol for clients of the other: whatever they hold, the receivers can read them.
#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use corsac::gate::{Gate, Settings};
use corsac::model::delivery::Event;
use corsac::model::{Command, Delivery, PacketId, Publication, PublicationId, Qos};
use corsac::wire::mqtt::Version;
use corsac::wire::wamp::{Message, decode};
use corsac_fuzz::choice::{ENCODINGS, NOW_MS};
use corsac_fuzz::gates::{Connection, Opening, origin, settings};
use corsac_fuzz::mqtt::{Receiver, VERSIONS, client_packets, connect};
use corsac_fuzz::wamp::{MESSAGES, join, messages, split};

corsac_fuzz::target!(run, seeds);

fn run(data: &[u8]) {
    let [choice, stream @ ..] = data else { return };
    let settings = settings(0);
    let gate = match ENCODINGS.get(usize::from(choice % 4)) {
        Some(encoding) => Gate::wamp(settings.clone(), origin(), *encoding, NOW_MS),
        None => Gate::mqtt(settings.clone(), origin(), NOW_MS),
    };
    let mut publisher = Connection::new(gate, Opening::Granted);
    match choice % 4 {
        3 => publisher.receive(stream),
        _ => split(stream).for_each(|message| publisher.receive(message)),
    }
    for publication in publisher.asked.into_iter().filter_map(published) {
        VERSIONS.into_iter().for_each(|version| check_mqtt(&settings, &publication, version));
        check_wamp(&settings, &publication);
    }
}

/// The message that a command brings, a will included.
fn published(command: Command) -> Option<Arc<Publication>> {
    match command {
        Command::Open(open) => open.will.map(|will| will.publication),
        Command::Publish { publication, .. } => Some(publication),
        _ => None,
    }
}

fn event(publication: &Arc<Publication>, qos: Qos) -> Delivery {
    let is_acknowledged = qos != Qos::AtMostOnce;
    Delivery::Event(Event {
        publication: publication.clone(),
        qos,
        retain: publication.retain,
        duplicate: false,
        by_pattern: true,
        packet_id: PacketId::new(9).filter(|_| is_acknowledged),
        subscriptions: [7].into_iter().collect(),
    })
}

fn check_mqtt(settings: &Arc<Settings>, publication: &Arc<Publication>, version: Version) {
    let mut connection = Connection::new(Gate::mqtt(settings.clone(), origin(), NOW_MS), Opening::Granted);
    connection.receive(&connect(version, false));
    let mut receiver = Receiver::new(version, usize::MAX, 0);
    receiver.read(&std::mem::take(&mut connection.bytes));
    connection.deliver(event(publication, publication.qos));
    let received = receiver.read(&connection.bytes);
    assert_eq!(received.iter().map(|(topic, _)| topic.as_str()).collect::<Vec<_>>(), [publication.topic.as_mqtt()]);
}

fn check_wamp(settings: &Arc<Settings>, publication: &Arc<Publication>) {
    for encoding in ENCODINGS {
        let mut connection = Connection::new(Gate::wamp(settings.clone(), origin(), encoding, NOW_MS), Opening::Granted);
        connection.receive(&messages(encoding)[0]);
        connection.bytes.clear();
        // The realm gives it its id before anybody sees it.
        let mut copy = Publication::new(publication.topic.clone(), publication.payload.clone(), publication.qos);
        copy.id = PublicationId(1 << 52);
        copy.properties = publication.properties.clone();
        connection.deliver(event(&Arc::new(copy), Qos::AtMostOnce));
        let sent = Bytes::from(connection.bytes);
        match decode(&sent, encoding) {
            Ok(Message::Event { details, .. }) => assert_eq!(details.topic.as_deref(), Some(publication.topic.as_uri())),
            other => panic!("{other:?}: {}", sent.escape_ascii()),
        }
    }
}

/// Options that MQTT has no bytes for.
const HOSTILE: &[&str] = &[
    r#"[16,1,{"mqtt":{"content_type":"a\u0000b"}},"a.b",["x"]]"#,
    r#"[16,1,{"mqtt":{"user_properties":[["k","v\u0000"]]}},"a.b",["x"]]"#,
    r#"[16,1,{"mqtt":{"response_topic":"a/+"}},"a.b",["x"]]"#,
    r#"[16,1,{"mqtt":{"response_topic":""}},"a.b",["x"]]"#,
];

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for hostile in HOSTILE {
        seeds.push([b"\0".as_slice(), &join([MESSAGES[0].as_bytes(), hostile.as_bytes()])].concat());
    }
    for (choice, encoding) in (0..).zip(ENCODINGS) {
        let messages = messages(encoding);
        seeds.push([[choice].as_slice(), &join(messages.iter().map(Vec::as_slice))].concat());
    }
    for version in VERSIONS {
        seeds.push([b"\x03".as_slice(), &connect(version, true), &client_packets(version).concat()].concat());
    }
    seeds
}
