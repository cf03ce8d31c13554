//! Deliveries on their way from a realm to a connection: batched, bounded, with the pace they allow their publishers.
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::sync::Arc;

use crate::model::Delivery;

/// Shared by one connection, which takes, and its realm, which puts.
#[derive(Debug)]
pub struct Outbox {
    queue: Mutex<Vec<Delivery>>,
    /// Bytes put and not yet encoded.
    bytes: AtomicUsize,
    /// Of these, bytes of answers to the connection's own requests.
    answer_bytes: AtomicUsize,
    /// Bound of `bytes` for what may be lost.
    max_bytes: usize,
    /// Deliveries lost since the connection last asked.
    dropped: AtomicU64,
    /// When the socket last took bytes, or had nothing to take.
    progress_ms: AtomicU64,
    /// The connection waits for deliveries.
    receiver: AtomicWaker,
    /// Outboxes that the connection's own publications have filled.
    filled: Mutex<Vec<Arc<Outbox>>>,
    is_pacing: AtomicBool,
    /// Publishers that wait for room here.
    room: tokio::sync::Notify,
    /// Batches of the connection that its realm has not handled yet.
    unhandled: AtomicUsize,
    /// Too much is owed to a client that does not read: the connection is over.
    is_broken: AtomicBool,
}

/// The fate of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// The outbox is full, and its socket takes bytes: publishers should wait a little.
    pub is_full: bool,
    /// Events lost.
    pub dropped: u64,
}

/// Bytes that count for a delivery which carries no publication.
const FIXED_WEIGHT: usize = 64;

/// Times its bound that an outbox may hold of deliveries that may not be lost.
const BROKEN_FACTOR: usize = 8;

/// Batches that a connection may have with its realm before it stops reading.
const MAX_UNHANDLED: usize = 2;

/// A socket that took bytes this recently is taking bytes.
const PROGRESS_MS: u64 = 50;

/// The weight of a delivery in the outbox.
fn weight(delivery: &Delivery) -> usize {
    match delivery {
        Delivery::Event(event) => event.publication.weight(),
        Delivery::Invocation(invocation) => FIXED_WEIGHT + invocation.payload.len(),
        Delivery::Answer(answer) => FIXED_WEIGHT + answer.payload.len(),
        Delivery::Subscribed(_, results) => FIXED_WEIGHT + size_of_val(results.as_slice()),
        Delivery::Unsubscribed(_, results) => FIXED_WEIGHT + size_of_val(results.as_slice()),
        _ => FIXED_WEIGHT,
    }
}

/// Bytes of answers that may wait; a client that does not read them is not listened to.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// The weight of a delivery among the answers.
fn answer_weight(delivery: &Delivery) -> usize {
    if matches!(delivery, Delivery::Event(_) | Delivery::Invocation(_)) { 0 } else { weight(delivery) }
}

/// Only QoS 0 events may be lost: everything else is owed or answers a request, as do the publications of calls.
fn may_be_lost(delivery: &Delivery) -> bool {
    matches!(delivery, Delivery::Event(event) if event.packet_id.is_none() && !event.publication.is_of_call())
}

impl Outbox {
    /// An empty outbox that holds `max_bytes` of what may be lost.
    pub fn new(max_bytes: usize, now_ms: u64) -> Self {
        Outbox {
            queue: Mutex::new(Vec::new()),
            bytes: AtomicUsize::new(0),
            answer_bytes: AtomicUsize::new(0),
            max_bytes,
            dropped: AtomicU64::new(0),
            progress_ms: AtomicU64::new(now_ms),
            receiver: AtomicWaker::new(),
            filled: Mutex::new(Vec::new()),
            is_pacing: AtomicBool::new(false),
            room: tokio::sync::Notify::new(),
            unhandled: AtomicUsize::new(0),
            is_broken: AtomicBool::new(false),
        }
    }

    /// Takes all of `batch`, or what may not be lost of it.
    pub fn put(&self, batch: &mut Vec<Delivery>, now_ms: u64) -> Taken {
        let before = self.bytes.load(Ordering::Relaxed);
        let added: usize = batch.iter().map(weight).sum();
        let is_moving = now_ms.saturating_sub(self.progress_ms.load(Ordering::Relaxed)) <= PROGRESS_MS;
        // Paced publishers overshoot by a batch each; four times the bound is where patience ends.
        let bound = if is_moving { self.max_bytes.saturating_mul(4) } else { self.max_bytes };
        if before == 0 {
            self.progress_ms.fetch_max(now_ms, Ordering::Relaxed);
        }
        let dropped = if before + added > bound {
            self.put_what_fits(batch, bound - bound.min(before))
        } else {
            self.bytes.fetch_add(added, Ordering::Relaxed);
            0
        };
        self.answer_bytes.fetch_add(batch.iter().map(answer_weight).sum(), Ordering::Relaxed);
        // Deliveries that may not be lost are bounded in the router (windows, pending calls). Where that is too much after all,
        // the client is cut off rather than waited for.
        let owed = self.bytes.load(Ordering::Relaxed);
        if before > 0 && owed > self.max_bytes.saturating_mul(BROKEN_FACTOR) {
            batch.clear();
            self.queue.lock().clear();
            self.is_broken.store(true, Ordering::Release);
        } else {
            self.append(batch);
        }
        self.receiver.wake();
        let is_full = is_moving && self.bytes.load(Ordering::Relaxed) > self.max_bytes;
        Taken { is_full, dropped }
    }

