//! Projections that can be rebuilt from the log, kept in sled so that a start need not: each realm's state as of some id.
//!
//! Nothing waits for it and nothing is true because it stands here. All pieces that have changed up to an id go in by one batch,
//! with that id and a digest of everything that is then there. Content that does not fit its digest is thrown away and made anew.
//! sled's own flush does not sync its files, so that is done here, behind each batch.
use std::fs::File;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::input::{Input, put_varint};
use crate::model::EventId;

/// The directory's name beside the log.
pub const DIRECTORY: &str = "state";

/// sled puts what is much larger into files that it never syncs.
const CHUNK_BYTES: usize = 32 * 1024;
/// Pages that sled keeps in memory, in bytes.
const CACHE_BYTES: u64 = 1024 * 1024;
/// Where a realm's pieces say what they are as of; no key of a piece is empty.
const AS_OF: &[u8] = &[0];
/// Changes with whatever changes the meaning of pieces: others are thrown away.
const VERSION: u64 = 1;

/// One piece to be kept, by its key; `None` is no more.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// The kept pieces of all realms.
pub struct Projections {
    db: sled::Db,
    path: PathBuf,
}

/// The head of a realm's pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Head {
    as_of: u64,
    /// XOR of the digests of all entries.
    digest: u64,
    entries: u64,
}

impl Head {
    fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        [VERSION, self.as_of, self.digest, self.entries].iter().for_each(|number| put_varint(&mut bytes, *number));
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input::new(bytes);
        let (version, as_of, digest, entries) = (input.varint()?, input.varint()?, input.varint()?, input.varint()?);
        (version == VERSION && input.is_empty()).then_some(Head { as_of, digest, entries })
    }

    fn note(&mut self, key: &[u8], value: &[u8], is_there: bool) {
        let crc = |seed| u64::from(crc32c::crc32c_append(crc32c::crc32c_append(seed, &(key.len() as u32).to_le_bytes()), key));
        let [high, low] = [1, 2].map(|seed| u64::from(crc32c::crc32c_append(crc(seed) as u32, value)));
        self.digest ^= high << 32 | low;
        self.entries = if is_there { self.entries.saturating_add(1) } else { self.entries.saturating_sub(1) };
    }
}

fn failed(error: &sled::Error) -> Error {
    Error::io(DIRECTORY, std::io::Error::other(plain(error)))
}

/// The words of sled's error, for people.
fn plain(error: &sled::Error) -> String {
    match error {
        sled::Error::Corruption { .. } => "its files are not what was written there".to_owned(),
        sled::Error::Io(error) => error.to_string(),
        sled::Error::Unsupported(why) | sled::Error::ReportableBug(why) => why.clone(),
        sled::Error::CollectionNotFound(_) => "a part of it is missing".to_owned(),
    }
}

/// The damage that stood in the way of opening.
#[derive(Debug)]
pub struct Damaged {
    /// Why.
    pub why: String,
    /// Where what was there is kept now.
    pub kept_as: PathBuf,
}

impl Projections {
    /// Opens, or makes, the pieces beside the log in the directory at `path`, which has this identity. Pieces that cannot be
    /// opened, or belong to another log, are moved aside.
    pub fn open_at(path: &Path, identity: &[u8; 16], now_ms: u64) -> Result<(Self, Option<Damaged>), Error> {
        let directory = path.join(DIRECTORY);
        let why = match Self::try_open(&directory, identity) {
            Ok(projections) => return Ok((projections, None)),
            Err(why) => why,
        };
        let kept_as = path.join(format!("{DIRECTORY}-damaged-{now_ms}"));
        std::fs::rename(&directory, &kept_as).map_err(|error| Error::io(DIRECTORY, error))?;
        let projections = Self::try_open(&directory, identity).map_err(|why| Error::io(DIRECTORY, std::io::Error::other(why)))?;
        Ok((projections, Some(Damaged { why, kept_as })))
    }

    fn try_open(directory: &Path, identity: &[u8; 16]) -> Result<Self, String> {
        let open = || {
            // In its other mode sled holds gigabytes while a million pieces come in.
            let config = sled::Config::new().path(directory).mode(sled::Mode::LowSpace);
            let config = config.cache_capacity(CACHE_BYTES).flush_every_ms(None);
            let db = config.open().map_err(|error| plain(&error))?;
            match db.get(AS_OF).map_err(|error| plain(&error))? {
                None => drop(db.insert(AS_OF, &identity[..]).map_err(|error| plain(&error))?),
                Some(found) if found == identity => {}
                Some(_) => return Err("it belongs to another log".to_owned()),
            }
            Ok(Projections { db, path: directory.to_owned() })
        };
        // sled panics on some files that it did not write so.
        std::panic::catch_unwind(open).unwrap_or_else(|_| Err("its files are not readable".to_owned()))
    }

