//! Opens a directory: what a crash tore is cut off and kept aside, what can be made anew is, anything else is a precise refusal.
use std::sync::Arc;

use super::Config;
use super::footer::Sealed;
use super::frame::Salt;
use super::heads::Heads;
use super::identity::{FORMAT, Identity, Mark};
use super::reader::{Ends, Reader};
use super::segment::{self, DATA_START, Scanned, file_name, number_of, read_header, read_heads};
use super::snapshot::{self, SNAPSHOT_FILE};
use super::tail::{Recovery, Tail, Torn, allocate, begin};
use super::writer::{Log, Scratch};
use crate::model::EventId;
use crate::store::disk::{Disk, DiskFile, is_full};
use crate::store::error::Error;
use crate::store::{AsOf, as_of};

/// The facts known about a directory before it is opened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// The identity it must have, where that is known from elsewhere.
    pub expected: Option<[u8; 16]>,
    /// The identity it gets if it is new: random.
    pub new_identity: [u8; 16],
    /// Ids that somebody has seen: a directory that does not reach them is an older copy.
    pub known: AsOf,
}

impl<D: Disk> Log<D> {
    /// Opens, or makes, the log on `disk`, which is this process's alone from then on.
    pub fn open(disk: D, config: Config, options: Options) -> Result<Self, Error> {
        let config = Config { segment_bytes: config.segment_bytes.clamp(1_024, 1 << 30), ..config };
        if !disk.lock().map_err(|error| Error::io(".", error))? {
            return Err(Error::Locked(disk.holder()));
        }
        let names = disk.list().map_err(|error| Error::io(".", error))?;
        let mut recovery = Recovery::default();
        let mut identity = identify(&disk, &names, &options, &mut recovery)?;
        let numbers = segments(&disk, &names, &identity)?;
        let (mark, synced_to) = Mark::open(&disk, &names, identity.directory)?;
        let last = *numbers.last().unwrap_or(&0);
        if synced_to.is_some_and(|(segment, _)| segment > last) {
            return Err(Error::corrupt(&file_name(last + 1), 0, "the newest segment is missing"));
        }
        let is_left_over = |name: &&String| name.ends_with(".log.new") || *name == "snapshot.new" || *name == "identity.new";
        for name in names.iter().filter(is_left_over) {
            disk.remove(name).map_err(|error| Error::io(name, error))?;
        }
        // A process that ended before its last renaming was synced left names that a power cut would still take back.
        disk.sync_directory().map_err(|error| Error::io(".", error))?;
        let (tail, scanned) = match numbers.last() {
            Some(number) => open_tail(&disk, &config, &identity.directory, *number, synced_to, &mut recovery)?,
            None => first_segment(&disk, &config, &identity)?,
        };
        let sealed = open_sealed(&disk, &numbers, &identity.directory, &mut recovery)?;
        let oldest = match sealed.first() {
            Some(first) => {
                let file = disk.open(&first.name).map_err(|error| Error::io(&first.name, error))?;
                read_heads(&file, &first.name, first.salt, first.data_end)?
            }
            None => scanned.start.clone(),
        };
        let snapshot = snapshot::open(&disk, &identity.directory)?;
        let (snapshot_of, snapshot_bytes) = match snapshot {
            Some(reader) => (reader.as_of().to_vec(), reader.bytes()?),
            None => Default::default(),
        };
        check_ends(&scanned.heads, &oldest, &snapshot_of, &options.known)?;
        if identity.format < FORMAT {
            // Before anything is written that a program of the older format would misread.
            recovery.older_format = Some(identity.format);
            identity.format = FORMAT;
            identity.write(&disk)?;
        }
        mark.move_to(tail.number, tail.synced)?;
        let ends = Ends { oldest, sealed: scanned.start, written: scanned.heads.clone() };
        let reader = Reader::new(disk.clone(), sealed, &tail, scanned.index, ends);
        reader.set_snapshot(snapshot_of.clone(), snapshot_bytes);
        Ok(Log {
            disk,
            config,
            identity,
            reader,
            tail,
            mark,
            heads: scanned.heads,
            snapshot_of,
            snapshot_slot: Arc::default(),
            recovery,
            is_poisoned: false,
            scratch: Scratch::default(),
        })
    }
}

