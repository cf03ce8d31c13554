//! The lines of the log about connections: who came, who went and why, each refusal and the key that would allow it.
//!
//! A kind of line appears a few times a second at the most; the rest is summed up in one line. Names that clients chose are
//! escaped and cut, payloads and passwords are never there.
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tracing::field::{DisplayValue, display};

use super::clock::now_ms;
use crate::gate::report::{Ending, Introduction, Note};
use crate::model::command::Protocol;
use crate::model::limits::{MAX_LOG_LINES, MAX_LOG_NAME_CHARS};
use crate::model::{Reason, Topic};

/// The kind of a line; each has its own share of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A client has come.
    Come,
    /// A client has gone by itself.
    Gone,
    /// The router ended a session for what its client did.
    CutOff,
    /// A connection came to nothing.
    Refused,
    /// A connection was not taken in, as there are too many.
    Crowd,
    /// Something that speaks no protocol of the port.
    Stranger,
    /// An HTTP request that was refused.
    Request,
    /// A request of a client was refused.
    Denied,
    /// A client takes less than it is sent.
    Slow,
    /// A password that nobody looks at.
    Password,
}

impl Kind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Kind; 10] = [
        Kind::Come,
        Kind::Gone,
        Kind::CutOff,
        Kind::Refused,
        Kind::Crowd,
        Kind::Stranger,
        Kind::Request,
        Kind::Denied,
        Kind::Slow,
        Kind::Password,
    ];

    /// Its name among the counters.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Come => "connected",
            Kind::Gone => "gone",
            Kind::CutOff => "cut_off",
            Kind::Refused => "refused_clients",
            Kind::Crowd => "refused_connections",
            Kind::Stranger => "strangers",
            Kind::Request => "refused_requests",
            Kind::Denied => "denied",
            Kind::Slow => "slow",
            Kind::Password => "unchecked_passwords",
        }
    }

    /// The text of the line that stands for `count` more of them.
    fn sum(self, count: u64) -> String {
        let what = match self {
            Kind::Come => "clients connected",
            Kind::Gone => "clients went",
            Kind::CutOff => "clients were cut off",
            Kind::Refused => "clients were refused",
            Kind::Crowd => "connections were refused as there are too many",
            Kind::Stranger => "connections spoke no protocol of their port",
            Kind::Request => "HTTP requests were refused",
            Kind::Denied => "requests of clients were refused",
            Kind::Slow => "times events were lost for slow clients",
            Kind::Password => "clients sent a password that is not checked",
        };
        format!("{count} more {what}; this log names {MAX_LOG_LINES} of a kind a second")
    }

    fn is_news(self) -> bool {
        matches!(self, Kind::Come | Kind::Gone)
    }

    fn is_heard(self) -> bool {
        if self.is_news() {
            tracing::enabled!(target: "corsac::net", tracing::Level::INFO)
        } else {
            tracing::enabled!(target: "corsac::net", tracing::Level::WARN)
        }
    }

    /// So many lines in so many milliseconds.
    fn share(self) -> (u32, u64) {
        if self == Kind::Password { (1, 60_000) } else { (MAX_LOG_LINES, 1_000) }
    }
}

/// The number of lines of one kind.
struct Count {
    total: AtomicU64,
    window: Mutex<Window>,
}

/// The lines of one kind in the present while.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Window {
    since_ms: u64,
    lines: u32,
    left_out: u64,
}

impl Window {
    /// Whether one more line of this `share` may be written at `now_ms`.
    fn admits(&mut self, share: (u32, u64), now_ms: u64) -> bool {
        let (lines, while_ms) = share;
        if now_ms >= self.since_ms.saturating_add(while_ms) {
            (self.since_ms, self.lines) = (now_ms, 0);
        }
        if self.lines >= lines {
            self.left_out += 1;
            return false;
        }
        self.lines += 1;
        true
    }

    /// The lines that were left out of a while that is over.
    fn take_left_out(&mut self, share: (u32, u64), now_ms: u64) -> u64 {
        if now_ms < self.since_ms.saturating_add(share.1) { 0 } else { std::mem::take(&mut self.left_out) }
    }
}

/// As there is one log in a process, there is one count of its lines.
static COUNTS: [Count; Kind::ALL.len()] =
    [const { Count { total: AtomicU64::new(0), window: Mutex::new(Window { since_ms: 0, lines: 0, left_out: 0 }) } };
        Kind::ALL.len()];