    /// Up to which id the pieces of `realm` are kept; `None` if there are none.
    pub fn as_of(&self, realm: &str) -> Option<EventId> {
        let head = self.tree(realm).ok()?.get(AS_OF).ok()??;
        EventId::new(Head::decode(&head)?.as_of)
    }

    /// Hands every piece of `realm` to `take`, in the order of keys; false if they are not what was kept, or `take` says so.
    pub fn read(&self, realm: &str, mut take: impl FnMut(&[u8], &[u8]) -> bool) -> bool {
        let read = || {
            let tree = self.tree(realm).ok()?;
            let head = Head::decode(&tree.get(AS_OF).ok()??)?;
            let mut found = Head { as_of: head.as_of, ..Head::default() };
            let mut whole: Option<(Vec<u8>, Vec<u8>)> = None;
            for entry in tree.range([1_u8].as_slice()..) {
                let (stored, value) = entry.ok()?;
                found.note(&stored, &value, true);
                let (key, chunk) = stored.split_last_chunk::<4>()?;
                match &mut whole {
                    Some((open, bytes)) if open == key && u32::from_be_bytes(*chunk) > 0 => bytes.extend_from_slice(&value),
                    _ => {
                        if whole.replace((key.to_vec(), value.to_vec())).is_some_and(|(key, value)| !take(&key, &value)) {
                            return None;
                        }
                    }
                }
            }
            let is_last_taken = whole.is_none_or(|(key, value)| take(&key, &value));
            (is_last_taken && found == head).then_some(())
        };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).ok().flatten().is_some()
    }

    /// Throws away what is kept of `realm`.
    pub fn forget(&self, realm: &str) -> Result<(), Error> {
        self.tree(realm).and_then(|tree| tree.clear()).map_err(|error| failed(&error))
    }

    /// Keeps these changes, all or none of them, on disk when this returns. The pieces are then as of `as_of`, or of the id
    /// before.
    pub fn apply(&self, realm: &str, as_of: Option<EventId>, changes: &[Change]) -> Result<(), Error> {
        self.stage(realm, as_of, changes).map_err(|error| failed(&error))?;
        self.sync().map_err(|error| Error::io(DIRECTORY, error))
    }

    /// Syncs the few files there are: `syncfs` would have the log wait for everything that anybody writes to its disk.
    fn sync(&self) -> std::io::Result<()> {
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            // A file that sled removes meanwhile need not be there.
            if entry.file_type()?.is_file()
                && let Ok(file) = File::open(entry.path())
            {
                file.sync_all()?;
            }
        }
        File::open(&self.path)?.sync_all()
    }

    fn stage(&self, realm: &str, as_of: Option<EventId>, changes: &[Change]) -> Result<(), sled::Error> {
        let tree = self.tree(realm)?;
        let mut head = tree.get(AS_OF)?.and_then(|head| Head::decode(&head)).unwrap_or_default();
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            let stored = |chunk: u32| [key, &chunk.to_be_bytes()[..]].concat();
            let pieces: Vec<&[u8]> = match value {
                Some(value) if value.is_empty() => vec![&[]],
                Some(value) => value.chunks(CHUNK_BYTES).collect(),
                None => Vec::new(),
            };
            for chunk in 0.. {
                let (stored, piece) = (stored(chunk), pieces.get(chunk as usize));
                let before = tree.get(&stored)?;
                if let Some(before) = &before {
                    head.note(&stored, before, false);
                }
                match piece {
                    Some(piece) => {
                        head.note(&stored, piece, true);
                        batch.insert(stored, *piece);
                    }
                    None if before.is_some() => batch.remove(stored),
                    None => break,
                }
            }
        }
        head.as_of = as_of.map_or(head.as_of, EventId::value);
        batch.insert(AS_OF, head.encode());
        tree.apply_batch(batch)?;
        self.db.flush().map(drop)
    }

    fn tree(&self, realm: &str) -> Result<sled::Tree, sled::Error> {
        self.db.open_tree([b"realm ", realm.as_bytes()].concat())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("corsac-state-{}", uuid::Uuid::new_v4()));
            std::fs::create_dir_all(&path).unwrap();
            Directory(path)
        }

        fn open(&self) -> (Projections, Option<Damaged>) {
            Projections::open_at(&self.0, &[7; 16], 1).unwrap()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }

    fn id(number: u64) -> EventId {
        EventId::new(number).unwrap()
    }

    fn all(projections: &Projections, realm: &str) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut all = BTreeMap::new();
        let is_sound = projections.read(realm, |key, value| {
            all.insert(key.to_vec(), value.to_vec());
            true
        });
        is_sound.then_some(all)
    }

    #[test]
    fn pieces_come_back_whatever_their_size() {
        let directory = Directory::new();
        let large = vec![7; 3 * CHUNK_BYTES + 1];
        let change = |key: &str, value: Option<&[u8]>| (key.as_bytes().to_vec(), value.map(<[u8]>::to_vec));
        {
            let (projections, damaged) = directory.open();
            assert!(damaged.is_none() && projections.as_of("r").is_none());
            let changes = [change("b1", Some(&large)), change("b2", Some(b"")), change("c", Some(b"x"))];
            projections.apply("r", Some(id(3)), &changes).unwrap();
            projections.apply("other", Some(id(9)), &[change("b1", Some(b"y"))]).unwrap();
            projections.apply("r", Some(id(5)), &[change("b1", Some(&large[..CHUNK_BYTES])), change("c", None)]).unwrap();
        }
        let (projections, damaged) = directory.open();
        assert!(damaged.is_none());
        assert_eq!((projections.as_of("r"), projections.as_of("other")), (Some(id(5)), Some(id(9))));
        let expected = [(b"b1".to_vec(), large[..CHUNK_BYTES].to_vec()), (b"b2".to_vec(), Vec::new())];
        assert_eq!(all(&projections, "r"), Some(expected.into()));
        projections.forget("r").unwrap();
        assert_eq!((projections.as_of("r"), all(&projections, "r")), (None, None));
    }

    #[test]
    fn what_belongs_to_another_log_is_moved_aside() {
        let directory = Directory::new();
        drop(Projections::open_at(&directory.0, &[1; 16], 1).unwrap());
        let (_, damaged) = directory.open();
        assert!(damaged.is_some_and(|damaged| damaged.kept_as.is_dir()));
    }

    #[test]
    fn an_entry_that_is_not_what_was_kept_is_seen() {
        let directory = Directory::new();
        let (projections, _) = directory.open();
        projections
            .apply("r", Some(id(3)), &[(b"b1".to_vec(), Some(b"x".to_vec())), (b"b2".to_vec(), Some(b"y".to_vec()))])
            .unwrap();
        let tree = projections.tree("r").unwrap();
        tree.remove(b"b1\0\0\0\0").unwrap();
        assert_eq!(all(&projections, "r"), None);
        tree.insert(b"b1\0\0\0\0", b"z").unwrap();
        assert_eq!(all(&projections, "r"), None);
        tree.insert(b"b1\0\0\0\0", b"x").unwrap();
        assert!(all(&projections, "r").is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

        /// After any damage to its files a reader gets a state that was kept at some time, or nothing.
        #[test]
        fn damage_is_seen(place in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0..8_u32, is_cut in any::<bool>()) {
            let directory = Directory::new();
            let (mut kept, mut states) = (BTreeMap::new(), Vec::new());
            {
                let (projections, _) = directory.open();
                for round in 1..=5_u64 {
                    let key = format!("b{}", round % 3).into_bytes();
                    let value = vec![round as u8; 5_000];
                    projections.apply("r", Some(id(round)), &[(key.clone(), Some(value.clone()))]).unwrap();
                    kept.insert(key, value);
                    states.push((id(round), kept.clone()));
                }
            }
            let mut files = Vec::new();
            let mut folders = vec![directory.0.join(DIRECTORY)];
            while let Some(folder) = folders.pop() {
                for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                    if entry.is_dir() { folders.push(entry) } else { files.push(entry) }
                }
            }
            files.sort();
            let file = place.get(&files);
            let mut bytes = std::fs::read(file).unwrap();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                if is_cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
                std::fs::write(file, bytes).unwrap();
            }
            let (projections, _) = directory.open();
            let as_of = projections.as_of("r");
            if let (Some(as_of), Some(found)) = (as_of, all(&projections, "r")) {
                prop_assert!(states.contains(&(as_of, found)));
            }
        }
    }
}
