//! One realm in motion: a thread that brings an input runs the router for all who wait, and no thread is woken for it.
//!
//! Inputs go into a mailbox; the one that finds the router free empties the mailbox in order, the others leave theirs and
//! go on reading. So a realm has one order, and at low rates a message is routed on the thread that read it.
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use foldhash::fast::FixedState;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::history::History;
use super::kept::{Due, Kept, PART};
use super::line::{Line, Settled};
use super::post::{News, Post};
use super::reading::Reading;
use super::state::{Rebuilt, new_router};
use super::unwritten::Unwritten;
use crate::model::record::Ticket;
use crate::model::{ConnectionId, Delivery, Limits, Publication, Reason};
use crate::net::clock::{instant_of, now_ms};
use crate::net::outbox::Outbox;
use crate::net::{Input, Realm};
use crate::router::Draft;
use crate::router::{Counters, Effect, Owed, RealmSizes, Router};
use crate::store::Error;

/// One thing for a realm to handle.
enum Item {
    /// A connection joins; its commands follow.
    Join(ConnectionId, Arc<Outbox>),
    /// A connection's input.
    Input(ConnectionId, Input),
    /// Something of the router's own to be published.
    Own(Publication),
    /// Something may be due.
    Timeout,
    /// Every session is told to end.
    ShutDown,
    /// Something that was asked of the history is done.
    News(News),
}

/// A realm and the outboxes of its connections.
pub struct EventLoop {
    mailbox: Mutex<Vec<Item>>,
    core: Mutex<Core>,
    /// When the router next has something due; `u64::MAX` = never.
    due_ms: AtomicU64,
    due_changed: Notify,
}

struct Core {
    router: Router,
    members: HashMap<ConnectionId, Member, FixedState>,
    /// Members with staged deliveries that answer what they sent: served first, so that nobody hears of a publication before its
    /// publisher knows that it was taken.
    answered: Vec<ConnectionId>,
    /// Other members with staged deliveries.
    dirty: Vec<ConnectionId>,
    /// Members that lost events.
    overrun: Vec<(ConnectionId, u64)>,
    /// The way into the history; without one ids are given at once.
    line: Option<Line>,
    /// The part of the router's state that is kept.
    kept: Option<Kept>,
    /// The way back out of it.
    reading: Option<Reading>,
    /// Without a line: where the ids come from.
    unwritten: Unwritten,
    /// Records of the history whose effect is missing.
    unreadable: u64,
}

struct Member {
    outbox: Arc<Outbox>,
    staged: Vec<Delivery>,
    /// Batches that were handled but for their place in the history.
    owed: usize,
}

impl EventLoop {
    /// The realm called `name` as `history` left it, or an empty one, with a task that brings its timeouts until it is dropped.
    pub fn start(limits: Limits, seed: u64, name: &str, history: Option<&Arc<History>>) -> Result<Arc<Self>, Error> {
        let name: Arc<str> = name.into();
        let (router, restored, unreadable) = match history {
            Some(history) => {
                let (Rebuilt { mut router, restored, owners, unreadable, .. }, kept) = history.rebuild(&name, &limits, seed)?;
                router.finish_replay(now_ms());
                (router, Some((history, restored, owners, kept)), unreadable.count)
            }
            None => (new_router(limits, seed), None, 0),
        };
        let event_loop = Arc::new_cyclic(|this: &Weak<EventLoop>| {
            let post = Arc::new(post_to(this.clone()));
            let reader = history.map(|history| history.reader().clone());
            let reading = reader.map(|reader| Reading::start(post.clone(), name.clone(), reader));
            let line = restored
                .map(|(history, restored, owners, kept)| (Line::start(post, name, history.clone(), restored, owners), kept));
            EventLoop::of(router, line, reading, unreadable)
        });
        // Keeps the state that had to be made anew, because doing so later would hold up clients.
        event_loop.keep_if_new();
        // The end of the process before this one is the first thing to be written.
        event_loop.put(Item::Timeout);
        tokio::spawn(bring_timeouts(Arc::downgrade(&event_loop)));
        Ok(event_loop)
    }