fn count(kind: Kind) -> Option<&'static Count> {
    COUNTS.get(kind as usize)
}

/// Counts one of this kind; true if it gets a line of its own.
fn admits(kind: Kind) -> bool {
    let Some(count) = count(kind) else { return false };
    count.total.fetch_add(1, Ordering::Relaxed);
    if !kind.is_heard() {
        return false;
    }
    let now_ms = now_ms();
    let (is_admitted, left_out) = {
        let mut window = count.window.lock();
        let left_out = window.take_left_out(kind.share(), now_ms);
        (window.admits(kind.share(), now_ms), left_out)
    };
    say_sum(kind, left_out);
    is_admitted
}

fn say_sum(kind: Kind, left_out: u64) {
    match (left_out, kind.is_news()) {
        (0, _) => {}
        (_, true) => tracing::info!(target: "corsac::net", "{}", kind.sum(left_out)),
        (_, false) => tracing::warn!(target: "corsac::net", "{}", kind.sum(left_out)),
    }
}

/// The number of each kind since the start, with its name.
pub fn totals() -> impl Iterator<Item = (&'static str, u64)> {
    let total = |kind| count(kind).map_or(0, |count| count.total.load(Ordering::Relaxed));
    Kind::ALL.into_iter().map(move |kind| (kind.name(), total(kind)))
}

/// Sums up what was left out, each second, until the task is dropped.
pub async fn sum_up() {
    let mut interval = tokio::time::interval(Duration::from_secs(1));
    loop {
        interval.tick().await;
        for kind in Kind::ALL {
            let left_out = count(kind).map_or(0, |count| count.window.lock().take_left_out(kind.share(), now_ms()));
            say_sum(kind, left_out);
        }
    }
}

/// Text of a client's choice: in quotes, with escapes for what is no plain character, and cut.
pub struct Name<'a>(pub &'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        write_escaped(f, self.0, MAX_LOG_NAME_CHARS)?;
        f.write_char('"')
    }
}

/// Text of ours that may hold some of a client's: as [`Name`], without the quotes.
struct Detail<'a>(&'a str);

impl fmt::Display for Detail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_empty() {
            f.write_str(": ")?;
        }
        write_escaped(f, self.0, 2 * MAX_LOG_NAME_CHARS)
    }
}

fn write_escaped(f: &mut fmt::Formatter<'_>, text: &str, most: usize) -> fmt::Result {
    let mut chars = text.chars();
    for c in chars.by_ref().take(most) {
        match c {
            '\'' => f.write_char(c)?,
            // Marks that change how the rest of a line looks are no plain characters either.
            '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}' => {
                write!(f, "{}", c.escape_unicode())?;
            }
            c => write!(f, "{}", c.escape_debug())?,
        }
    }
    if chars.next().is_some() { f.write_char('…') } else { Ok(()) }
}

/// Whom a line is about.
#[derive(Clone, Copy)]
pub struct Who<'a> {
    /// The address of the other side.
    pub peer: &'a str,
    /// Its introduction of itself, if there was one.
    pub introduction: Option<&'a Introduction>,
}

/// As fields of a line; what is not known is left out.
impl Who<'_> {
    pub(super) fn client(&self) -> Option<DisplayValue<Name<'_>>> {
        self.introduction?.client_id.as_deref().map(Name).map(display)
    }

    pub(super) fn user(&self) -> Option<DisplayValue<Name<'_>>> {
        self.introduction?.user.as_deref().map(Name).map(display)
    }

    pub(super) fn realm(&self) -> Option<DisplayValue<Name<'_>>> {
        self.introduction.map(|who| display(Name(&who.realm)))
    }

    /// Of WAMP alone: MQTT's clients are known by their ids.
    pub(super) fn session(&self) -> Option<u64> {
        self.introduction.filter(|who| !who.protocol.is_mqtt()).map(|who| who.session.0)
    }

    pub(super) fn protocol(&self) -> Option<&'static str> {
        Some(match self.introduction?.protocol {
            Protocol::Mqtt31 => "MQTT 3.1",
            Protocol::Mqtt311 => "MQTT 3.1.1",
            Protocol::Mqtt5 => "MQTT 5",
            Protocol::Wamp => "WAMP",
        })
    }
}