/// The identity of the directory; a new one gets its own.
fn identify<D: Disk>(disk: &D, names: &[String], options: &Options, recovery: &mut Recovery) -> Result<Identity, Error> {
    if let Some(identity) = Identity::read(disk, names)? {
        return match options.expected {
            Some(expected) if expected != identity.directory => {
                Err(Error::OtherDirectory { found: identity.directory, expected })
            }
            _ => Ok(identity),
        };
    }
    if names.iter().any(|name| number_of(name).is_some() || name == SNAPSHOT_FILE) {
        return Err(Error::corrupt("identity", 0, "missing from a directory that holds a log"));
    }
    let directory = options.expected.unwrap_or(options.new_identity);
    let identity = Identity { directory, first_segment: 1, format: FORMAT };
    identity.write(disk)?;
    recovery.is_new = true;
    Ok(identity)
}

/// The numbers of the segments, without a gap. Segments that an interrupted trim left are removed: the identity says that this
/// was decided.
fn segments<D: Disk>(disk: &D, names: &[String], identity: &Identity) -> Result<Vec<u64>, Error> {
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
    numbers.sort_unstable();
    for number in numbers.iter().filter(|number| **number < identity.first_segment) {
        let name = file_name(*number);
        disk.remove(&name).map_err(|error| Error::io(&name, error))?;
    }
    numbers.retain(|number| *number >= identity.first_segment);
    let mut expected = identity.first_segment..;
    let gap = numbers.iter().zip(&mut expected).find(|(number, expected)| *number != expected);
    let missing = gap
        .map(|(_, expected)| expected)
        .or((numbers.is_empty() && identity.first_segment > 1).then_some(identity.first_segment));
    match missing {
        Some(number) => Err(Error::corrupt(&file_name(number), 0, "the segment is missing")),
        None => Ok(numbers),
    }
}

fn first_segment<D: Disk>(disk: &D, config: &Config, identity: &Identity) -> Result<(Tail<D::File>, Scanned), Error> {
    let free = disk.free_bytes().map_err(|error| Error::io(".", error))?;
    if free < config.segment_bytes.saturating_add(config.reserve_bytes) {
        return Err(Error::NoSpace);
    }
    let number = identity.first_segment;
    let file = allocate(disk, &format!("{}.new", file_name(number)), config.segment_bytes)?;
    let tail = begin(disk, file, &identity.directory, number, 0, &Heads::default())?;
    let tail = Tail { allocated: config.segment_bytes, ..tail };
    let scanned = segment::scan(&*tail.file, &tail.name, tail.salt, 0, tail.end)?;
    Ok((tail, scanned))
}

/// All but the last segment, each chained to the next.
fn open_sealed<D: Disk>(
    disk: &D,
    numbers: &[u64],
    directory: &[u8; 16],
    recovery: &mut Recovery,
) -> Result<Vec<Arc<Sealed>>, Error> {
    let mut all = Vec::with_capacity(numbers.len());
    for (number, next) in numbers.iter().zip(numbers.iter().skip(1)) {
        let (name, next_name, salt) = (file_name(*number), file_name(*next), Salt::new(directory, *number));
        let open = |name: &str| disk.open(name).map_err(|error| Error::io(name, error));
        let file = open(&name)?;
        let previous = read_header(&file, &name, directory, *number)?;
        let last = read_header(&open(&next_name)?, &next_name, directory, *next)?;
        let sealed = match Sealed::open(&file, *number, &name, salt) {
            Err(Error::Corrupt { .. }) => {
                segment::rebuild(&file, &name, salt, previous, last)?;
                recovery.rebuilt.push(name.clone());
                Sealed::open(&file, *number, &name, salt)?
            }
            opened => opened?,
        };
        if sealed.chain != last {
            return Err(Error::corrupt(&next_name, 0, "not the segment that follows the one before it"));
        }
        all.push(Arc::new(sealed));
    }
    Ok(all)
}

