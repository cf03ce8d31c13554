//! One connection: its socket, its gate and its outbox, moved by a single task.
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{Instant, Sleep};

use super::clock::{instant_of, now_ms};
use super::outbox::Outbox;
use super::traffic::{Totals, Traffic};
use super::transport::Transport;
use super::{Input, Realm, Realms};
use crate::gate::{Gate, Output};
use crate::model::{ConnectionId, Delivery, Limits};

/// Encoded bytes from which on no more deliveries are encoded until the socket has taken some.
const SEND_HIGH_BYTES: usize = 128 * 1024;
/// Encoded bytes from which on nothing more is read: a client that does not read its answers is not listened to.
const READ_STOP_BYTES: usize = 256 * 1024;
/// Bytes that a connection may bring before others have their turn.
const TURN_BYTES: u64 = 128 * 1024;
/// Commands that room is made for before they are there.
const FORESEEN_COMMANDS: usize = 1024;
/// How long the last bytes of a connection may take.
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
    output: Output,
    /// Deliveries taken from the outbox and not yet encoded, last one first.
    batch: Vec<Delivery>,
    paced: Option<Pace>,
    /// Bytes brought since others had their turn.
    turn_bytes: u64,
    /// Commands of the read before, at most `FORESEEN_COMMANDS`: the next one mostly brings as many.
    foreseen_commands: usize,
    /// When the transport began to wait for the rest of something.
    unfinished_since_ms: Option<u64>,
    packet_timeout_ms: u64,
    stalled_timeout_ms: u64,
    pace_ms: u64,
}

/// A wait for the outboxes that this connection's publications have filled.
struct Pace(Pin<Box<dyn Future<Output = ()> + Send>>);

/// What ended one round of waiting.
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
        limits: &Limits,
    ) -> Self {
        Connection {
            id,
            output: transport.output(),
            transport,
            gate,
            outbox: Arc::new(Outbox::new(limits.max_outbox_bytes, now_ms())),
            realms,
            realm: None,
            traffic,
            batch: Vec::new(),
            paced: None,
            turn_bytes: 0,
            foreseen_commands: 0,
            unfinished_since_ms: None,
            packet_timeout_ms: limits.packet_timeout_ms,
            stalled_timeout_ms: limits.stalled_outbox_timeout_ms,
            pace_ms: limits.pace_ms,
        }
    }

    /// Runs it to its end.
    pub async fn run(mut self) {
        let mut timer = Box::pin(tokio::time::sleep(Duration::from_secs(3600)));
        // What came together with an upgrade request.
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
        let farewell = poll_fn(|context| self.poll_farewell(context));
        // A client that does not take its last bytes in time is left without them.
        tokio::time::timeout(FAREWELL, farewell).await.ok();
        self.tell(Input::Left);
    }

    /// One round: send, encode, receive, in this order, as far as each goes.
    fn poll(&mut self, context: &mut Context<'_>, timer: Pin<&mut Sleep>) -> Poll<Event> {
        if self.outbox.is_broken() {
            self.output.clear();
            return Poll::Ready(Event::Ended);
        }
        let mut has_moved = false;
        loop {
            match self.poll_send(context) {
                Poll::Ready(Ok(true)) => has_moved = true,
                Poll::Ready(Ok(false)) | Poll::Pending => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Event::Ended),
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
                dropped => self.gate.handle_dropped(dropped),
            }
        }
        if self.output.bytes.capacity() == 0 {
            // Rather once too much than one growth after the other: it is given back as soon as it is sent.
            self.output.bytes.reserve(self.outbox.waiting_bytes().min(SEND_HIGH_BYTES));
        }
        let now_ms = now_ms();
        let mut released = 0;
        while self.output.len() < SEND_HIGH_BYTES {
            let Some(delivery) = self.batch.pop() else { break };
            released += self.outbox.note_taken(&delivery);
            match delivery {
                Delivery::Paused => self.tell(Input::Drained),
                delivery => self.gate.handle_delivery(delivery, now_ms, &mut self.output),
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
        let unsent = self.output.len() + self.transport.unsent();
        let is_unread = unsent >= READ_STOP_BYTES || self.outbox.has_unread_answers();
        // [MQTT-4.9.0-3]: a full window of deliveries is no reason.
        if !self.gate.wants_input() || is_unread || self.outbox.is_realm_behind() {
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
                self.unfinished_since_ms = match self.transport.is_unfinished() {
                    true => self.unfinished_since_ms.or_else(|| Some(now_ms())),
                    false => None,
                };
                self.foreseen_commands = self.output.commands.len().min(FORESEEN_COMMANDS);
                self.pass_on();
                Poll::Ready(Event::Moved)
            }
            Poll::Ready(Ok(false) | Err(_)) => Poll::Ready(Event::Ended),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Input that the gate did not want before.
    fn offer_again(&mut self) {
        if self.transport.leftover() > 0 && self.gate.wants_input() {
            let (gate, output, now_ms) = (&mut self.gate, &mut self.output, now_ms());
            self.transport.offer_again(&mut |bytes| gate.handle_bytes(bytes, now_ms, output));
        }
    }

    /// Hands the gate's commands to the realm.
    fn pass_on(&mut self) {
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
        if let Some(realm) = &self.realm {
            self.outbox.note_submitted();
            realm.handle(self.id, Input::Commands(commands));
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
        let longest = Duration::from_millis(self.pace_ms);
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
        let is_owing = !self.output.is_empty() || self.transport.unsent() > 0;
        let stalled = is_owing.then(|| self.outbox.progress_ms() + self.stalled_timeout_ms);
        let unfinished = self.unfinished_since_ms.map(|since_ms| since_ms + self.packet_timeout_ms);
        self.gate.poll_timeout().into_iter().chain(stalled).chain(unfinished).min()
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
        let is_owing = !self.output.is_empty() || self.transport.unsent() > 0;
        let is_stalled = is_owing && now_ms >= self.outbox.progress_ms() + self.stalled_timeout_ms;
        let is_unfinished = self.unfinished_since_ms.is_some_and(|since_ms| now_ms >= since_ms + self.packet_timeout_ms);
        if is_stalled || is_unfinished {
            self.gate.handle_end(&mut self.output);
            self.output.clear();
            self.output.close = true;
        } else {
            self.gate.handle_timeout(now_ms, &mut self.output);
        }
        self.pass_on();
    }

    /// The last bytes, then the end of the stream, both ways: closing on unread input would reset the connection, and the
    /// client could lose the DISCONNECT that tells it why.
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
