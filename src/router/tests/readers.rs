//! The readers of a publication are checked wherever it is sent: live, kept, and read again.
use std::sync::Arc;

use serde_json::json;

use crate::model::command::{
    Acknowledge, Condition, Past, PublishOptions, RetainHandling, Selection, SubscribeEntry, SubscribeOptions,
};
use crate::model::readers::{Audience, Readers};
use crate::model::{
    Command, ConnectionId, Delivery, Encoding, EventId, Filter, Payload, Publication, Qos, Reason, RequestId, SessionId, Topic,
};

use super::Realm;

fn by_name(name: &str) -> Option<Audience> {
    Some(Audience { authids: Some(vec![name.into()]), ..Audience::default() })
}

fn by_id(id: u64) -> Option<Audience> {
    Some(Audience { sessions: Some(vec![SessionId(id)]), ..Audience::default() })
}

/// Everybody in these tests has the authid `user`.
fn limits() -> [(Readers, bool); 5] {
    [
        (Readers { eligible: by_name("somebody else"), exclude: None }, false),
        (Readers { eligible: None, exclude: by_name("user") }, false),
        (Readers { eligible: by_id(7), exclude: None }, false),
        (Readers { eligible: by_name("user"), exclude: by_name("user") }, false),
        (Readers { eligible: by_name("user"), exclude: by_name("somebody else") }, true),
    ]
}

