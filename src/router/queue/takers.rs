//! Those who take: they join a line, are served in their turn, and leave.
use super::item::{Grant, QueueEvent};
use super::line::{Consumer, Taker};
use super::state::{Claim, QueueDue, QueueState, Standing, Step};
use crate::model::Topic;
use crate::router::base::claim::Token;

/// Bytes of items after which one call gets no further one.
const MAX_TAKE_BYTES: usize = 1024 * 1024;

impl QueueState {
    pub fn take(&mut self, queue: &str, max: u32, wait_ms: u64, by: u64, step: &mut Step) {
        let take = step.place.id.value();
        let Ok(topic) = Topic::from_mqtt(queue) else { return step.told.push(QueueEvent::Items { take, items: Vec::new() }) };
        let until_ms = step.place.time_ms.saturating_add(wait_ms);
        let turn = self.queues.entry(topic.clone()).or_default().line.join(Taker::Call { take, max, by, until_ms });
        self.waits.insert(take, (topic.clone(), turn));
        self.due.insert((until_ms, QueueDue::Wait(take)));
        self.holders.entry(by).or_default().calls.insert(take);
        step.touched.insert(topic);
        self.serve_all(step);
        if wait_ms == 0 && self.withdraw(take, step) {
            step.told.push(QueueEvent::Items { take, items: Vec::new() });
        }
    }

    /// Takes a call out of its line; false if it does not wait.
    pub fn withdraw(&mut self, take: u64, step: &mut Step) -> bool {
        let Some((topic, turn)) = self.waits.remove(&take) else { return false };
        let taker = self.queues.get_mut(&topic).and_then(|queue| queue.line.leave(turn));
        if let Some(Taker::Call { by, until_ms, .. }) = taker {
            self.forget_call(take, by, until_ms);
        }
        step.touched.insert(topic);
        true
    }

    fn forget_call(&mut self, take: u64, by: u64, until_ms: u64) {
        self.due.remove(&(until_ms, QueueDue::Wait(take)));
        if let Some(holder) = self.holders.get_mut(&by) {
            holder.calls.remove(&take);
        }
        self.forget_holder(by);
    }

    pub fn forget_holder(&mut self, by: u64) {
        if self.holders.get(&by).is_some_and(Consumer::is_nothing) {
            self.holders.remove(&by);
        }
    }

    pub fn attach(&mut self, queue: &str, by: u64, window: u32, step: &mut Step) {
        let Ok(topic) = Topic::from_mqtt(queue) else { return };
        let holder = self.holders.entry(by).or_default();
        holder.window = window;
        let turn = holder.queues.entry(topic.clone()).or_default();
        let line = &mut self.queues.entry(topic.clone()).or_default().line;
        if turn.is_none() {
            *turn = Some(line.join(Taker::Connection(by)));
        }
        line.note_subscriber(by);
        step.touched.insert(topic);
    }

    pub fn detach(&mut self, queue: &Topic, by: u64, step: &mut Step) {
        let turn = self.holders.get_mut(&by).and_then(|holder| holder.queues.remove(queue)).flatten();
        if let Some(entry) = self.queues.get_mut(queue) {
            if let Some(turn) = turn {
                entry.line.leave(turn);
            }
            entry.line.forget_subscriber(by);
        }
        step.touched.insert(queue.clone());
        self.forget_holder(by);
    }

    /// A connection waits for nothing any more.
    pub fn leave(&mut self, by: u64, step: &mut Step) {
        let Some(holder) = self.holders.get(&by) else { return };
        let (calls, queues): (Vec<u64>, Vec<Topic>) =
            (holder.calls.iter().copied().collect(), holder.queues.keys().cloned().collect());
        for take in calls {
            self.withdraw(take, step);
            step.told.push(QueueEvent::Canceled { take });
        }
        for queue in queues {
            self.detach(&queue, by, step);
        }
    }

    /// The items of a connection return.
    pub fn give_back(&mut self, by: u64, step: &mut Step) {
        let tokens: Vec<Token> = self.holders.get(&by).map(|holder| holder.claims.iter().copied().collect()).unwrap_or_default();
        for token in tokens {
            self.put_back(token, Some(0), true, step);
        }
        self.forget_holder(by);
    }

    /// Gives out what can be given out, and forgets queues that are nothing any more.
    pub fn serve_all(&mut self, step: &mut Step) {
        while let Some(topic) = step.touched.pop_first() {
            while self.serve_next(&topic, step) {}
            if let Some(counts) = self.queues.get(&topic).filter(|queue| queue.is_nothing()).map(|queue| queue.counts) {
                self.queues.remove(&topic);
                self.past.note(topic, counts);
            }
        }
    }

    /// Serves whoever is first in line; false if there is nobody or nothing.
    fn serve_next(&mut self, topic: &Topic, step: &mut Step) -> bool {
        let Some(queue) = self.queues.get_mut(topic).filter(|queue| !queue.ready.is_empty()) else { return false };
        match queue.line.next() {
            None => return false,
            Some(Taker::Call { take, max, by, until_ms }) => {
                self.waits.remove(&take);
                self.forget_call(take, by, until_ms);
                let items = self.claim(topic, max, None, step);
                step.told.push(QueueEvent::Items { take, items });
            }
            Some(Taker::Connection(by)) => {
                // Its place in line is used up; it has another one as soon as it has room.
                let Some(holder) = self.holders.get_mut(&by).filter(|holder| holder.has_room()) else {
                    self.note_turn(topic, by, None);
                    return true;
                };
                let will_have_room = holder.claims.len() + 1 < holder.window as usize;
                let turn = will_have_room.then(|| queue.line.join(Taker::Connection(by)));
                self.note_turn(topic, by, turn);
                for grant in self.claim(topic, 1, Some(by), step) {
                    step.told.push(QueueEvent::Delivery { to: by, queue: topic.clone(), grant });
                }
            }
        }
        true
    }

    fn note_turn(&mut self, topic: &Topic, by: u64, turn: Option<u64>) {
        if let Some(place) = self.holders.get_mut(&by).and_then(|holder| holder.queues.get_mut(topic)) {
            *place = turn;
        }
    }

    /// Claims what has been ready longest, for a connection or until its visibility is over.
    fn claim(&mut self, topic: &Topic, max: u32, by: Option<u64>, step: &mut Step) -> Vec<Grant> {
        let mut grants: Vec<Grant> = Vec::new();
        let Some(queue) = self.queues.get_mut(topic) else { return grants };
        let until_ms = by.is_none().then(|| step.place.time_ms.saturating_add(queue.settings.visibility_ms));
        let mut bytes = 0;
        while grants.len() < max as usize && bytes < MAX_TAKE_BYTES {
            let Some(rank) = queue.ready.first().copied() else { break };
            let Some(item) = self.items.get_mut(&rank) else { break };
            bytes += item.body.weight();
            if !grants.is_empty() && bytes > MAX_TAKE_BYTES {
                break;
            }
            queue.ready.pop_first();
            self.changed.note_item(rank);
            queue.claimed += 1;
            queue.counts.taken += 1;
            item.standing = Standing::Claimed;
            item.deliveries = item.deliveries.saturating_add(1);
            let token = step.token();
            self.claims.insert(token, Claim { item: rank, until_ms, by });
            if let Some(until_ms) = until_ms {
                self.due.insert((until_ms, QueueDue::Lease(token)));
            }
            if let Some(holder) = by.and_then(|by| self.holders.get_mut(&by)) {
                holder.claims.insert(token);
            }
            grants.push(Grant { token, id: item.id, delivery_count: item.deliveries, body: item.body.clone() });
        }
        grants
    }
}