/// One line about a client, with all that is known of it behind the text.
macro_rules! say {
    ($level:ident, $who:expr, $($text:tt)*) => {{
        let who: $crate::net::journal::Who<'_> = $who;
        tracing::$level!(
            target: "corsac::net",
            client = who.client(),
            session = who.session(),
            user = who.user(),
            realm = who.realm(),
            protocol = who.protocol(),
            address = who.peer,
            $($text)*
        );
    }};
}
pub(super) use say;

/// A session is open.
pub fn come(who: Who<'_>) {
    if admits(Kind::Come) {
        say!(info, who, "client connected");
    }
    if who.introduction.is_some_and(|introduction| introduction.has_unchecked_password) && admits(Kind::Password) {
        let advice = "whoever passes the listener is let in; have a proxy in front ask for it";
        say!(warn, who, "a client sent a password, which this version does not check: {advice}");
    }
}

/// A connection has ended; `is_open` tells that it had a session.
pub fn gone(who: Who<'_>, is_open: bool, ending: &Ending) {
    match (ending, is_open) {
        // Nothing is said twice.
        (Ending::Cut(reason, detail), _) if *detail == *reason.to_string() => gone(who, is_open, &Ending::cut(*reason)),
        (Ending::Lost(how), false) => say!(debug, who, "a connection ended before it had a session{}", Detail(how)),
        (Ending::Goodbye | Ending::Cut(Reason::ShuttingDown, _), false) => {}
        (Ending::Goodbye, true) => tell_of_end(who, "said goodbye", ""),
        (Ending::Lost(how), true) => tell_of_end(who, how, ""),
        (Ending::Cut(reason, detail), true) if is_news(*reason) => tell_of_end(who, &reason.to_string(), detail),
        (Ending::Cut(reason, detail), true) => {
            if admits(Kind::CutOff) {
                say!(warn, who, "client cut off: {reason}{}{}", Detail(detail), advice(*reason));
            }
        }
        (Ending::Cut(reason, detail), false) => {
            if admits(Kind::Refused) {
                say!(warn, who, "client refused: {reason}{}{}", Detail(detail), advice(*reason));
            }
        }
    }
}

fn tell_of_end(who: Who<'_>, how: &str, detail: &str) {
    if admits(Kind::Gone) {
        say!(info, who, "client gone: {}{}", Plain(how), Detail(detail));
    }
}

/// Ends that no client is to blame for.
fn is_news(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::SessionTakenOver
            | Reason::KeepAliveTimeout
            | Reason::ShuttingDown
            | Reason::AdministrativeAction
            | Reason::ConnectionLost
    )
}

/// Which flag or key would have allowed what was refused for this reason.
fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::MessageTooLarge => {
            "; limits.max_packet_bytes allows more, and limits.max_packet_before_auth_bytes before the session is open"
        }
        Reason::NoSuchRealm => "; add [[realms]] with its name, or set auto_create_realms = true",
        Reason::QuotaExceeded => "; the bounds stand in [limits], and `corsac check` prints them",
        Reason::NotAuthenticated => "; anonymous = true lets everybody in, and this version has no users",
        Reason::BadAuthenticationMethod => "; this version has no authentication: connect without any",
        Reason::ClientIdNotValid => "; give the client an id, or a clean session where it has none",
        Reason::TooSlow => "; limits.open_timeout_ms and limits.packet_timeout_ms allow more time",
        Reason::ReceiveMaximumExceeded => "; limits.receive_maximum allows more",
        Reason::TopicAliasInvalid => "; limits.topic_alias_maximum allows more",
        Reason::Refused => "; mqtt.refused_filters forbids it",
        Reason::NoSpace => "; free some space on the disk of data_dir",
        Reason::StorageFailed => "; see to the disk of data_dir, and start again",
        Reason::ServerBusy => "; it may connect again",
        _ => "",
    }
}

/// The listener at which a connection was not taken in, as a bound is reached.
pub fn crowd(peer: impl fmt::Display, bound: &str) {
    if admits(Kind::Crowd) {
        tracing::warn!(target: "corsac::net", address = %peer, "connection refused: {bound} is reached; raise it, or find out who connects");
    }
}

/// No connection can be taken in.
pub fn deaf(error: &std::io::Error) {
    if admits(Kind::Crowd) {
        tracing::warn!(target: "corsac::net", "cannot accept a connection: {error}; raise the limit of open files (ulimit -n)");
    }
}

