//! The queues of a realm as pieces of its state: one for each item, and one for all that is about them.
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Queues;
use super::changed::Rank;
use super::item::{Counts, ItemBody, Settings};
use super::line::{Consumer, Line, Taker};
use super::state::{Claim, Item, Queue, QueueDue, QueueState, Standing};
use crate::model::record::Kind;
use crate::model::{EventId, Item as RecordItem, Record, Topic};
use crate::router::base::claim::Token;
use crate::router::base::codec::{decode, encode};
use crate::router::base::piece::{ITS_REALM, Piece, PieceKey};

/// Everything but items, and what follows from them.
#[derive(Serialize, Deserialize)]
struct Rest {
    queues: Vec<(Topic, QueuePiece)>,
    claims: Vec<(Token, Claim)>,
    holders: BTreeMap<u64, Consumer>,
    waits: BTreeMap<u64, (Topic, u64)>,
}

#[derive(Serialize, Deserialize)]
struct QueuePiece {
    settings: Settings,
    is_declared: bool,
    line: Line,
    counts: Counts,
}

/// The state of an item that is not in its record.
#[derive(Serialize, Deserialize)]
struct ItemPiece {
    id: u64,
    deliveries: u32,
    standing: Standing,
}

impl Queues {
    pub fn track_changes(&mut self) {
        self.state.changed.track();
    }

    pub fn note_changed(&mut self, key: &PieceKey) {
        match key {
            PieceKey::QueueItem(id, index) => self.state.changed.note_item(Rank(*id, *index)),
            _ => self.state.changed.note_rest(),
        }
    }

    pub fn changed(&self) -> usize {
        self.state.changed.count()
    }

    pub fn take_changes(&mut self) -> Vec<PieceKey> {
        let (items, rest) = self.state.changed.take();
        rest.then_some(PieceKey::Queues).into_iter().chain(items.into_iter().map(key_of)).collect()
    }

    pub fn pieces(&self) -> impl Iterator<Item = PieceKey> {
        let rest = (!self.state.queues.is_empty()).then_some(PieceKey::Queues);
        rest.into_iter().chain(self.state.items.keys().copied().map(key_of))
    }

    pub fn piece(&self, key: &PieceKey) -> Option<Piece> {
        let state = &self.state;
        match key {
            PieceKey::QueueItem(id, index) => state.items.get(&Rank(*id, *index)).and_then(piece_of),
            PieceKey::Queues if !state.queues.is_empty() => Some(Piece { head: encode(&Rest::of(state)), record: None }),
            _ => None,
        }
    }

    pub fn restore(&mut self, key: &PieceKey, piece: &Piece) -> Option<()> {
        match key {
            PieceKey::Queues => self.state.restore_rest(decode(&piece.head)?),
            PieceKey::QueueItem(id, index) => {
                self.state.restore_item(Rank(*id, *index), decode(&piece.head)?, piece.record.as_ref()?)?;
            }
            _ => return None,
        }
        Some(())
    }
}

fn key_of(rank: Rank) -> PieceKey {
    PieceKey::QueueItem(rank.0, rank.1)
}

fn piece_of(item: &Item) -> Option<Piece> {
    let Item { queue, id, body, expires_at_ms, deliveries, standing } = item;
    let state = ItemPiece { id: *id, deliveries: *deliveries, standing: *standing };
    let properties = body.properties.as_deref().cloned().map(Box::new);
    let record = RecordItem {
        topic: Some(queue.clone()),
        expires_at_ms: *expires_at_ms,
        properties,
        ..RecordItem::of_kind(Kind::QUEUE, ITS_REALM.into(), 0, body.payload.clone())
    };
    Some(Piece { head: encode(&state), record: Some(Record { id: EventId::new(*id)?, item: record }) })
}

impl Rest {
    fn of(state: &QueueState) -> Self {
        let of_queue = |queue: &Queue| {
            let Queue { settings, is_declared, line, counts, .. } = queue.clone();
            QueuePiece { settings, is_declared, line, counts }
        };
        Rest {
            queues: state.queues.iter().map(|(topic, queue)| (topic.clone(), of_queue(queue))).collect(),
            claims: state.claims.iter().map(|(token, claim)| (*token, claim.clone())).collect(),
            holders: state.holders.clone(),
            waits: state.waits.clone(),
        }
    }
}

impl QueueState {
    fn restore_rest(&mut self, rest: Rest) {
        for (topic, QueuePiece { settings, is_declared, line, counts }) in rest.queues {
            for (turn, taker) in line.takers() {
                if let Taker::Call { take, until_ms, .. } = taker {
                    self.due.insert((*until_ms, QueueDue::Wait(*take)));
                    self.waits.insert(*take, (topic.clone(), *turn));
                }
            }
            self.queues.insert(topic, Queue { settings, is_declared, line, counts, ..Queue::default() });
        }
        for (token, claim) in rest.claims {
            self.due.extend(claim.until_ms.map(|until_ms| (until_ms, QueueDue::Lease(token))));
            self.claims.insert(token, claim);
        }
        (self.holders, self.waits) = (rest.holders, rest.waits);
    }

    fn restore_item(&mut self, rank: Rank, state: ItemPiece, record: &Record) -> Option<()> {
        let ItemPiece { id, deliveries, standing } = state;
        let queue = record.item.topic.clone()?;
        let properties = record.item.properties.as_deref().cloned().map(Arc::new);
        let body = ItemBody { payload: record.item.payload.clone(), properties };
        let weight = body.weight();
        let entry = self.queues.get_mut(&queue)?;
        entry.items += 1;
        entry.bytes += weight;
        self.bytes += weight;
        match standing {
            Standing::Ready => drop(entry.ready.insert(rank)),
            Standing::Resting(until_ms) => drop(self.due.insert((until_ms, QueueDue::Rest(rank)))),
            Standing::Claimed => entry.claimed += 1,
        }
        let expires_at_ms = record.item.expires_at_ms;
        self.due.extend(expires_at_ms.map(|at_ms| (at_ms, QueueDue::Expiry(rank))));
        self.items.insert(rank, Item { queue, id, body, expires_at_ms, deliveries, standing });
        Some(())
    }
}