    fn put_what_fits(&self, batch: &mut Vec<Delivery>, mut room: usize) -> u64 {
        let (mut dropped, mut added) = (0, 0);
        // However large, the first thing in an empty outbox is taken.
        let mut is_first = self.bytes.load(Ordering::Relaxed) == 0;
        batch.retain(|delivery| {
            let weight = weight(delivery);
            if may_be_lost(delivery) && weight > room && !std::mem::take(&mut is_first) {
                dropped += 1;
                return false;
            }
            is_first = false;
            room = room.saturating_sub(weight);
            added += weight;
            true
        });
        self.bytes.fetch_add(added, Ordering::Relaxed);
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
        dropped
    }

    fn append(&self, batch: &mut Vec<Delivery>) {
        let mut queue = self.queue.lock();
        if queue.is_empty() {
            std::mem::swap(&mut *queue, batch);
        } else {
            queue.append(batch);
        }
    }

    /// Swaps everything that waits into the empty `batch`; pending while there is nothing.
    pub fn poll_take(&self, batch: &mut Vec<Delivery>, context: &mut Context<'_>) -> Poll<()> {
        if self.take(batch) {
            return Poll::Ready(());
        }
        self.receiver.register(context.waker());
        // Again: something may have come between the look and the registration.
        if self.take(batch) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn take(&self, batch: &mut Vec<Delivery>) -> bool {
        let mut queue = self.queue.lock();
        std::mem::swap(&mut *queue, batch);
        !batch.is_empty()
    }

    /// True once too much was owed to the client.
    pub fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }

    /// The connection hands a batch to its realm.
    pub fn note_submitted(&self) {
        self.unhandled.fetch_add(1, Ordering::Relaxed);
    }

    /// The realm has handled a batch.
    pub fn note_handled(&self) {
        if self.unhandled.fetch_sub(1, Ordering::Release) >= MAX_UNHANDLED {
            self.receiver.wake();
        }
    }

    /// True while the realm is behind: the connection, which has just asked for deliveries, is woken when it is not.
    pub fn is_realm_behind(&self) -> bool {
        self.unhandled.load(Ordering::Acquire) >= MAX_UNHANDLED
    }

    /// Bytes that wait to be encoded, about.
    pub fn waiting_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// True while too many answers wait for a client that does not read them.
    pub fn has_unread_answers(&self) -> bool {
        self.answer_bytes.load(Ordering::Relaxed) > MAX_ANSWER_BYTES
    }

    /// A delivery is about to be encoded; returns its weight, to be released together with others.
    pub fn note_taken(&self, delivery: &Delivery) -> usize {
        let answer = answer_weight(delivery);
        if answer > 0 {
            self.answer_bytes.fetch_sub(answer, Ordering::Relaxed);
        }
        weight(delivery)
    }

    /// This many bytes of deliveries have been encoded.
    pub fn release(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if before > self.max_bytes / 2 && before - bytes <= self.max_bytes / 2 {
            self.room.notify_waiters();
        }
    }

    /// The socket took bytes, or there was nothing for it to take.
    pub fn note_progress(&self, now_ms: u64) {
        self.progress_ms.store(now_ms, Ordering::Relaxed);
    }

    /// When the socket last made progress.
    pub fn progress_ms(&self) -> u64 {
        self.progress_ms.load(Ordering::Relaxed)
    }

    /// Deliveries lost since the last call.
    pub fn take_dropped(&self) -> u64 {
        if self.dropped.load(Ordering::Relaxed) == 0 { 0 } else { self.dropped.swap(0, Ordering::Relaxed) }
    }

    /// Remembers that this connection's publications have filled `outbox`.
    pub fn pace_by(&self, outbox: Arc<Outbox>) {
        self.filled.lock().push(outbox);
        self.is_pacing.store(true, Ordering::Release);
    }

    /// The outboxes that this connection's publications have filled since the last call.
    pub fn take_filled(&self) -> Vec<Arc<Outbox>> {
        if self.is_pacing.swap(false, Ordering::Acquire) { std::mem::take(&mut *self.filled.lock()) } else { Vec::new() }
    }

    /// Waits until half of the outbox is free.
    pub async fn has_room(&self) {
        loop {
            let notified = self.room.notified();
            if self.bytes.load(Ordering::Relaxed) <= self.max_bytes / 2 {
                return;
            }
            notified.await;
        }
    }
}
