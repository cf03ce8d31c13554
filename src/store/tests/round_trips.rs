//! The bytes of records and indexes: read as they were written, and anything else without a panic.
use proptest::prelude::*;

use super::*;
use crate::model::properties::{Passthru, Properties};
use crate::model::readers::{Audience, Readers};
use crate::model::record::{DedupKey, Flags, Origin};
use crate::model::{Encoding, Qos, SessionId};
use crate::store::codec;

fn text() -> impl Strategy<Value = Box<str>> {
    "\\PC{0,12}".prop_map(String::into_boxed_str)
}

fn blob() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn payload() -> impl Strategy<Value = Payload> {
    let encoding = prop_oneof![Just(Encoding::Json), Just(Encoding::MsgPack), Just(Encoding::Cbor)];
    let args = (encoding, blob(), blob()).prop_map(|(encoding, args, kwargs)| Payload::Args { encoding, args, kwargs });
    prop_oneof![blob().prop_map(Payload::Bytes), args]
}

fn properties() -> impl Strategy<Value = Box<Properties>> {
    let optional = || proptest::option::of(text());
    let passthru = (optional(), optional(), optional(), optional())
        .prop_map(|(scheme, serializer, cipher, keyid)| Box::new(Passthru { scheme, serializer, cipher, keyid }));
    let user = proptest::collection::vec((text(), text()), 0..4);
    (optional(), any::<Option<bool>>(), optional(), proptest::option::of(blob()), user, proptest::option::of(passthru)).prop_map(
        |(content_type, payload_format, response_topic, correlation_data, user, passthru)| {
            Box::new(Properties { content_type, payload_format, response_topic, correlation_data, user, passthru, outcome: None })
        },
    )
}

fn audience() -> impl Strategy<Value = Option<Audience>> {
    let names = || proptest::option::of(proptest::collection::vec(text().prop_map(Into::into), 0..3));
    let sessions = proptest::option::of(proptest::collection::vec(any::<u64>().prop_map(SessionId), 0..3));
    let lists = (sessions, names(), names());
    proptest::option::of(lists.prop_map(|(sessions, authids, authroles)| Audience { sessions, authids, authroles }))
}

fn readers() -> impl Strategy<Value = Box<Readers>> {
    (audience(), audience()).prop_map(|(eligible, exclude)| Box::new(Readers { eligible, exclude }))
}

fn any_item() -> impl Strategy<Value = Item> {
    let origin = (any::<u64>(), text(), text()).prop_map(|(session, authid, authrole)| Origin {
        session: SessionId(session),
        authid: authid.into(),
        authrole: authrole.into(),
    });
    let dedup = (text(), blob()).prop_map(|(owner, key)| DedupKey { owner: owner.into(), key });
    let topic = "[a-z/ %.]{1,20}".prop_map(|topic| Topic::from_mqtt(&topic).unwrap());
    let front = ("[a-z]{1,9}", any::<u8>(), any::<u64>(), proptest::option::of(topic), proptest::option::of(origin));
    let back = (
        0..3_u8,
        any::<u16>(),
        any::<Option<u64>>(),
        proptest::option::of(dedup),
        payload(),
        proptest::option::of(properties()),
        proptest::option::of(readers()),
    );
    (front, back).prop_map(
        |((realm, kind, time_ms, topic, origin), (qos, flags, expires_at_ms, dedup, payload, properties, readers))| {
            let (realm, kind, qos, flags) = (realm.into(), Kind(kind), Qos::from_bits(qos).unwrap(), Flags(flags));
            Item { realm, kind, time_ms, topic, origin, qos, flags, expires_at_ms, dedup, payload, readers, properties }
        },
    )
}

proptest! {
    #[test]
    fn records_are_read_as_they_were_written(item in any_item(), number in 1..1_u64 << 52) {
        let mut bytes = Vec::new();
        codec::encode(&item, id(number), &mut bytes);
        prop_assert!(bytes.len() as u64 <= item.weight_bytes());
        let summary = codec::summary(&bytes).unwrap();
        prop_assert_eq!((summary.id, summary.realm, summary.kind), (id(number), &*item.realm, item.kind));
        prop_assert_eq!(summary.topic, item.topic.as_ref().map(Topic::as_mqtt));
        for end in 0..bytes.len() {
            prop_assert_eq!(codec::decode(&bytes[..end]), None);
        }
        prop_assert_eq!(codec::decode(&[&bytes[..], &[0]].concat()), None);
        prop_assert_eq!(codec::decode(&bytes), Some(Record { id: id(number), item }));
    }

    #[test]
    fn no_bytes_make_reading_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), item in any_item(), flip in any::<u16>()) {
        codec::decode(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = codec::VERSION;
        }
        codec::decode(&bytes);
        let mut record = Vec::new();
        codec::encode(&item, id(1), &mut record);
        let bit = usize::from(flip) % (record.len() * 8);
        record[bit / 8] ^= 1 << (bit % 8);
        if let Some(other) = codec::decode(&record) {
            // The changed record has exactly one form too.
            let mut again = Vec::new();
            codec::encode(&other.item, other.id, &mut again);
            prop_assert_eq!(codec::decode(&again), Some(other));
        }
    }

    #[test]
    fn an_index_on_disk_answers_as_the_one_in_memory(topics in proptest::collection::vec("[ab]{1,2}(/[abc]{1,2}){0,2}", 1..120), filter in "([ab]|[+])(/[abc+]){0,1}(/#){0,1}", also in "[ab]{1,2}(/#){0,1}", cut in 0..120_u64) {
        let (open, sealed) = (SimulatedDisk::new(0), SimulatedDisk::new(0));
        let config = Config { segment_bytes: 1 << 20, ..small() };
        let options = Options { new_identity: [1; 16], ..Options::default() };
        let mut one = Log::open(open, config, options.clone()).unwrap();
        let mut many = Log::open(sealed, Config { segment_bytes: 2_048, ..config }, options).unwrap();
        for (number, topic) in topics.iter().enumerate() {
            let item = item("one", number as u64, topic, "");
            one.append(std::slice::from_ref(&item)).unwrap();
            many.append(&[item]).unwrap();
        }
        let Ok(filter) = Filter::from_mqtt(&filter) else { return Ok(()) };
        let also = Filter::from_mqtt(&also).unwrap();
        for (reverse, also) in [(false, vec![]), (true, vec![]), (false, vec![also.clone()]), (true, vec![also])] {
            let query = Query { filter: Some(filter.clone()), also, after: EventId::new(cut), limit: 5, reverse, ..Query::new("one") };
            let found = read_all(&one, &query).unwrap();
            prop_assert_eq!(&found, &read_all(&many, &query).unwrap());
            let everything = Query { limit: 1_000, after: query.after, ..Query::new("one") };
            let covered = read_all(&one, &everything).unwrap().into_iter().filter(|record| query.covers(&record.item)).count();
            prop_assert_eq!(found.len(), covered);
        }
    }
}
