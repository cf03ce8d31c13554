//! One connection: its socket, its gate and its outbox, moved by a single task.
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{Instant, Sleep};

use super::clock::{instant_of, now_ms};
use super::journal::{self, Who};
use super::outbox::Outbox;
use super::traffic::{Totals, Traffic};
use super::transport::Transport;
use super::{Input, Realm, Realms, trace};
use crate::gate::report::{Ending, Introduction};
use crate::gate::{Gate, Output, Settings};
use crate::model::{ConnectionId, Delivery, Reason};

/// Encoded bytes from which on no more deliveries are encoded until the socket has taken some.
const SEND_HIGH_BYTES: usize = 128 * 1024;
/// Encoded bytes from which on nothing more is read: a client that does not read its answers is not listened to.
const READ_STOP_BYTES: usize = 256 * 1024;
/// Bytes that a connection may bring before others have their turn.
const TURN_BYTES: u64 = 128 * 1024;
/// Commands that room is made for before they are there.
const FORESEEN_COMMANDS: usize = 1024;
/// Longest time that the last bytes of a connection may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Everything that one connection needs.
pub struct Connection<T> {
    id: ConnectionId,
    transport: T,
    gate: Gate,
    outbox: Arc<Outbox>,
    realms: Arc<dyn Realms>,
    realm: Option<Arc<dyn Realm>>,
    traffic: Arc<Traffic>,
    /// The client, as it says itself.
    introduction: Option<Box<Introduction>>,
    /// Its session is open.
    is_open: bool,
    output: Output,
    /// Deliveries taken from the outbox and not yet encoded, last one first.
    batch: Vec<Delivery>,
    paced: Option<Pace>,
    /// Bytes brought since others had their turn.
    turn_bytes: u64,
    /// Commands of the read before, at most `FORESEEN_COMMANDS`: the next one mostly brings as many.
    foreseen_commands: usize,
    /// A packet or message that has begun to come and has not ended.
    started: Option<Started>,
    /// When the socket last brought something, or the router last looked up from not reading.
    heard_ms: u64,
    /// PINGs since there was traffic.
    pings: u32,
    settings: Arc<Settings>,
}

/// The progress of a packet or message whose end has not come.
#[derive(Clone, Copy)]
struct Started {
    /// Bytes of it that were there at `since_ms`.
    bytes: usize,
    /// When the time began in which it has to go on.
    since_ms: u64,
}

/// A wait for the outboxes that this connection's publications have filled.
struct Pace(Pin<Box<dyn Future<Output = ()> + Send>>);

/// The event that ended one round of waiting.
enum Event {
    /// The socket brought something, or deliveries came, or bytes went.
    Moved,
    /// A deadline has passed.
    Due,
    /// The socket has ended.
    Ended,
}

impl<T: Transport> Connection<T> {
    /// A connection that has not begun.
    pub fn new(
        id: ConnectionId,
        transport: T,
        gate: Gate,
        realms: Arc<dyn Realms>,
        traffic: Arc<Traffic>,
        settings: Arc<Settings>,
    ) -> Self {
        let now_ms = now_ms();
        Connection {
            id,
            output: transport.output(),
            transport,
            gate,
            outbox: Arc::new(Outbox::new(settings.limits.max_outbox_bytes, now_ms)),
            realms,
            realm: None,
            traffic,
            introduction: None,
            is_open: false,
            batch: Vec::new(),
            paced: None,
            turn_bytes: 0,
            foreseen_commands: 0,
            started: None,
            heard_ms: now_ms,
            pings: 0,
            settings,
        }
    }

    /// Runs it to its end.
    pub async fn run(mut self) {
        let mut timer = Box::pin(tokio::time::sleep(Duration::from_secs(3600)));
        // Bytes that came together with an upgrade request.
        self.offer_again();
        self.pass_on();
        while !self.output.close {
            self.set_timer(timer.as_mut());
            match poll_fn(|context| self.poll(context, timer.as_mut())).await {
                Event::Moved if self.turn_bytes >= TURN_BYTES => {
                    self.turn_bytes = 0;
                    tokio::task::yield_now().await;
                }
                Event::Moved => {}
                Event::Due => self.handle_due(),
                Event::Ended => {
                    self.gate.handle_end(&mut self.output);
                    break;
                }
            }
        }
        self.pass_on();
        let ending = self.output.report.ending.take().unwrap_or(Ending::Lost("the router let it go".into()));
        journal::gone(self.who(), self.is_open, &ending);
        let farewell = poll_fn(|context| self.poll_farewell(context));
        // A client that does not take its last bytes in time is left without them.
        tokio::time::timeout(FAREWELL, farewell).await.ok();
        self.tell(Input::Left);
    }

