//! Names that mean something to the router: the roots that are its own, and the events that it publishes there.
use std::fmt;

use super::{Filter, Topic};

/// Below this root stand locks: `$lock/<name>`.
pub const LOCK: &str = "$lock/";
/// The holder of a lock has lost it.
pub const ON_LOCK_LOST: &str = "corsac/lock/on_lost";
/// The error that says so on the response topic of the grant.
pub const LOCK_LOST: &str = "corsac.error.lock_lost";
/// The user property that says how it was lost.
pub const LOST: &str = "corsac-lost";
/// Events for a slow connection were lost.
pub const ON_SLOW: &str = "corsac/session/on_slow";

/// Everything that the router publishes under `corsac` and `wamp`, where no other name is ever heard.
const OWN_EVENTS: [&str; 13] = [
    ON_LOCK_LOST,
    ON_SLOW,
    "corsac/session/on_missed",
    "wamp/session/on_join",
    "wamp/session/on_leave",
    "wamp/subscription/on_create",
    "wamp/subscription/on_subscribe",
    "wamp/subscription/on_unsubscribe",
    "wamp/subscription/on_delete",
    "wamp/registration/on_create",
    "wamp/registration/on_register",
    "wamp/registration/on_unregister",
    "wamp/registration/on_delete",
];

/// A first level that belongs to the router: clients publish and register nothing below it (MAPPING.md, Topics).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Root {
    /// `$SYS`: figures of the router.
    Sys,
    /// `$share`: shared subscriptions.
    Share,
    /// `$call`: calls from MQTT.
    Call,
    /// `$callee`: procedures that MQTT clients serve.
    Callee,
    /// `$reply`: answers for one MQTT session.
    Reply,
    /// `$yield`: answers of an MQTT callee.
    Yield,
    /// `$cancel`: calls that one MQTT callee may stop.
    Cancel,
    /// `$queue`: queues.
    Queue,
    /// `$lock`: locks.
    Lock,
    /// `$store`
    Store,
    /// `$exclusive`
    Exclusive,
    /// `$delayed`
    Delayed,
    /// `$produce`
    Produce,
    /// Every first level that begins with `$corsac`.
    DollarCorsac,
    /// `wamp`: names of the WAMP specification.
    Wamp,
    /// `corsac`: procedures and events of the router.
    Corsac,
}

impl Root {
    /// The root that `level`, the first of a name, is; the same in both spellings.
    pub fn of(level: &str) -> Option<Self> {
        Some(match level {
            "$SYS" => Root::Sys,
            "$share" => Root::Share,
            "$call" => Root::Call,
            "$callee" => Root::Callee,
            "$reply" => Root::Reply,
            "$yield" => Root::Yield,
            "$cancel" => Root::Cancel,
            "$queue" => Root::Queue,
            "$lock" => Root::Lock,
            "$store" => Root::Store,
            "$exclusive" => Root::Exclusive,
            "$delayed" => Root::Delayed,
            "$produce" => Root::Produce,
            "wamp" => Root::Wamp,
            "corsac" => Root::Corsac,
            level if level.starts_with("$corsac") => Root::DollarCorsac,
            _ => return None,
        })
    }

    /// The root that the topic which MQTT spells `mqtt` belongs to. Below `$SYS` the state of bridging brokers is an exception: they
    /// publish it themselves.
    pub(super) fn of_mqtt(mqtt: &str) -> Option<Self> {
        let first = mqtt.split('/').next().filter(|first| first.starts_with('$') || matches!(*first, "wamp" | "corsac"))?;
        Root::of(first).filter(|_| !is_bridge_state(mqtt))
    }

    /// Its first level, or how that begins.
    fn name(self) -> &'static str {
        match self {
            Root::Sys => "$SYS",
            Root::Share => "$share",
            Root::Call => "$call",
            Root::Callee => "$callee",
            Root::Reply => "$reply",
            Root::Yield => "$yield",
            Root::Cancel => "$cancel",
            Root::Queue => "$queue",
            Root::Lock => "$lock",
            Root::Store => "$store",
            Root::Exclusive => "$exclusive",
            Root::Delayed => "$delayed",
            Root::Produce => "$produce",
            Root::DollarCorsac => "$corsac",
            Root::Wamp => "wamp",
            Root::Corsac => "corsac",
        }
    }

    /// True if a subscriber to `filter`, which is below this root, may hear something there. Some of it is for MQTT sessions alone.
    pub fn is_heard(self, filter: &Filter, is_mqtt: bool) -> bool {
        match self {
            Root::Sys | Root::Lock => true,
            Root::Reply | Root::Cancel | Root::Queue => is_mqtt && filter.level_count() > 1,
            Root::Wamp | Root::Corsac => {
                OWN_EVENTS.iter().any(|name| Topic::from_mqtt(name).is_ok_and(|topic| filter.covers(&topic)))
            }
            _ => false,
        }
    }
}