/// The last segment: scanned, its torn tail cut off, ready to be written.
fn open_tail<D: Disk>(
    disk: &D,
    config: &Config,
    directory: &[u8; 16],
    number: u64,
    synced_to: Option<(u64, u64)>,
    recovery: &mut Recovery,
) -> Result<(Tail<D::File>, Scanned), Error> {
    let (name, salt) = (file_name(number), Salt::new(directory, number));
    let io = |error| Error::io(&name, error);
    let file = disk.open(&name).map_err(io)?;
    let previous = read_header(&file, &name, directory, number)?;
    let length = file.length().map_err(io)?;
    let scanned = segment::scan(&file, &name, salt, previous, length)?;
    let end = scanned.end;
    let synced = synced_to.filter(|(segment, _)| *segment == number).map_or(DATA_START, |(_, offset)| offset);
    if synced > end {
        return Err(Error::corrupt(&name, end, "a record that was synced is damaged or missing"));
    }
    if Sealed::open(&file, number, &name, salt).is_ok_and(|sealed| sealed.data_end != end) {
        return Err(Error::corrupt(&name, end, "a record of a sealed segment is damaged"));
    }
    let behind = segment::end_of_bytes(&file, &name, end, length)?;
    if behind > end {
        keep_torn(disk, &file, (number, salt), end..behind, recovery)?;
    }
    restore(&file, synced, end).map_err(io)?;
    let allocated = match file.allocate(config.segment_bytes.max(end)) {
        Ok(()) => config.segment_bytes.max(end),
        Err(error) if is_full(&error) => end,
        Err(error) => return Err(io(error)),
    };
    file.sync().map_err(io)?;
    let chain = scanned.chain;
    let first_time_ms = scanned.index.realms.values().map(|realm| realm.span().first_time_ms).min();
    Ok((
        Tail { number, name, file: Arc::new(file), salt, end, synced: end, allocated, released: 0, chain, first_time_ms },
        scanned,
    ))
}

/// Checks that what stands behind the last valid record was torn by a crash and not damaged later, and keeps it in a file.
fn keep_torn<D: Disk>(
    disk: &D,
    file: &D::File,
    (number, salt): (u64, Salt),
    bytes: std::ops::Range<u64>,
    recovery: &mut Recovery,
) -> Result<(), Error> {
    let name = file_name(number);
    if segment::later_proof(file, &name, salt, bytes.start, bytes.end)?.is_some() {
        return Err(Error::corrupt(&name, bytes.start, "a record is damaged that others follow"));
    }
    if Sealed::open(file, number, &name, salt).is_ok() {
        // The crash came between this segment's index and the next segment.
        return Ok(());
    }
    let kept_as = format!("torn-{number:012}-{}", bytes.start);
    let copy = || {
        let kept = disk.create(&kept_as)?;
        let mut buffer = vec![0; ((bytes.end - bytes.start) as usize).clamp(1, 256 * 1024)];
        for at in bytes.clone().step_by(buffer.len()) {
            let wanted = (bytes.end - at).min(buffer.len() as u64) as usize;
            let count = file.read_at(at, buffer.get_mut(..wanted).unwrap_or_default())?;
            kept.write_at(at - bytes.start, buffer.get(..count).unwrap_or_default())?;
        }
        kept.sync()?;
        disk.sync_directory()
    };
    match copy() {
        // A full disk must not keep the log from being read.
        Err(error) if !is_full(&error) => return Err(Error::io(&kept_as, error)),
        _ => {}
    }
    recovery.torn = Some(Torn { file: name, offset: bytes.start, bytes: bytes.end - bytes.start, kept_as });
    Ok(())
}

/// Cuts the file at `end` and writes the bytes again that were not known to be synced. After a failed sync the operating system
/// may hold them as written although they are not.
fn restore<F: DiskFile>(file: &F, synced: u64, end: u64) -> std::io::Result<()> {
    let mut buffer = vec![0; (end.saturating_sub(synced) as usize).clamp(1, 256 * 1024)];
    for at in (synced..end).step_by(buffer.len()) {
        let wanted = (end - at).min(buffer.len() as u64) as usize;
        let count = file.read_at(at, buffer.get_mut(..wanted).unwrap_or_default())?;
        file.write_at(at, buffer.get(..count).unwrap_or_default())?;
    }
    file.truncate(end)
}

/// Whether the log reaches as far as everybody has seen, and nothing is missing at its beginning that no snapshot stands for.
fn check_ends(
    heads: &Heads,
    oldest: &Heads,
    snapshot_of: &[(Arc<str>, EventId)],
    known: &[(Arc<str>, EventId)],
) -> Result<(), Error> {
    for (realm, id) in known.iter().chain(snapshot_of) {
        let next = heads.head(realm).next;
        if id.value() >= next {
            return Err(Error::OlderCopy { realm: realm.to_string(), known: *id, found: EventId::new(next - 1) });
        }
    }
    let is_carried = |(realm, head): (&Arc<str>, &super::heads::Head)| head.next - 1 <= as_of(snapshot_of, realm);
    if oldest.iter().all(is_carried) {
        Ok(())
    } else {
        Err(Error::corrupt(SNAPSHOT_FILE, 0, "missing, or older than what was trimmed"))
    }
}