fn publish(realm: &mut Realm, from: ConnectionId, readers: Readers) {
    let payload = Payload::Args { encoding: Encoding::Json, args: r#"[{"k":1}]"#.into(), kwargs: Default::default() };
    publish_payload(realm, from, readers, payload);
}

fn publish_payload(realm: &mut Realm, from: ConnectionId, readers: Readers, payload: Payload) {
    let publication = Publication::new(Topic::from_mqtt("t").unwrap(), payload, Qos::AtLeastOnce);
    let publication = Arc::new(Publication { retain: true, readers: Some(Box::new(readers)), ..publication });
    realm.send(from, Command::Publish { publication, acknowledge: Acknowledge::Request(RequestId(1)), options: None });
    realm.inbox(from);
}

fn events(realm: &mut Realm, connection: ConnectionId) -> usize {
    realm.inbox(connection).iter().filter(|delivery| matches!(delivery, Delivery::Event(_))).count()
}

fn options(retained_only: bool) -> SubscribeOptions {
    let qos = Qos::AtLeastOnce;
    SubscribeOptions { qos, retained_only, retain_handling: RetainHandling::Always, ..SubscribeOptions::default() }
}

/// Each way to subscribe to what there was before, or to what comes.
fn ways() -> Vec<SubscribeEntry> {
    let topic = |name: &str, share: Option<&str>, only| SubscribeEntry::Topic {
        filter: Filter::from_mqtt(name).unwrap(),
        share: share.map(Into::into),
        options: options(only),
    };
    let selected = |selection: Selection| SubscribeEntry::Selected {
        filter: Filter::from_mqtt("t").unwrap(),
        options: options(false),
        selection: Box::new(selection),
    };
    vec![
        topic("t", None, false),
        topic("#", None, false),
        topic("t", None, true),
        topic("t", Some("g"), false),
        selected(Selection { is_snapshot: true, ..Selection::default() }),
        selected(Selection { past: Some(Past::After(None)), ..Selection::default() }),
        selected(Selection { past: Some(Past::Last(9)), ..Selection::default() }),
        selected(Selection { pattern: Some(json!({"k": 1})), ..Selection::default() }),
    ]
}

#[test]
fn whatever_is_read_again_is_for_whom_it_was() {
    for (readers, is_for_them) in limits() {
        for way in ways() {
            for is_restarted in [false, true] {
                let mut realm = Realm::new();
                realm.router.keep_history();
                let publisher = realm.wamp();
                publish(&mut realm, publisher, readers.clone());
                if is_restarted {
                    realm.restart();
                }
                let shared = matches!(way, SubscribeEntry::Topic { share: Some(_), .. });
                for reader in [realm.wamp(), realm.mqtt("m"), realm.persistent("p")] {
                    if realm.ask(reader, way.clone()).is_err() {
                        continue;
                    }
                    let count = events(&mut realm, reader);
                    assert_eq!(count, usize::from(is_for_them && !shared), "{readers:?} {way:?} restarted: {is_restarted}");
                    realm.inbox(reader);
                }
            }
        }
    }
}

#[test]
fn a_session_that_was_away_is_owed_what_was_for_it() {
    for (readers, is_for_them) in limits() {
        for is_restarted in [false, true] {
            let mut realm = Realm::new();
            realm.router.keep_history();
            let (publisher, away) = (realm.wamp(), realm.persistent("p"));
            let filter = Filter::from_mqtt("t").unwrap();
            realm.ask(away, SubscribeEntry::Topic { filter, share: None, options: options(false) }).unwrap();
            realm.lose(away);
            publish(&mut realm, publisher, readers.clone());
            if is_restarted {
                realm.restart();
            }
            let back = realm.persistent("p");
            assert_eq!(events(&mut realm, back), usize::from(is_for_them), "{readers:?} restarted: {is_restarted}");
        }
    }
}

#[test]
fn a_value_that_may_not_be_read_fits_nothing() {
    for (readers, is_for_them) in limits() {
        let mut realm = Realm::new();
        let (publisher, asker) = (realm.wamp(), realm.wamp());
        publish_payload(&mut realm, publisher, readers, Payload::Bytes(r#"{"k":1}"#.into()));
        for (when, fits) in [(json!({"k": 1}), is_for_them), (json!({"k": 2}), false), (json!(null), false)] {
            let condition = Some(Box::new(Condition { when: Some(when), ..Condition::default() }));
            let publication = Publication::new(Topic::from_mqtt("t").unwrap(), Payload::Bytes("x".into()), Qos::AtLeastOnce);
            let options = Some(Box::new(PublishOptions { condition, ..PublishOptions::default() }));
            let acknowledge = Acknowledge::Request(RequestId(2));
            realm.send(asker, Command::Publish { publication: Arc::new(publication), acknowledge, options });
            let outcome = realm.inbox(asker).into_iter().find_map(|told| match told {
                Delivery::Published(_, outcome) => Some(outcome.map(drop)),
                _ => None,
            });
            assert_eq!(outcome, Some(if fits { Ok(()) } else { Err(Reason::ConditionFailed) }));
        }
    }
}

#[test]
fn live_events_pass_members_of_share_groups_that_may_not_have_them() {
    let mut realm = Realm::new();
    let (publisher, a, b) = (realm.wamp(), realm.mqtt("a"), realm.mqtt("b"));
    for member in [a, b] {
        let filter = Filter::from_mqtt("t").unwrap();
        realm.ask(member, SubscribeEntry::Topic { filter, share: Some("g".into()), options: options(false) }).unwrap();
        realm.inbox(member);
    }
    for _ in 0..4 {
        publish(&mut realm, publisher, Readers { eligible: None, exclude: by_id(1_000 + a.0) });
    }
    assert_eq!((events(&mut realm, a), events(&mut realm, b)), (0, 4));
    publish(&mut realm, publisher, Readers { eligible: by_name("nobody"), exclude: None });
    assert_eq!((events(&mut realm, a), events(&mut realm, b)), (0, 0));
    assert_eq!(realm.records.last().map(|record| record.id), EventId::new(realm.records.len() as u64));
}

#[test]
fn an_error_about_a_lock_shows_no_value_to_who_may_not_read_it() {
    for (readers, is_admitted) in limits() {
        let mut realm = Realm::new();
        let (publisher, reader) = (realm.wamp(), realm.wamp());
        publish(&mut realm, publisher, readers);
        let list = json!(["t"]);
        realm.call_own(reader, 1, "corsac.lock.inspect", list, Payload::empty());
        let answer = realm.answer(reader);
        let Payload::Args { args, .. } = answer.payload else { panic!("{answer:?}") };
        let text = String::from_utf8(args.to_vec()).unwrap();
        assert!(text.contains("not a lock") && text.contains("\\\"k\\\"") == is_admitted, "{text}");
    }
}
