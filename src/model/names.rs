//! Names that mean something to the router: roots of topics, events, procedures, user properties, errors; which roots are its own.
use std::fmt;

use super::{Filter, Topic};

/// PUBLISH to `$call/<procedure>` calls (MAPPING.md, Calls).
pub const CALL: &str = "$call/";
/// SUBSCRIBE to `$callee/<procedure>` serves; invocations come there.
pub const CALLEE: &str = "$callee/";
/// Below this answers come to one session alone.
pub const REPLY: &str = "$reply/";
/// PUBLISH to `$yield/<invocation>` answers.
pub const YIELD: &str = "$yield/";
/// `$cancel/<invocation>` tells a callee to stop.
pub const CANCEL: &str = "$cancel/";
/// Below this root stand queues.
pub const QUEUE: &str = "$queue/";
/// The same as WAMP spells it.
pub const QUEUE_URI: &str = "$queue.";
/// Below this root stand locks: `$lock/<name>`.
pub const LOCK: &str = "$lock/";
/// The root of shared subscriptions: `$share/<group>/<filter>`.
pub const SHARE: &str = "$share/";

/// The holder of a lock has lost it.
pub const ON_LOCK_LOST: &str = "corsac/lock/on_lost";
/// Events for a slow connection were lost.
pub const ON_SLOW: &str = "corsac/session/on_slow";

/// The prefix of the procedures of queues.
pub const QUEUE_PROCEDURES: &str = "corsac.queue.";
/// The procedure that puts an item into a queue. The item is not for the router, and stays as it arrived.
pub const PUT: &str = "corsac.queue.put";
/// The procedure that returns an item to its queue.
pub const NACK: &str = "corsac.queue.nack";
/// The prefix of the procedures of locks.
pub const LOCK_PROCEDURES: &str = "corsac.lock.";
/// The procedure that publishes.
pub const PUBLISH: &str = "corsac.publish";
/// The procedure that reads the history.
pub const READ_HISTORY: &str = "corsac.history.read";

/// User property of CONNECT: the realm.
pub const REALM: &str = "corsac-realm";
/// User property of an answer: `result`, `progress` or `error`.
pub const STATUS: &str = "corsac-status";
/// User property of an answer: the URI of an error.
pub const ERROR: &str = "corsac-error";
/// User property of a call: how long it may take.
pub const TIMEOUT_MS: &str = "corsac-timeout-ms";
/// User property of a call: progressive results are welcome.
pub const RECEIVE_PROGRESS: &str = "corsac-receive-progress";
/// User property of a call: the callee may see who calls.
pub const DISCLOSE_ME: &str = "corsac-disclose-me";
/// User property of a publication: only if the topic's value fits.
pub const WHEN: &str = "corsac-when";
/// User property of a publication: wait until it does.
pub const WATCH: &str = "corsac-watch";
/// User property of a publication: the topic's value at the end of the session.
pub const WILL: &str = "corsac-will";
/// User property of a publication: the key by which a retry is known.
pub const DEDUP: &str = "corsac-dedup";
/// User property of an item that is put into a queue: the time before it can be taken, in milliseconds.
pub const DELAY: &str = "corsac-delay";
/// User property of an item of a queue: how often it has been delivered.
pub const DELIVERY_COUNT: &str = "corsac-delivery-count";
/// User property of a grant, and of an item of a queue: its token.
pub const TOKEN: &str = "corsac-token";
/// User property that says how a lock was lost.
pub const LOST: &str = "corsac-lost";
/// User property of SUBSCRIBE: first the events that were kept behind this one.
pub const AFTER: &str = "corsac-after";
/// User property of SUBSCRIBE: first so many of the last events.
pub const LAST: &str = "corsac-last";
/// User property of SUBSCRIBE: only events whose body fits.
pub const FILTER: &str = "corsac-filter";
/// User property of SUBSCRIBE: the subscription ends when the kept values are delivered.
pub const SNAPSHOT: &str = "corsac-snapshot";
/// User property of SUBSCRIBE: changes of retained values alone.
pub const RETAINED: &str = "corsac-retained";