/// A connection that speaks nothing of what its port does.
pub fn stranger(peer: impl fmt::Display, why: impl fmt::Display) {
    if admits(Kind::Stranger) {
        tracing::warn!(target: "corsac::net", address = %peer, "connection refused: {}", Plain(&why.to_string()));
    }
}

/// An HTTP request was refused; `text` is what its sender is told.
pub fn request(peer: impl fmt::Display, status: u16, text: &str) {
    if admits(Kind::Request) {
        tracing::warn!(target: "corsac::net", address = %peer, status, "request refused: {}", Plain(text.trim_end()));
    }
}

/// As [`Detail`], at the beginning of a text.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_escaped(f, self.0, 4 * MAX_LOG_NAME_CHARS)
    }
}

/// Requests that the gate has refused.
pub fn refusals(who: Who<'_>, notes: &[Note], unsaid: u64) {
    for Note { what, name, reason } in notes {
        let name = Name(name);
        match reason {
            reason if is_notable(*reason) => {
                if admits(Kind::Denied) {
                    say!(warn, who, name = %name, "{what} refused: {reason}{}", advice(*reason));
                }
            }
            reason => say!(debug, who, name = %name, "{what} refused: {reason}{}", advice(*reason)),
        }
    }
    if unsaid > 0 {
        say!(debug, who, "{unsaid} more requests refused");
    }
}

/// Refusals for which somebody looks in the log.
fn is_notable(reason: Reason) -> bool {
    matches!(reason, Reason::NotAuthorized | Reason::ReservedName(_) | Reason::Refused | Reason::QuotaExceeded)
}

/// A publication was not allowed.
pub fn denied(who: Who<'_>, topic: &Topic, reason: Reason) {
    if admits(Kind::Denied) {
        say!(warn, who, name = %Name(topic.as_mqtt()), "publish refused: {reason}");
    }
}

/// A bound keeps a request from being granted: which keys may raise it.
pub fn bounded(who: Who<'_>, what: &'static str) {
    let keys = match what {
        "publish" => "limits.max_retained and max_retained_bytes allow",
        "call" => "limits.max_pending_calls_per_session, max_waiting and max_queued allow",
        _ => "limits.max_subscriptions_per_session, max_registrations_per_session and max_wildcards_per_session allow",
    };
    if admits(Kind::Denied) {
        say!(warn, who, "{what} refused: {}; {keys} more", Reason::QuotaExceeded);
    }
}

/// Events were lost as the client takes less than it is sent.
pub fn slow(who: Who<'_>, dropped: u64) {
    if admits(Kind::Slow) {
        say!(warn, who, "{dropped} events lost: the client takes less than it is sent; limits.max_outbox_bytes holds more");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_its_share_and_the_rest_is_counted() {
        let (mut window, share) = (Window::default(), (10, 1_000));
        let admitted = |window: &mut Window, at_ms| (0..100).filter(|_| window.admits(share, at_ms)).count();
        assert_eq!(admitted(&mut window, 5_000), 10);
        assert_eq!(admitted(&mut window, 5_999), 0);
        assert_eq!(window.take_left_out(share, 5_999), 0, "the second is not over");
        assert_eq!(window.take_left_out(share, 6_000), 190);
        assert_eq!(window.take_left_out(share, 6_000), 0);
        assert_eq!(admitted(&mut window, 6_000), 10);
    }

    #[test]
    fn names_are_escaped_and_cut() {
        for (name, expected) in [
            ("a", "\"a\""),
            ("it's", "\"it's\""),
            ("a\"b\\", "\"a\\\"b\\\\\""),
            ("\u{1b}[31m\n\0", "\"\\u{1b}[31m\\n\\0\""),
            ("Zürich 雪", "\"Zürich 雪\""),
            ("\u{202e}abc", "\"\\u{202e}abc\""),
        ] {
            assert_eq!(Name(name).to_string(), expected);
        }
        let long = Name(&"x".repeat(1_000)).to_string();
        assert_eq!(long.chars().count(), MAX_LOG_NAME_CHARS + 3, "{long}");
        assert!(long.ends_with("…\""));
    }

    #[test]
    fn every_kind_has_its_place_and_name() {
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
        }
        let names: std::collections::HashSet<_> = totals().map(|(name, _)| name).collect();
        assert_eq!(names.len(), Kind::ALL.len());
    }
}
