//! Reads of one realm's history, on threads that may wait for the disk.
use std::collections::VecDeque;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::post::{News, Post};
use crate::model::query::{Page, Query, ReadTicket};
use crate::model::{Encoding, Payload, Reason, Record};
use crate::router::ReadForm;
use crate::store::Error;
use crate::store::disk::OsDisk;
use crate::store::log::Reader;
use crate::wire::payload;

/// Pages of one realm that are read at a time; the others wait. Each is bounded, and so is what waits: every session asks for few.
const MAX_RUNNING: usize = 4;

/// One page to read.
type Job = (ReadTicket, Query, ReadForm);

/// The reads of one realm.
pub struct Reading {
    post: Arc<Post>,
    name: Arc<str>,
    reader: Reader<OsDisk>,
    runtime: Handle,
    running: usize,
    waiting: VecDeque<Job>,
}

impl Reading {
    /// Of the realm called `name`. Call it where tokio runs.
    pub fn start(post: Arc<Post>, name: Arc<str>, reader: Reader<OsDisk>) -> Self {
        Reading { post, name, reader, runtime: Handle::current(), running: 0, waiting: VecDeque::new() }
    }

    /// Reads a page; the post of the realm brings it.
    pub fn read(&mut self, ticket: ReadTicket, mut query: Query, form: ReadForm) {
        query.realm = self.name.clone();
        self.waiting.push_back((ticket, query, form));
        self.run_next();
    }

    /// A page has come.
    pub fn handle_read(&mut self) {
        self.running = self.running.saturating_sub(1);
        self.run_next();
    }

    fn run_next(&mut self) {
        if self.running >= MAX_RUNNING {
            return;
        }
        let Some((ticket, query, form)) = self.waiting.pop_front() else { return };
        self.running += 1;
        let (post, reader) = (self.post.clone(), self.reader.clone());
        self.runtime.spawn_blocking(move || {
            post.bring(News::Read(ticket, page_of(&reader, &query, form)));
        });
    }
}

fn page_of(reader: &Reader<OsDisk>, query: &Query, form: ReadForm) -> Result<Page, Reason> {
    let mut page = reader.read(query).map_err(|error| reason_of(&error))?;
    if form == ReadForm::Json {
        page.records.iter_mut().for_each(convert);
    }
    Ok(page)
}

fn convert(record: &mut Record) {
    let item = &mut record.item;
    if matches!(item.payload, Payload::Bytes(_)) {
        // Properties, if only empty ones, still tell that it came from MQTT.
        item.properties.get_or_insert_default();
    }
    item.payload = payload::to_args(&item.payload, item.properties.as_deref(), Encoding::Json);
}

fn reason_of(error: &Error) -> Reason {
    if let Error::TooOld { oldest } = error {
        return Reason::HistoryTooOld(*oldest);
    }
    tracing::error!("cannot read the history: {error}");
    Reason::StorageFailed
}