/// Error: a callee failed without naming an error.
pub const RUNTIME_ERROR: &str = "wamp.error.runtime_error";
/// Error: a name is no valid URI.
pub const INVALID_URI: &str = "wamp.error.invalid_uri";
/// Error: the rules forbid it.
pub const NOT_AUTHORIZED: &str = "wamp.error.not_authorized";
/// Error: no realm of that name.
pub const NO_SUCH_REALM: &str = "wamp.error.no_such_realm";
/// Error: nobody serves the procedure.
pub const NO_SUCH_PROCEDURE: &str = "wamp.error.no_such_procedure";
/// Error: somebody else serves the procedure.
pub const PROCEDURE_ALREADY_EXISTS: &str = "wamp.error.procedure_already_exists";
/// Error: all callees left or declined.
pub const NO_AVAILABLE_CALLEE: &str = "wamp.error.no_available_callee";
/// Error: the call was given up by its caller.
pub const CANCELED: &str = "wamp.error.canceled";
/// Error: it took too long.
pub const TIMEOUT: &str = "wamp.error.timeout";
/// End: the router stops.
pub const SYSTEM_SHUTDOWN: &str = "wamp.close.system_shutdown";
/// Error: the value does not fit, or the token is not the holder's.
pub const CONDITION_FAILED: &str = "corsac.error.condition_failed";
/// Error: no item is claimed under this token.
pub const NO_SUCH_TOKEN: &str = "corsac.error.no_such_token";
/// Error: there is no history.
pub const NO_HISTORY: &str = "corsac.error.no_history";
/// Error: it is not kept any more.
pub const HISTORY_TOO_OLD: &str = "corsac.error.history_too_old";
/// Error: too much is asked at a time.
pub const SERVER_BUSY: &str = "corsac.error.server_busy";
/// Error: the command that serves the procedure ended with an error.
pub const COMMAND_FAILED: &str = "corsac.error.command_failed";
/// Error on the response topic of a grant: what was granted is lost.
pub const LOCK_LOST: &str = "corsac.error.lock_lost";

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
    /// Every root with its first level, or how that begins.
    const NAMES: [(Root, &str); 16] = [
        (Root::Sys, "$SYS"),
        (Root::Share, "$share"),
        (Root::Call, "$call"),
        (Root::Callee, "$callee"),
        (Root::Reply, "$reply"),
        (Root::Yield, "$yield"),
        (Root::Cancel, "$cancel"),
        (Root::Queue, "$queue"),
        (Root::Lock, "$lock"),
        (Root::Store, "$store"),
        (Root::Exclusive, "$exclusive"),
        (Root::Delayed, "$delayed"),
        (Root::Produce, "$produce"),
        (Root::DollarCorsac, "$corsac"),
        (Root::Wamp, "wamp"),
        (Root::Corsac, "corsac"),
    ];

    /// The root that `level`, the first of a name, is; the same in both spellings.
    pub fn of(level: &str) -> Option<Self> {
        let is = |(root, name): &&(Root, &str)| level == *name || (*root == Root::DollarCorsac && level.starts_with(name));
        Self::NAMES.iter().find(is).map(|(root, _)| *root)
    }

    /// The root that the topic which MQTT spells `mqtt` belongs to. Below `$SYS` the state of bridging brokers is an exception: they
    /// publish it themselves.
    pub(super) fn of_mqtt(mqtt: &str) -> Option<Self> {
        let first = mqtt.split('/').next().filter(|first| first.starts_with('$') || matches!(*first, "wamp" | "corsac"))?;
        Root::of(first).filter(|_| !is_bridge_state(mqtt))
    }

    /// Its first level, or how that begins.
    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(root, _)| *root == self).map_or("", |(_, name)| name)
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