    fn of(router: Router, line: Option<(Line, Kept)>, reading: Option<Reading>, unreadable: u64) -> Self {
        let (line, kept) = line.unzip();
        let core = Core {
            router,
            members: HashMap::default(),
            answered: Vec::new(),
            dirty: Vec::new(),
            overrun: Vec::new(),
            line,
            kept,
            reading,
            unwritten: Unwritten::start(now_ms()),
            unreadable,
        };
        EventLoop {
            mailbox: Mutex::new(Vec::new()),
            core: Mutex::new(core),
            due_ms: AtomicU64::new(u64::MAX),
            due_changed: Notify::new(),
        }
    }

    /// Lets a connection in.
    pub fn join(&self, connection: ConnectionId, outbox: Arc<Outbox>) {
        self.put(Item::Join(connection, outbox));
    }

    /// Publishes in the router's own name.
    pub fn publish_own(&self, publication: Publication) {
        self.put(Item::Own(publication));
    }

    /// True if nothing waits for its place in the history, the end of the process before this one included.
    pub fn is_settled(&self) -> bool {
        self.look(|core| core.line.as_ref().is_none_or(Line::is_idle))
    }

    /// Keeps the state as it is, if it has changed and it is time, or the last time.
    pub fn keep(&self, is_last: bool) {
        self.core.lock().keep(is_last, now_ms());
        // Somebody may have found the core taken, and left an item.
        self.run();
    }

    fn keep_if_new(&self) {
        let mut core = self.core.lock();
        if core.kept.as_ref().is_some_and(Kept::is_new) {
            core.keep(true, now_ms());
        }
    }

    /// True if everything of the state is where it is kept.
    pub fn is_kept(&self) -> bool {
        self.look(|core| core.kept.as_ref().is_none_or(|kept| kept.is_idle(core.router.as_of())))
    }

    /// Tells every session to end.
    pub fn shut_down(&self) {
        self.put(Item::ShutDown);
    }

    /// Sizes and counters now.
    pub fn sizes(&self) -> (RealmSizes, Counters) {
        self.look(|core| (core.router.sizes(), core.router.counters()))
    }

    /// The publications that the sessions at these places are owed; `None` behind the last place.
    pub fn owed(&self, places: Range<usize>) -> Option<Owed> {
        self.look(|core| core.router.owed(places))
    }

    /// Records of its history that could not be read at the start: what they changed is missing.
    pub fn unreadable(&self) -> u64 {
        self.look(|core| core.unreadable)
    }

    /// Connections that have joined and not left.
    pub fn connections(&self) -> usize {
        self.look(|core| core.members.len())
    }

    /// Looks at the core, and then runs for those who found it taken meanwhile and left their items.
    fn look<R>(&self, look: impl FnOnce(&Core) -> R) -> R {
        let seen = look(&self.core.lock());
        if !self.mailbox.lock().is_empty() {
            self.run();
        }
        seen
    }

    fn put(&self, item: Item) {
        self.mailbox.lock().push(item);
        self.run();
    }

    /// Empties the mailbox, unless somebody else is at it: then they will find our item when they look once more.
    fn run(&self) {
        loop {
            let Some(mut core) = self.core.try_lock() else { return };
            loop {
                let items = std::mem::take(&mut *self.mailbox.lock());
                if items.is_empty() {
                    break;
                }
                for item in items {
                    core.handle(item);
                }
                core.submit();
                core.tell_of_overruns();
            }
            self.note_due(core.router.poll_timeout());
            drop(core);
            if self.mailbox.lock().is_empty() {
                return;
            }
        }
    }

    fn note_due(&self, due_ms: Option<u64>) {
        let due_ms = due_ms.unwrap_or(u64::MAX);
        if self.due_ms.swap(due_ms, Ordering::Relaxed) > due_ms {
            self.due_changed.notify_one();
        }
    }
}

impl Realm for EventLoop {
    fn handle(&self, connection: ConnectionId, input: Input) {
        self.put(Item::Input(connection, input));
    }
}

/// The way to a realm, which it does not keep alive.
fn post_to(realm: Weak<EventLoop>) -> Post {
    Post::new(move |news| {
        if let Some(realm) = realm.upgrade() {
            realm.put(Item::News(news));
        }
    })
}

