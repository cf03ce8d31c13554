//! Decides which of the oldest segments nobody asks to keep.
use std::collections::HashMap;
use std::sync::Arc;

use super::footer::Sealed;
use super::reader::{Reader, is_carried};
use crate::store::disk::Disk;
use crate::store::error::Error;
use crate::store::query::{Retention, Tally};

/// Publications by realm and rule (its place among the rules).
type Tallies = HashMap<(Arc<str>, usize), Tally>;

/// The segments that may go, by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The oldest sealed segment that there is; 0 if there is none.
    pub first: u64,
    /// The first that the rules ask to keep, whether or not a snapshot stands for those before it: what [`super::Log::trim_before`]
    /// takes.
    pub first_kept: u64,
    /// The first that holds something which the snapshot does not include.
    pub first_uncarried: u64,
}

impl Plan {
    /// The number of segments that trimming would remove now.
    pub fn trimmable(&self) -> u64 {
        self.first_kept.min(self.first_uncarried) - self.first
    }

    /// The number of segments more that it could remove behind a snapshot up to [`Reader::sealed_heads`].
    pub fn held_up(&self) -> u64 {
        self.first_kept.saturating_sub(self.first_uncarried)
    }
}

/// The content of a segment, as the rules see it.
struct Content {
    tallies: Tallies,
    /// A publication that no rule covers: kept for ever.
    has_unruled: bool,
}

impl<D: Disk> Reader<D> {
    /// The plan that `rules` give for the oldest segments. Reads the topics of every sealed segment, so it is not for the thread
    /// that writes, which takes the answer to [`super::Log::trim_before`].
    pub fn plan_retention(&self, rules: &[Retention], now_ms: u64) -> Result<Plan, Error> {
        let (sealed, snapshot_of) = {
            let state = self.state.read();
            (state.sealed.clone(), state.snapshot_of.clone())
        };
        let first = sealed.first().map_or(0, |first| first.number);
        let behind_all = |released: &Arc<Sealed>| released.number + 1;
        let carried = sealed.iter().take_while(|sealed| is_carried(sealed, &snapshot_of)).last();
        let mut newer = self.open_tallies(rules);
        let mut is_released = Vec::with_capacity(sealed.len());
        for sealed in sealed.iter().rev() {
            let content = self.content(sealed, rules)?;
            is_released.push(!content.has_unruled && are_all_released(sealed, &content.tallies, rules, &newer, now_ms));
            for (key, tally) in content.tallies {
                newer.entry(key).or_default().add(tally);
            }
        }
        let released = sealed.iter().zip(is_released.into_iter().rev()).take_while(|(_, is_released)| *is_released).last();
        Ok(Plan {
            first,
            first_kept: released.map_or(first, |(sealed, _)| behind_all(sealed)),
            first_uncarried: carried.map_or(first, behind_all),
        })
    }

    fn open_tallies(&self, rules: &[Retention]) -> Tallies {
        self.with_open_index(|index| {
            let mut tallies = Tallies::default();
            for (realm, records) in &index.realms {
                for (topic, posting) in &records.topics {
                    if let Some(rule) = rules.iter().position(|rule| rule.covers(realm, topic)) {
                        let tally = Tally { count: posting.offsets.len() as u64, bytes: posting.bytes };
                        tallies.entry((realm.clone(), rule)).or_default().add(tally);
                    }
                }
            }
            tallies
        })
    }

    fn content(&self, sealed: &Sealed, rules: &[Retention]) -> Result<Content, Error> {
        let mut content = Content { tallies: Tallies::default(), has_unruled: false };
        let file = self.open_sealed(sealed, "")?;
        let index = sealed.index(&file);
        for part in &sealed.realms {
            index.visit_topics(part, |entry| match rules.iter().position(|rule| rule.covers(&part.realm, &entry.topic)) {
                Some(rule) => {
                    let tally = Tally { count: entry.count.into(), bytes: entry.bytes };
                    content.tallies.entry((part.realm.clone(), rule)).or_default().add(tally);
                }
                None => content.has_unruled = true,
            })?;
        }
        Ok(content)
    }
}

/// By age a segment goes when its newest record of the realm is old enough.
fn are_all_released(sealed: &Sealed, tallies: &Tallies, rules: &[Retention], newer: &Tallies, now_ms: u64) -> bool {
    tallies.keys().all(|key| {
        let (realm, rule) = key;
        let age_ms = sealed.span(realm).map_or(0, |span| now_ms.saturating_sub(span.last_time_ms));
        rules.get(*rule).is_some_and(|rule| rule.releases(age_ms, newer.get(key).copied().unwrap_or_default()))
    })
}
