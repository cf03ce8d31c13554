//! All parts of a realm side by side, and its sizes.
use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use slab::Slab;

use crate::model::payload::ToArgs;
use crate::model::record::StoreRule;
use crate::model::{EventId, Limits, Publication};
use crate::router::base::context::Context;
use crate::router::base::key::SessionKey;
use crate::router::base::on_the_way::OnTheWay;
use crate::router::base::piece::Changes;
use crate::router::base::reads::Reads;
use crate::router::base::tickets::Tickets;
use crate::router::base::timers::TimerKey;
use crate::router::broker::Broker;
use crate::router::broker::selection::SelectiveSubscription;
use crate::router::dealer::Dealer;
use crate::router::dealer::calls::Calls;
use crate::router::lock::Conditions;
use crate::router::queue::Queues;
use crate::router::retained::Retained;
use crate::router::session::Sessions;
use crate::router::waiting::Waiting;
use crate::router::waits::Waits;
use crate::router::will::Wills;

/// All parts of a realm side by side. The realm has no methods: a function that joins two parts is a flow.
#[derive(Debug)]
pub struct Realm {
    /// Time, bounds, chance, timers, and what is to be done.
    pub cx: Context,
    /// Its sessions.
    pub sessions: Sessions,
    /// The subscriptions.
    pub broker: Broker,
    /// Subscriptions that do not simply get what comes.
    pub selections: Slab<SelectiveSubscription>,
    /// The registrations.
    pub dealer: Dealer,
    /// Calls that somebody waits for.
    pub calls: Calls,
    /// Retained messages of clients.
    pub retained: Retained,
    /// Those of the router's own (`$SYS`), which take no place from clients'.
    pub own_retained: Retained,
    /// The holders of topics, and those who wait.
    pub locks: Conditions,
    /// Queues and who takes from them.
    pub queues: Queues,
    /// The messages that connections leave behind.
    pub wills: Wills,
    /// The records on their way into the history.
    pub tickets: Tickets<Waiting>,
    /// Those of them that will change the value of a topic.
    pub on_the_way: OnTheWay,
    /// Clients and commands that wait for the places of others.
    pub waits: Waits,
    /// Pages of the history that somebody waits for.
    pub reads: Reads,
    /// Stored records can be read.
    pub has_history: bool,
    /// The rules of storing where that is not decided by the acknowledgement.
    pub store_rules: Vec<StoreRule>,
    /// Sessions with acknowledgements that are not on record.
    pub progressed: Vec<SessionKey>,
    /// When those are recorded.
    pub checkpoint_timer: Option<TimerKey>,
    /// Which pieces of state have changed.
    pub changes: Changes,
    /// While pieces of state are restored: events that are owed through shared subscriptions.
    pub restoring: HashMap<EventId, Arc<Publication>, FixedState>,
    /// The function that looks into bodies of other encodings.
    pub to_args: ToArgs,
}

/// An empty realm; `seed` is all the chance it will ever have.
pub fn empty(limits: Limits, seed: u64) -> Realm {
    Realm {
        cx: Context::new(limits, seed),
        sessions: Sessions::default(),
        broker: Broker::default(),
        selections: Slab::new(),
        dealer: Dealer::default(),
        calls: Calls::default(),
        retained: Retained::default(),
        own_retained: Retained::default(),
        locks: Conditions::default(),
        queues: Queues::default(),
        wills: Wills::default(),
        tickets: Tickets::default(),
        on_the_way: OnTheWay::default(),
        waits: Waits::default(),
        reads: Reads::default(),
        has_history: false,
        store_rules: Vec::new(),
        progressed: Vec::new(),
        checkpoint_timer: None,
        changes: Changes::default(),
        restoring: HashMap::default(),
        to_args: |payload, _, _| payload.clone(),
    }
}

/// Sizes of a realm at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealmSizes {
    /// Sessions, connected or not.
    pub sessions: usize,
    /// Sessions with a connection.
    pub connected: usize,
    /// Subscriptions of all sessions, shared ones included.
    pub subscriptions: usize,
    /// Those of them that are shared.
    pub shared_subscriptions: usize,
    /// Distinct registrations.
    pub registrations: usize,
    /// Retained messages of clients.
    pub retained: usize,
    /// Bytes of their payloads.
    pub retained_bytes: usize,
}

impl RealmSizes {
    /// Adds those of another realm.
    pub fn add(&mut self, more: &RealmSizes) {
        self.sessions += more.sessions;
        self.connected += more.connected;
        self.subscriptions += more.subscriptions;
        self.shared_subscriptions += more.shared_subscriptions;
        self.registrations += more.registrations;
        self.retained += more.retained;
        self.retained_bytes += more.retained_bytes;
    }
}
