//! Every bound in one place (LIMITS.md); each is a key of the configuration.

/// Topics that the log names, each once, as no MQTT client can be sent their messages; further ones are only counted.
pub const MAX_NAMED_TOPICS: usize = 1_000;
/// Records of a realm that the log names at a start, as they cannot be read; further ones are only counted.
pub const MAX_NAMED_RECORDS: usize = 10;
/// Lines of the log of one kind in a second; the rest is summed up in one.
pub const MAX_LOG_LINES: u32 = 10;
/// Characters of a client's name that a line of the log holds.
pub const MAX_LOG_NAME_CHARS: usize = 128;
/// Lines of the log that wait to be written; what comes meanwhile is counted and lost.
pub const MAX_LOG_WAITING: usize = 1_024;
/// Refusals of one read that are named in the log; the rest is counted.
pub const MAX_NOTES: usize = 16;

/// Bytes of RawSocket PINGs of one session whose answers wait for their turn. Above this, its connection is not read until they are
/// out. The excess is at most one PING.
pub const MAX_PING_BYTES: usize = 64 * 1024;

/// Bytes of commands and publications of one session that wait behind something on its way into the history. Above this, its
/// connection is not read until nothing of it waits any more. The excess is at most one read.
pub const MAX_HELD_BYTES: usize = 256 * 1024;

/// Topics with changes of their value on the way that are looked at for one SUBSCRIBE with a pattern.
pub const MAX_CHANGES_LOOKED_AT: usize = 1_000;
/// Clients whose invocations are remembered when their sessions have ended.
pub const MAX_CALLEES_REMEMBERED: usize = 10_000;

/// Bounds of one router process; units at the end of names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Largest packet or message before authentication, in bytes.
    pub max_packet_before_auth_bytes: usize,
    /// Largest packet or message after authentication, in bytes.
    pub max_packet_bytes: usize,
    /// Largest head of an HTTP request, in bytes.
    pub max_http_head_bytes: usize,
    /// Time to CONNECT or HELLO.
    pub open_timeout_ms: u64,
    /// Time in which a started packet or message has to end, or to come on by `packet_progress_bytes`.
    pub packet_timeout_ms: u64,
    /// Bytes of a started packet that show that its line goes on: with as many it has the whole time again.
    pub packet_progress_bytes: usize,
    /// A WebSocket without traffic is sent a PING after this time, and after each such time again; 0 = never.
    pub websocket_ping_ms: u64,
    /// PINGs without an answer, or other traffic, after which a WebSocket is closed.
    pub websocket_unanswered_pings: u32,
    /// Longest keep-alive that is accepted, in seconds; 0 = any.
    pub max_keep_alive_s: u16,
    /// Connections in all.
    pub max_connections: usize,
    /// Connections from one address.
    pub max_connections_per_address: usize,
    /// New connections per second from one address; loopback is exempt unless `limit_loopback`.
    pub max_connection_rate_per_address: u32,
    /// Apply the per-address bounds to loopback too.
    pub limit_loopback: bool,
    /// Levels of a topic or filter.
    pub max_topic_levels: usize,
    /// Subscriptions of a session.
    pub max_subscriptions_per_session: usize,
    /// Registrations of a session.
    pub max_registrations_per_session: usize,
    /// Sessions that may wait in one line: for a lock, a queue or a busy callee.
    pub max_waiting: usize,
    /// Calls of a session that wait for an answer, and invocations of a callee.
    pub max_pending_calls_per_session: usize,
    /// Subscriptions with wildcards of a session.
    pub max_wildcards_per_session: usize,
    /// Subscriptions with wildcards of a realm.
    pub max_wildcards_per_realm: usize,
    /// Bytes waiting for one connection's socket.
    pub max_outbox_bytes: usize,
    /// Longest time that a full outbox may pace a publisher at once.
    pub pace_ms: u64,
    /// Without a byte taken by the socket for this long, a connection with a full outbox is closed.
    pub stalled_outbox_timeout_ms: u64,
    /// Receive Maximum: QoS > 0 publications a client may have unacknowledged.
    pub receive_maximum: u16,
    /// Topic aliases a client may use; and the most that we use towards it.
    pub topic_alias_maximum: u16,
    /// Retained messages of a realm.
    pub max_retained: usize,
    /// Bytes of retained messages of a realm.
    pub max_retained_bytes: usize,
    /// Bytes waiting in a session for acknowledgements or for its client to come back.
    pub max_session_queue_bytes: usize,
    /// Messages waiting in a session.
    pub max_session_queue: usize,
    /// Sessions of a realm whose client is away.
    pub max_stored_sessions: usize,
    /// Longest session expiry, in seconds; `u32::MAX` = any.
    pub max_session_expiry_s: u32,
    /// Queues of a realm that are declared, hold something, or have somebody waiting.
    pub max_queues: usize,
    /// Items in the queues of a realm.
    pub max_queued: usize,
    /// Bytes of items in the queues of a realm.
    pub max_queued_bytes: usize,
    /// Calls that wait for items of one queue.
    pub max_queue_takers: usize,
    /// Realms created on first use.
    pub max_auto_realms: usize,
    /// Bytes that stay free on the disk of the history.
    pub disk_reserve_bytes: u64,
    /// Bytes that the history takes from the disk at a time.
    pub segment_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_packet_before_auth_bytes: 64 * 1024,
            max_packet_bytes: 16 * 1024 * 1024,
            max_http_head_bytes: 16 * 1024,
            open_timeout_ms: 10_000,
            packet_timeout_ms: 30_000,
            packet_progress_bytes: 4 * 1024,
            websocket_ping_ms: 30_000,
            websocket_unanswered_pings: 2,
            max_keep_alive_s: 0,
            max_connections: 100_000,
            max_connections_per_address: 1_000,
            max_connection_rate_per_address: 100,
            limit_loopback: false,
            max_topic_levels: 128,
            max_subscriptions_per_session: 10_000,
            max_registrations_per_session: 10_000,
            max_waiting: 10_000,
            max_pending_calls_per_session: 10_000,
            max_wildcards_per_session: 1_000,
            max_wildcards_per_realm: 1_000_000,
            max_outbox_bytes: 4 * 1024 * 1024,
            pace_ms: 50,
            stalled_outbox_timeout_ms: 30_000,
            receive_maximum: 1_024,
            topic_alias_maximum: 16,
            max_retained: 1_000_000,
            max_retained_bytes: 1024 * 1024 * 1024,
            max_session_queue_bytes: 64 * 1024 * 1024,
            max_session_queue: 100_000,
            max_stored_sessions: 100_000,
            max_session_expiry_s: u32::MAX,
            max_queues: 10_000,
            max_queued: 1_000_000,
            max_queued_bytes: 1024 * 1024 * 1024,
            max_queue_takers: 10_000,
            max_auto_realms: 1_000,
            disk_reserve_bytes: 64 * 1024 * 1024,
            segment_bytes: 64 * 1024 * 1024,
        }
    }
}