/// Brings a timeout whenever the router has something due.
async fn bring_timeouts(event_loop: Weak<EventLoop>) {
    // Looks once a second whether the realm still exists.
    const LOOK: Duration = Duration::from_secs(1);
    while let Some(realm) = event_loop.upgrade() {
        let due_ms = realm.due_ms.load(Ordering::Relaxed);
        if due_ms <= now_ms() {
            realm.due_ms.store(u64::MAX, Ordering::Relaxed);
            realm.put(Item::Timeout);
            continue;
        }
        let due = instant_of(due_ms.min(now_ms() + LOOK.as_millis() as u64));
        tokio::select! {
            () = tokio::time::sleep_until(due) => realm.keep(false),
            () = realm.due_changed.notified() => {}
        }
    }
}

impl Core {
    fn handle(&mut self, item: Item) {
        let now_ms = now_ms();
        match item {
            Item::Join(connection, outbox) => {
                self.members.insert(connection, Member { outbox, staged: Vec::new(), owed: 0 });
            }
            Item::Input(connection, Input::Commands(commands)) => {
                for command in commands {
                    self.router.handle(connection, command, now_ms);
                    self.stage(now_ms);
                }
                self.flush(Some(connection), now_ms);
                if let Some(member) = self.members.get_mut(&connection) {
                    // Where much waits for the disk, what comes is read no faster than it is written.
                    member.owed += 1;
                    let is_short = self.line.as_ref().is_some_and(Line::is_short);
                    if !self.router.is_over_its_share(connection) && (is_short || !self.router.is_owed(connection)) {
                        member.release();
                    }
                }
            }
            Item::Input(connection, Input::Drained) => self.tell(now_ms, |router| router.handle_outbox_drained(connection)),
            Item::Input(connection, Input::Left) => {
                self.members.remove(&connection);
            }
            Item::Own(publication) => self.tell(now_ms, |router| router.publish_own(publication, now_ms)),
            Item::Timeout => self.tell(now_ms, |router| router.handle_timeout(now_ms)),
            Item::News(News::Written(written)) => {
                if let Some(line) = &mut self.line {
                    line.handle_written(written, now_ms);
                }
                self.answer(now_ms);
                self.keep(false, now_ms);
            }
            Item::News(News::Read(ticket, page)) => {
                if let Some(reading) = &mut self.reading {
                    reading.handle_read();
                }
                self.tell(now_ms, |router| router.handle_history(ticket, page));
            }
            Item::ShutDown => self.tell(now_ms, |router| router.shut_down(now_ms)),
        }
    }

    /// Tells the router something that no connection said, and everybody what follows from it.
    fn tell(&mut self, now_ms: u64, tell: impl FnOnce(&mut Router)) {
        tell(&mut self.router);
        self.stage(now_ms);
        self.flush(None, now_ms);
    }

    /// Sends what has changed of the state to where it is kept.
    fn keep(&mut self, is_last: bool, now_ms: u64) {
        let (Some(kept), Some(line)) = (&mut self.kept, &mut self.line) else { return };
        let as_of = self.router.as_of();
        match kept.due([self.router.changed_retained(), self.router.changed()], as_of, now_ms, is_last) {
            None => return,
            Some(Due::Part) => return kept.send_part(self.router.take_changed_retained(PART)),
            Some(Due::Whole) => {}
        }
        if let Some((as_of, entries)) = as_of.and_then(|as_of| Some((as_of, line.take_entries(as_of)?))) {
            kept.send(as_of, self.router.take_changes(), entries, now_ms);
        }
    }

    /// Sends what this round of items has to say on its way into the history.
    fn submit(&mut self) {
        if let Some(line) = &mut self.line {
            let now_ms = now_ms();
            line.submit(now_ms);
            self.answer(now_ms);
        }
    }

    /// Tells the router what has its place, and everybody who follows from it.
    fn answer(&mut self, now_ms: u64) {
        while let Some(settled) = self.line.as_mut().and_then(Line::poll_settled) {
            match settled {
                Settled::Appended { ticket, id, time_ms, is_duplicate } => {
                    self.router.handle_appended(ticket, id, time_ms, is_duplicate);
                }
                Settled::Gone { id, time_ms } => self.router.handle_gone(id, time_ms),
                Settled::Refused { ticket, reason } => self.router.handle_append_refused(ticket, reason),
            }
            self.stage(now_ms);
        }
        self.flush(None, now_ms);
    }

    /// Says who lost events in this round; what that leads to is not told again.
    fn tell_of_overruns(&mut self) {
        if self.overrun.is_empty() {
            return;
        }
        let overrun = std::mem::take(&mut self.overrun);
        self.tell(now_ms(), |router| {
            for (connection, dropped) in overrun {
                router.handle_outbox_overrun(connection, dropped);
            }
        });
        self.overrun.clear();
    }

