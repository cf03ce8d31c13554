//! A filter as a walk over topics in the order of their levels, which jumps over what it cannot cover.
use crate::model::filter::mqtt_prefix;
use crate::model::{Filter, Topic};
use crate::router::retained::{DIVIDER, divided};

/// The next step of a scan behind one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The topic is one of them; look at the next.
    Covered,
    /// The key is not covered; look at the next.
    Next,
    /// The key is not covered, and none before the key that was put into `seek` is.
    Seek,
    /// No topic from here on is.
    End,
}

/// A filter prepared to walk over keys in their order.
pub enum Scan<'a> {
    Levels(Vec<&'a [u8]>),
    Prefix {
        filter: &'a Filter,
        /// Bytes of the prefix in WAMP spelling.
        len: usize,
        /// The bytes that every key begins with, and whether they are enough.
        start: Vec<u8>,
        is_enough: bool,
    },
}

impl<'a> Scan<'a> {
    pub fn levels(levels: &'a str) -> Self {
        Scan::Levels(levels.split('/').map(str::as_bytes).collect())
    }

    pub fn prefix(filter: &'a Filter, prefix: &str) -> Self {
        let (start, is_enough) = mqtt_prefix(prefix);
        Scan::Prefix { filter, len: prefix.len(), start: divided(&start).collect(), is_enough }
    }

    /// The first key that can be covered.
    pub fn start(&self) -> Vec<u8> {
        let mut start = Vec::new();
        match self {
            Scan::Levels(levels) => push_literals(levels, &mut start),
            Scan::Prefix { start: bytes, .. } => start.clone_from(bytes),
        }
        start
    }

    /// Judges one key at or behind [`Scan::start`]; what is put into `seek` is always behind `key`.
    pub fn judge(&self, key: &[u8], topic: &Topic, seek: &mut Vec<u8>) -> Verdict {
        let root_len = topic.hidden_root_len();
        let is_out_of_sight = match self {
            Scan::Levels(levels) => matches!(levels.first(), Some(&b"+" | &b"#")),
            Scan::Prefix { len, .. } => *len < root_len,
        };
        if root_len > 0 && is_out_of_sight {
            seek_behind_root(key, root_len, seek);
            return Verdict::Seek;
        }
        match self {
            Scan::Levels(levels) => judge_levels(levels, key, seek),
            Scan::Prefix { start, .. } if !key.starts_with(start) => Verdict::End,
            Scan::Prefix { filter, is_enough, .. } if *is_enough || filter.covers(topic) => Verdict::Covered,
            Scan::Prefix { .. } => Verdict::Next,
        }
    }
}

pub fn judge_levels(levels: &[&[u8]], key: &[u8], seek: &mut Vec<u8>) -> Verdict {
    let mut rest = Some(key);
    // Where the level begins that is looked at, and where the last one under a `+` ends.
    let (mut at, mut last_any) = (0, None);
    for (index, level) in levels.iter().enumerate() {
        if *level == b"#" {
            return Verdict::Covered;
        }
        let Some(text) = rest else {
            // The topic ends above those that are looked for: go down.
            seek_below(key, levels.get(index..).unwrap_or_default(), seek);
            return Verdict::Seek;
        };
        let (named, below) = split_level(text);
        if *level == b"+" {
            last_any = Some(at + named.len());
        } else if named < *level {
            seek.clear();
            seek.extend_from_slice(key.get(..at).unwrap_or_default());
            push_literals(levels.get(index..).unwrap_or_default(), seek);
            return Verdict::Seek;
        } else if named > *level {
            return seek_sibling(key, last_any, seek);
        }
        at += named.len() + 1;
        rest = below;
    }
    if rest.is_none() { Verdict::Covered } else { seek_sibling(key, last_any, seek) }
}

/// Nothing more under the text that the last `+` stands for (up to `last_any`): on to its next one.
pub fn seek_sibling(key: &[u8], last_any: Option<usize>, seek: &mut Vec<u8>) -> Verdict {
    let Some(subtree) = last_any.and_then(|end| key.get(..end)) else { return Verdict::End };
    seek.clear();
    seek.extend_from_slice(subtree);
    seek.push(DIVIDER + 1);
    Verdict::Seek
}

/// The first key below `key` that `levels` can cover.
pub fn seek_below(key: &[u8], levels: &[&[u8]], seek: &mut Vec<u8>) {
    seek.clear();
    seek.extend_from_slice(key);
    seek.push(DIVIDER);
    push_literals(levels, seek);
}

/// The first key behind everything under the hidden root of `key`: all of `$...`, or the subtree `wamp` or `corsac`.
pub fn seek_behind_root(key: &[u8], root_len: usize, seek: &mut Vec<u8>) {
    seek.clear();
    if key.starts_with(b"$") {
        seek.push(b'$' + 1);
    } else {
        seek.extend_from_slice(key.get(..root_len).unwrap_or_default());
        seek.push(DIVIDER + 1);
    }
}

/// Adds the levels before the first wildcard, divided.
pub fn push_literals(levels: &[&[u8]], key: &mut Vec<u8>) {
    for (index, level) in levels.iter().take_while(|level| **level != b"+" && **level != b"#").enumerate() {
        if index > 0 {
            key.push(DIVIDER);
        }
        key.extend_from_slice(level);
    }
}

/// The first level of a key, and the rest if there is one.
pub fn split_level(key: &[u8]) -> (&[u8], Option<&[u8]>) {
    match key.iter().position(|byte| *byte == DIVIDER) {
        Some(at) => (key.get(..at).unwrap_or_default(), key.get(at + 1..)),
        None => (key, None),
    }
}

/// The least key behind `key`.
pub fn first_behind(key: &[u8]) -> Vec<u8> {
    [key, &[DIVIDER]].concat()
}