impl fmt::Display for Root {
    /// The rule that a refusal names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let divider = match self {
            Root::Wamp | Root::Corsac => ".",
            Root::DollarCorsac => "",
            _ => "/",
        };
        write!(f, "names under {}{divider} belong to the router; choose another first level", self.name())
    }
}

/// True for `$SYS/broker/connection/<one level>/state`.
fn is_bridge_state(mqtt: &str) -> bool {
    let name = mqtt.strip_prefix("$SYS/broker/connection/").and_then(|rest| rest.strip_suffix("/state"));
    name.is_some_and(|name| !name.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MatchPolicy;

    fn topic(mqtt: &str) -> Topic {
        Topic::from_mqtt(mqtt).unwrap()
    }

    #[test]
    fn the_roots_are_those_of_the_mapping() {
        let roots =
            "$SYS $share $call $callee $reply $yield $cancel $queue $lock $store $exclusive $delayed $produce wamp corsac";
        for root in roots.split(' ') {
            assert_eq!(Root::of(root).map(Root::name), Some(root));
            for name in [root.to_owned(), format!("{root}/a"), format!("{root}/a/b")] {
                assert!(topic(&name).is_reserved(), "{name}");
                assert_eq!(Topic::from_uri(&name.replace('/', ".")).unwrap().root(), topic(&name).root(), "{name}");
            }
            for name in [format!("{root}s/a"), format!("a/{root}"), format!("{root}-x")] {
                assert!(!topic(&name).is_reserved(), "{name}");
            }
        }
        assert!(["$corsac", "$corsac/a", "$corsac-x/a", "$corsacx"].iter().all(|name| topic(name).is_reserved()));
        for name in ["$aws/things/a", "$iothub/x", "$", "$/a", "$sys/a", "Corsac/a", "corsac-x/a", "wampus"] {
            assert!(!topic(name).is_reserved(), "{name}");
        }
    }

    #[test]
    fn the_state_of_a_bridge_is_a_topic_of_clients() {
        for name in ["$SYS/broker/connection/a/state", "$SYS/broker/connection//state", "$SYS/broker/connection/a.b/state"] {
            assert!(!topic(name).is_reserved() && topic(name).is_hidden(), "{name}");
        }
        assert!(!Topic::from_uri("$SYS.broker.connection.a.state").unwrap().is_reserved());
        for name in ["state", "a", "a/b/state", "a/state/x", "a/stated"] {
            assert!(topic(&format!("$SYS/broker/connection/{name}")).is_reserved(), "{name}");
        }
    }

    #[test]
    fn a_refusal_names_the_rule() {
        let rule = |mqtt| topic(mqtt).root().unwrap().to_string();
        assert_eq!(rule("corsac/status"), "names under corsac. belong to the router; choose another first level");
        assert_eq!(rule("$lock/a"), "names under $lock/ belong to the router; choose another first level");
        assert_eq!(rule("$corsac-x/a"), "names under $corsac belong to the router; choose another first level");
    }

    #[test]
    fn what_nobody_can_hear_is_known() {
        let is_heard = |filter: &Filter, is_mqtt| filter.root().is_none_or(|root| root.is_heard(filter, is_mqtt));
        let mqtt = |text: &str| Filter::from_mqtt(text).unwrap();
        for text in
            ["$SYS/#", "$SYS/broker/connection/+/state", "$lock/#", "$lock/a", "$aws/#", "corsac/#", "corsac/lock/on_lost"]
        {
            assert!(is_heard(&mqtt(text), true) && is_heard(&mqtt(text), false), "{text}");
        }
        for text in ["#", "+/+", "wamp/session/on_join", "wamp/+/on_create", "$SYS/+/x", "$/x"] {
            assert!(is_heard(&mqtt(text), true) && is_heard(&mqtt(text), false), "{text}");
        }
        for text in ["$reply/#", "$cancel/1", "$queue/a"] {
            assert!(is_heard(&mqtt(text), true) && !is_heard(&mqtt(text), false), "{text}");
        }
        for text in [
            "$reply",
            "$queue",
            "$call/a",
            "$callee/#",
            "$yield/#",
            "$share",
            "$store/a",
            "$exclusive/a",
            "$delayed/5/a",
            "$produce/a",
        ] {
            assert!(!is_heard(&mqtt(text), true) && !is_heard(&mqtt(text), false), "{text}");
        }
        for text in
            ["corsac/test", "corsac", "corsac/lock/acquire", "corsac/test/#", "wamp/session/count", "$corsac/a", "$corsac-x/#"]
        {
            assert!(!is_heard(&mqtt(text), true), "{text}");
        }
        let prefix = |text| Filter::from_uri(text, MatchPolicy::Prefix).unwrap();
        for (text, expected) in
            [("", true), ("$", true), ("$lock.", true), ("corsac", true), ("corsac.", true), ("corsac.x", false)]
        {
            assert_eq!(is_heard(&prefix(text), false), expected, "{text:?}");
        }
    }
}