    /// Sorts the router's effects by connection.
    fn stage(&mut self, now_ms: u64) {
        while let Some(effect) = self.router.poll_effect() {
            match effect {
                Effect::Deliver(connection, delivery) => self.stage_delivery(connection, delivery),
                Effect::Append(ticket, draft) => self.append(ticket, draft, now_ms),
                Effect::Read(ticket, query, form) => match &mut self.reading {
                    Some(reading) => reading.read(ticket, *query, form),
                    None => self.router.handle_history(ticket, Err(Reason::NoHistory)),
                },
                Effect::Settled(connection) => {
                    if let Some(member) = self.members.get_mut(&connection) {
                        member.release();
                    }
                }
            }
        }
    }

    fn append(&mut self, ticket: Ticket, draft: Draft, now_ms: u64) {
        if let Some(line) = &mut self.line {
            return line.put(draft);
        }
        let (id, is_duplicate) = self.unwritten.place(draft.dedup.as_ref());
        drop(draft);
        self.router.handle_appended(ticket, id, now_ms, is_duplicate);
    }

    fn stage_delivery(&mut self, connection: ConnectionId, delivery: Delivery) {
        let Some(member) = self.members.get_mut(&connection) else { return };
        if member.staged.is_empty() {
            let is_answer = !matches!(delivery, Delivery::Event(_) | Delivery::Invocation(_));
            let list = if is_answer { &mut self.answered } else { &mut self.dirty };
            list.push(connection);
        }
        member.staged.push(delivery);
    }

    /// One hand-over for each connection; what it fills paces the publisher.
    fn flush(&mut self, publisher: Option<ConnectionId>, now_ms: u64) {
        let mut filled = Vec::new();
        for connection in self.answered.drain(..).chain(self.dirty.drain(..)) {
            let Some(member) = self.members.get_mut(&connection) else { continue };
            let taken = member.outbox.put(&mut member.staged, now_ms);
            if taken.is_full && publisher != Some(connection) {
                filled.push(member.outbox.clone());
            }
            if taken.dropped > 0 {
                self.overrun.push((connection, taken.dropped));
            }
        }
        let publisher = publisher.filter(|_| !filled.is_empty()).and_then(|publisher| self.members.get(&publisher));
        if let Some(publisher) = publisher {
            for outbox in filled {
                publisher.outbox.pace_by(outbox);
            }
        }
    }
}

impl Member {
    /// Everything that it sent has its place: more of it is read.
    fn release(&mut self) {
        for _ in 0..std::mem::take(&mut self.owed) {
            self.outbox.note_handled();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::model::command::{Features, Open, Protocol, Transport};
    use crate::model::{Command, Principal, RequestId, SessionId};

    /// Looking at a realm's figures takes its core for a moment: who brings input then must not be left waiting.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn input_is_handled_while_others_look() {
        let realm = EventLoop::start(Limits::default(), 1, "realm1", None).unwrap();
        let (connection, outbox) = (ConnectionId(1), Arc::new(Outbox::new(1 << 20, now_ms())));
        realm.join(connection, outbox.clone());
        let open = Open {
            session: SessionId(1),
            protocol: Protocol::Wamp,
            transport: Transport::default(),
            principal: Arc::new(Principal::anonymous("a")),
            client_id: None,
            clean_start: true,
            expiry_s: 0,
            receive_maximum: 1,
            will: None,
            features: Features::default(),
        };
        realm.handle(connection, Input::Commands(vec![Command::Open(Box::new(open))]));
        let is_over = Arc::new(AtomicBool::new(false));
        let looker = std::thread::spawn({
            let (realm, is_over) = (realm.clone(), is_over.clone());
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    realm.sizes();
                }
            }
        });
        let mut answers = Vec::new();
        for request in 0..20_000 {
            let unsubscribe = Command::Unsubscribe { request: RequestId(request), entries: Vec::new() };
            realm.handle(connection, Input::Commands(vec![unsubscribe]));
            let answer = std::future::poll_fn(|context| outbox.poll_take(&mut answers, context));
            assert!(tokio::time::timeout(Duration::from_secs(10), answer).await.is_ok(), "no answer to {request}");
            answers.clear();
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(looker.join().is_ok());
    }
}