    /// Whom lines of the log are about.
    fn who(&self) -> Who<'_> {
        Who { peer: self.gate.peer(), introduction: self.introduction.as_deref() }
    }

    /// Ends it as the socket has ended, or worse.
    fn end(&mut self, ending: Ending) -> Event {
        self.output.report.end(ending);
        Event::Ended
    }

    /// One round: send, encode, receive, in this order, as far as each goes.
    fn poll(&mut self, context: &mut Context<'_>, timer: Pin<&mut Sleep>) -> Poll<Event> {
        if self.outbox.is_broken() {
            self.output.clear();
            let why = "it was owed too much and read nothing";
            return Poll::Ready(self.end(Ending::Cut(Reason::TooSlow, why.into())));
        }
        let mut has_moved = false;
        loop {
            match self.poll_send(context) {
                Poll::Ready(Ok(true)) => has_moved = true,
                Poll::Ready(Ok(false)) | Poll::Pending => {}
                Poll::Ready(Err(error)) => return Poll::Ready(self.end(Ending::Lost(error.to_string().into()))),
            }
            if !self.encode(context) {
                break;
            }
            has_moved = true;
            if self.output.close {
                return Poll::Ready(Event::Moved);
            }
        }
        if let Poll::Ready(event) = self.poll_receive(context) {
            return Poll::Ready(event);
        }
        if has_moved {
            return Poll::Ready(Event::Moved);
        }
        timer.poll(context).map(|()| Event::Due)
    }

    /// Sends what is encoded; true if the socket took something.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<bool>> {
        let mut has_sent = false;
        let mut bytes_sent = 0;
        while !self.output.is_empty() || self.transport.unsent() > 0 {
            match self.transport.poll_send(context, &mut self.output) {
                Poll::Ready(Ok(sent)) => {
                    has_sent = true;
                    bytes_sent += sent as u64;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if has_sent => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        if has_sent {
            let messages_sent = std::mem::take(&mut self.output.sent);
            if messages_sent > 0 {
                self.pings = 0; // a PING is no message
            }
            self.traffic.add(Totals { bytes_sent, messages_sent, ..Totals::default() });
            self.outbox.note_progress(now_ms());
            if self.output.is_empty() {
                // An idle connection holds no buffer.
                self.output.bytes = BytesMut::new();
            }
        }
        Poll::Ready(Ok(has_sent))
    }

    /// Encodes deliveries while there is room for their bytes; true if there were any.
    fn encode(&mut self, context: &mut Context<'_>) -> bool {
        if self.output.len() >= SEND_HIGH_BYTES || self.transport.unsent() > 0 {
            return false;
        }
        if self.batch.is_empty() {
            if self.outbox.poll_take(&mut self.batch, context).is_pending() {
                return false;
            }
            self.batch.reverse();
            match self.outbox.take_dropped() {
                0 => {}
                dropped => {
                    self.gate.handle_dropped(dropped);
                    journal::slow(self.who(), dropped);
                }
            }
        }
        if self.output.bytes.capacity() == 0 {
            // Rather once too much than one growth after the other: it is given back as soon as it is sent.
            self.output.bytes.reserve(self.outbox.waiting_bytes().min(SEND_HIGH_BYTES));
        }
        let now_ms = now_ms();
        let (mut released, is_traced) = (0, trace::is_on());
        while self.output.len() < SEND_HIGH_BYTES {
            let Some(delivery) = self.batch.pop() else { break };
            released += self.outbox.note_taken(&delivery);
            match delivery {
                Delivery::Paused => self.tell(Input::Drained),
                Delivery::Denied(topic, reason) => journal::denied(self.who(), &topic, reason),
                delivery => {
                    if is_traced {
                        trace::delivery(self.who(), &delivery);
                    }
                    if let Some((what, Reason::QuotaExceeded)) = trace::refusal(&delivery) {
                        journal::bounded(self.who(), what);
                    }
                    let is_opened = matches!(delivery, Delivery::Opened { .. });
                    self.gate.handle_delivery(delivery, now_ms, &mut self.output);
                    if is_opened && !self.is_open && !self.output.close {
                        self.is_open = true;
                        journal::come(self.who());
                    }
                }
            }
        }
        self.outbox.release(released);
        if self.batch.is_empty() && self.batch.capacity() > 0 {
            self.batch = Vec::new();
        }
        self.offer_again();
        self.pass_on();
        true
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        self.pace();
        if let Some(Pace(wait)) = &mut self.paced {
            match wait.as_mut().poll(context) {
                Poll::Ready(()) => self.paced = None,
                Poll::Pending => return Poll::Pending,
            }
        }
        if !self.is_listening() {
            return Poll::Pending;
        }
        let (gate, output) = (&mut self.gate, &mut self.output);
        let (mut bytes_received, mut arrived_ms) = (0, None);
        let foreseen_commands = self.foreseen_commands;
        let received = self.transport.poll_receive(context, &mut |bytes| {
            // One look at the clock for all the messages of one read, and one allocation for their commands.
            let now_ms = *arrived_ms.get_or_insert_with(|| {
                output.commands.reserve(foreseen_commands);
                now_ms()
            });
            let used = gate.handle_bytes(bytes, now_ms, output);
            bytes_received += used.bytes as u64;
            used
        });
        let messages_received = std::mem::take(&mut output.received);
        self.traffic.add(Totals { bytes_received, messages_received, ..Totals::default() });
        self.turn_bytes += bytes_received;
        match received {
            Poll::Ready(Ok(true)) => {
                self.heard_ms = arrived_ms.unwrap_or_else(now_ms);
                self.pings = 0;
                self.note_started(bytes_received > 0);
                self.foreseen_commands = self.output.commands.len().min(FORESEEN_COMMANDS);
                self.pass_on();
                Poll::Ready(Event::Moved)
            }
            Poll::Ready(Ok(false)) => Poll::Ready(match self.transport.fault() {
                Some(fault) => self.end(Ending::Cut(Reason::Malformed, fault.into())),
                None => self.end(Ending::Lost("connection closed without a goodbye".into())),
            }),
            Poll::Ready(Err(error)) => Poll::Ready(self.end(Ending::Lost(error.to_string().into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    /// False while nothing is read, which is then no silence of the client's.
    fn is_listening(&self) -> bool {
        let unsent = self.output.len() + self.transport.unsent();
        let is_unread = unsent >= READ_STOP_BYTES || self.outbox.has_unread_answers();
        // [MQTT-4.9.0-3]: a full window of deliveries is no reason.
        self.paced.is_none() && self.gate.wants_input() && !is_unread && !self.outbox.is_realm_behind()
    }

    /// Notes how far the packet has come whose end has not, and that this is a sign of life. A new one begins a time of its own, and
    /// so does one that has come so much further that its line goes on.
    fn note_started(&mut self, has_ended_another: bool) {
        let bytes = self.transport.unfinished();
        if bytes == 0 {
            self.started = None;
            return;
        }
        self.gate.note_heard(self.heard_ms);
        let goes_on = |started: &Started| bytes >= started.bytes.saturating_add(self.settings.limits.packet_progress_bytes);
        if has_ended_another || self.started.as_ref().is_none_or(goes_on) {
            self.started = Some(Started { bytes, since_ms: self.heard_ms });
        }
    }

    /// Input that the gate did not want before.
    fn offer_again(&mut self) {
        if self.transport.leftover() > 0 && self.gate.wants_input() {
            let (gate, output, now_ms) = (&mut self.gate, &mut self.output, now_ms());
            let mut has_ended_another = false;
            self.transport.offer_again(&mut |bytes| {
                let used = gate.handle_bytes(bytes, now_ms, output);
                has_ended_another |= used.bytes > 0;
                used
            });
            self.heard_ms = now_ms;
            self.note_started(has_ended_another);
        }
    }

    /// Counts what clients could not be sent.
    fn note_unfit(&mut self) {
        let properties_left_out = std::mem::take(&mut self.output.left_out);
        let messages_too_large = std::mem::take(&mut self.output.too_large);
        if properties_left_out > 0 || messages_too_large > 0 {
            self.traffic.add(Totals { properties_left_out, messages_too_large, ..Totals::default() });
        }
        for topic in self.output.withheld.drain(..) {
            self.traffic.withhold(&topic);
        }
    }

    /// Hands the gate's commands to the realm.
    fn pass_on(&mut self) {
        self.note_unfit();
        self.note_report();
        if let Some(name) = self.output.realm.take() {
            match self.realms.join(&name, self.id, self.outbox.clone()) {
                Ok(realm) => {
                    self.realm = Some(realm);
                    self.transport.set_open();
                }
                Err(reason) => {
                    self.output.commands.clear();
                    self.gate.handle_delivery(Delivery::Refused(reason), now_ms(), &mut self.output);
                }
            }
        }
        let commands = std::mem::take(&mut self.output.commands);
        if commands.is_empty() {
            return;
        }
        if trace::is_on() {
            trace::commands(self.who(), &commands);
        }
        if let Some(realm) = &self.realm {
            self.outbox.note_submitted();
            realm.handle(self.id, Input::Commands(commands));
        }
    }

    /// Writes the gate's report to the log but for the end, which waits for the connection's.
    fn note_report(&mut self) {
        if let Some(introduction) = self.output.report.introduction.take() {
            self.introduction = Some(introduction);
            self.traffic.add(Totals { connects: 1, ..Totals::default() });
        }
        if !self.output.report.notes.is_empty() {
            let notes = std::mem::take(&mut self.output.report.notes);
            let unsaid = std::mem::take(&mut self.output.report.unsaid);
            journal::refusals(self.who(), &notes, unsaid);
        }
    }

    fn tell(&self, input: Input) {
        if let Some(realm) = &self.realm {
            realm.handle(self.id, input);
        }
    }

    /// Publications that have filled somebody's outbox make this connection wait, a little.
    fn pace(&mut self) {
        let filled = self.outbox.take_filled();
        if filled.is_empty() || self.paced.is_some() {
            return;
        }
        let longest = Duration::from_millis(self.settings.limits.pace_ms);
        self.paced = Some(Pace(Box::pin(async move {
            let room = async {
                for outbox in filled {
                    outbox.has_room().await;
                }
            };
            tokio::time::timeout(longest, room).await.ok();
        })));
    }

    fn due_ms(&self) -> Option<u64> {
        let dues = [self.gate.poll_timeout(), self.stalled_due_ms(), self.started_due_ms(), self.ping_due_ms()];
        dues.into_iter().flatten().min()
    }

    /// When the socket will have taken nothing of what it is owed for too long.
    fn stalled_due_ms(&self) -> Option<u64> {
        let is_owing = !self.output.is_empty() || self.transport.unsent() > 0;
        is_owing.then(|| self.outbox.progress_ms().saturating_add(self.settings.limits.stalled_outbox_timeout_ms))
    }

    /// When the packet that has begun to come will have come on too little.
    fn started_due_ms(&self) -> Option<u64> {
        self.started.map(|started| started.since_ms.saturating_add(self.settings.limits.packet_timeout_ms))
    }

    /// When there will have been no traffic, neither way, for too long.
    fn ping_due_ms(&self) -> Option<u64> {
        let ping_ms = self.settings.limits.websocket_ping_ms;
        (T::HAS_PING && ping_ms > 0).then(|| self.heard_ms.max(self.outbox.progress_ms()).saturating_add(ping_ms))
    }

    fn set_timer(&self, timer: Pin<&mut Sleep>) {
        let due = self.due_ms().map_or_else(|| Instant::now() + Duration::from_secs(3600), instant_of);
        // Later is found out when the timer fires: most deadlines only ever move away.
        if due < timer.deadline() || timer.is_elapsed() {
            timer.reset(due);
        }
    }

    fn handle_due(&mut self) {
        let now_ms = now_ms();
        if !self.is_listening() {
            self.stand_still(now_ms);
        }
        let is_due = |due_ms: Option<u64>| due_ms.is_some_and(|due_ms| now_ms >= due_ms);
        if is_due(self.stalled_due_ms()) {
            self.cut_off("its socket took nothing; limits.stalled_outbox_timeout_ms allows more");
        } else if is_due(self.started_due_ms()) {
            self.started = None;
            self.gate.handle_slow(&mut self.output);
        } else if is_due(self.ping_due_ms()) {
            self.handle_silence();
        } else {
            self.gate.handle_timeout(now_ms, &mut self.output);
        }
        self.pass_on();
    }

    /// Begins the times of a client anew while nothing is read, as it may well have sent more.
    fn stand_still(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.gate.note_heard(now_ms);
        if let Some(started) = &mut self.started {
            started.since_ms = now_ms;
        }
    }

    /// No traffic for long: proxies forget such connections, and the other side may have gone without a word.
    fn handle_silence(&mut self) {
        if self.pings >= self.settings.limits.websocket_unanswered_pings {
            self.cut_off("no answer to WebSocket PING; limits.websocket_unanswered_pings allows more");
        } else {
            self.pings += 1;
            self.transport.ping();
        }
    }

    /// Ends it without the words that nobody would take.
    fn cut_off(&mut self, why: &'static str) {
        self.output.report.end(Ending::Lost(why.into()));
        self.gate.handle_end(&mut self.output);
        self.output.clear();
        self.output.close = true;
    }

    /// Sends the last bytes, then ends the stream both ways. Closing on unread input would reset the connection, and the client
    /// could lose the DISCONNECT that tells it why.
    fn poll_farewell(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.output.is_empty() || self.transport.unsent() > 0 {
            match self.transport.poll_send(context, &mut self.output) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        match self.transport.poll_shutdown(context) {
            Poll::Ready(Ok(())) => self.transport.poll_discard(context),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::gate::{Origin, RequestIds};
    use crate::model::{Command, Limits, Reason, SessionId};
    use crate::net::transport::Stream;

    /// A realm that opens every session and then has no time for anybody, as if its disk stood still.
    #[derive(Default)]
    struct Stalled {
        outbox: Mutex<Option<Arc<Outbox>>>,
        unhandled: Mutex<usize>,
        has_lost: Mutex<bool>,
    }

    impl Realms for Arc<Stalled> {
        fn join(&self, _: &str, _: ConnectionId, outbox: Arc<Outbox>) -> Result<Arc<dyn Realm>, Reason> {
            *self.outbox.lock() = Some(outbox);
            Ok(self.clone())
        }
    }

    impl Realm for Stalled {
        fn handle(&self, _: ConnectionId, input: Input) {
            let Input::Commands(commands) = input else { return };
            let outbox = self.outbox.lock();
            let outbox = outbox.as_ref().unwrap();
            match commands[..] {
                [Command::Open(_)] => {
                    let mut answer = vec![Delivery::Opened { session: SessionId(1), session_present: false }];
                    outbox.put(&mut answer, now_ms());
                    outbox.note_handled();
                }
                _ => {
                    *self.unhandled.lock() += 1;
                    *self.has_lost.lock() |= commands.iter().any(|command| matches!(command, Command::Lost(_)));
                }
            }
        }
    }

    impl Stalled {
        async fn await_unhandled(&self, count: usize) {
            while *self.unhandled.lock() < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    fn settings() -> Settings {
        Settings {
            limits: Limits { packet_timeout_ms: 500, ..Limits::default() },
            default_realm: "realm1".into(),
            named_realms: Arc::default(),
            realm_from_user: false,
            listener_realm: None,
            allow_anonymous: true,
            refused_filters: Vec::new(),
            server_reference: None,
            request_ids: RequestIds::Any,
            has_history: true,
        }
    }

    /// A client with a keep-alive of 1 s, whose CONNACK has come.
    async fn connected(realm: &Arc<Stalled>) -> DuplexStream {
        let (mut client, server) = tokio::io::duplex(4096);
        let settings = Arc::new(settings());
        let origin = Origin { peer: "127.0.0.1:1".into(), transport: "tcp", random: [1 << 40, 2] };
        let gate = Gate::mqtt(settings.clone(), origin, now_ms());
        let transport = Stream::new(server, BytesMut::new());
        let realms: Arc<dyn Realms> = Arc::new(realm.clone());
        tokio::spawn(Connection::new(ConnectionId(1), transport, gate, realms, Arc::default(), settings).run());
        client.write_all(b"\x10\x0D\0\x04MQTT\x04\x02\0\x01\0\x01a").await.unwrap();
        let mut connack = [0; 4];
        client.read_exact(&mut connack).await.unwrap();
        client
    }

    /// The keep-alive of 1.5 s and the 500 ms of a started packet pass while nothing is read: they stand still.
    #[tokio::test]
    async fn times_stand_still_while_the_router_does_not_read() {
        let realm = Arc::new(Stalled::default());
        let mut client = connected(&realm).await;
        for count in 1..=2 {
            // With the second one comes the beginning of a third.
            client.write_all(if count == 1 { b"\x30\x04\0\x01ab" } else { b"\x30\x04\0\x01ab\x30\x04" }).await.unwrap();
            realm.await_unhandled(count).await;
        }
        client.write_all(b"\0\x01ab").await.unwrap();
        tokio::time::sleep(Duration::from_millis(2200)).await;
        assert!(!*realm.has_lost.lock(), "closed while the router did not read");
        let outbox = realm.outbox.lock().clone().unwrap();
        (0..2).for_each(|_| outbox.note_handled());
        tokio::time::timeout(Duration::from_secs(5), realm.await_unhandled(3)).await.unwrap();
        assert!(!*realm.has_lost.lock(), "closed though the rest had come");
        // From here on silence counts again.
        outbox.note_handled();
        tokio::time::timeout(Duration::from_secs(5), realm.await_unhandled(4)).await.unwrap();
        assert!(*realm.has_lost.lock());
    }
}
