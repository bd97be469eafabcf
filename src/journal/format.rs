//! The journal's bytes: one header line, then one line per record. No file here.
//!
//! ```text
//! rhizome-journal 1 <anchor> <crc>
//! <length> <crc> <chain> <JSON of the record>
//! ```
//!
//! `length` counts the JSON's bytes; `crc` is the CRC-32 of chain, space and JSON; `chain` is
//! SHA-256 over the line's predecessor and the JSON, cut to 128 bits. All are in hex and of
//! fixed width, so that a person reads the file with `less`. JSON holds no bare line break.
//!
//! What a reader makes of bytes that are not like this, in one rule: bytes at the end that
//! are a strict beginning of a line are a **torn tail**, left by a crash in the middle of a
//! write whose sync never returned, so nothing was ever done because of them. Everything else
//! is **damage**, and the reader says where and takes nothing.

use rhizome_engine::journal::Record;
use sha2::{Digest, Sha256};

/// The version that is written.
pub const VERSION: u32 = 1;

/// The oldest version that is read: always one before [`VERSION`] once there is one.
pub const OLDEST_READABLE: u32 = 1;

/// The longest record, in bytes of JSON. A snapshot of 100,000 nodes has about 30 MB; a
/// length beyond this is a damaged length, and is not worth reading a file's rest for.
pub const MAX_RECORD_BYTES: usize = 256 << 20;

const MAGIC: &str = "rhizome-journal";
const LENGTH_HEX: usize = 8;
const CRC_HEX: usize = 8;
const CHAIN_HEX: usize = 32;
/// The bytes of a line before its JSON: three fields, each with its space.
const PREFIX: usize = LENGTH_HEX + 1 + CRC_HEX + 1 + CHAIN_HEX + 1;

/// A place in the hash chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Chain([u8; CHAIN_HEX / 2]);

/// What a journal holds.
#[derive(Debug)]
pub struct Contents {
    /// The version it was written in.
    pub version: u32,
    /// The records in their order.
    pub records: Vec<Record>,
    /// The chain after the last of them.
    pub chain: Chain,
    /// The bytes up to the end of the last whole record.
    pub whole: usize,
    /// The bytes after them, left by a crash, which are to be cut off.
    pub torn: usize,
    /// The last record lacks its line break, which is to be written again.
    pub unended: bool,
}

/// Where a journal is damaged, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} (byte {offset}) {kind}")]
pub struct Damage {
    /// The line, from 1; the header is line 1.
    pub line: usize,
    /// The byte at which the line begins.
    pub offset: usize,
    /// What is wrong with it.
    pub kind: DamageKind,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DamageKind {
    /// The first line is not a journal's.
    #[error("is not the first line of a journal")]
    Header,
    /// A later program wrote it.
    #[error(
        "was written in format {0}, and this program reads up to {VERSION}: use the newer program"
    )]
    Newer(u32),
    /// A program too old wrote it.
    #[error(
        "was written in format {0}, and this program reads from {OLDEST_READABLE}: start a release in between first"
    )]
    Older(u32),
    /// The fields before the JSON cannot be read.
    #[error("has no length, checksum and chain at its beginning")]
    Fields,
    /// The line is longer or shorter than it says.
    #[error("has {found} bytes, and says that it has {said}")]
    Length {
        /// As it says.
        said: usize,
        /// As it is.
        found: usize,
    },
    /// A byte of it changed.
    #[error("does not match its checksum")]
    Checksum,
    /// A line before it is missing, or it comes from another journal.
    #[error("does not follow from the line before it: a line is missing or was put in")]
    Chain,
    /// The JSON is none of our records.
    #[error("is no record that this program knows: {0}")]
    Record(String),
}

/// Why a record cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// It has no JSON.
    #[error("the record cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// It is too long.
    #[error("the record has {0} bytes, more than the {MAX_RECORD_BYTES} that a reader would take")]
    TooLong(usize),
}

/// The header of a journal that goes on from `anchor`, and the chain that its first line
/// follows from.
pub fn header(anchor: Chain) -> (String, Chain) {
    let text = format!("{MAGIC} {VERSION} {anchor}");
    let crc = crc32fast::hash(text.as_bytes());
    let line = format!("{text} {crc:08x}\n");
    let chain = Chain::default().next(line.as_bytes());
    (line, chain)
}

/// Appends the line of `record` to `out` and returns the chain after it.
///
/// # Errors
///
/// Returns why the record cannot be written; `out` is then as it was.
pub fn encode(record: &Record, before: Chain, out: &mut Vec<u8>) -> Result<Chain, EncodeError> {
    let json = serde_json::to_vec(record)?;
    if json.len() > MAX_RECORD_BYTES {
        return Err(EncodeError::TooLong(json.len()));
    }
    let chain = before.next(&json);
    let crc = checksum(&chain.to_string(), &json);
    out.extend_from_slice(format!("{:08x} {crc:08x} {chain} ", json.len()).as_bytes());
    out.extend_from_slice(&json);
    out.push(b'\n');
    Ok(chain)
}

/// Reads a whole journal.
///
/// # Errors
///
/// Returns the first damage; a torn tail is none.
pub fn read(bytes: &[u8]) -> Result<Contents, Damage> {
    let damage = |line, offset, kind| Damage { line, offset, kind };
    let mut contents = Contents {
        version: VERSION,
        records: Vec::new(),
        chain: Chain::default(),
        whole: 0,
        torn: 0,
        unended: false,
    };
    let mut line = 0;
    while let Some(rest) = bytes.get(contents.whole..).filter(|rest| !rest.is_empty()) {
        line += 1;
        let offset = contents.whole;
        let at = |kind| damage(line, offset, kind);
        let ended = memchr_newline(rest);
        if line == 1 {
            match ended {
                Some(end) => {
                    let head = rest.get(..end).unwrap_or_default();
                    contents.version = read_header(head).map_err(at)?;
                    contents.chain = Chain::default().next(rest.get(..=end).unwrap_or_default());
                    contents.whole = end + 1;
                }
                None if is_torn_header(rest) => {
                    contents.torn = rest.len();
                    break;
                }
                None => return Err(at(DamageKind::Header)),
            }
            continue;
        }
        match ended {
            Some(end) => {
                let text = rest.get(..end).unwrap_or_default();
                let (record, chain) = read_line(text, contents.chain).map_err(at)?;
                contents.records.push(record);
                contents.chain = chain;
                contents.whole += end + 1;
            }
            None => {
                read_tail(rest, &mut contents).map_err(at)?;
                break;
            }
        }
    }
    Ok(contents)
}

/// Reads the bytes after the last line break.
///
/// They are torn if they are fewer than their own length says. A last record that lacks
/// nothing but its line break is kept: it may have been synced, and keeping a record that
/// was not is safe, because an intent without an outcome is looked for and not repeated.
fn read_tail(tail: &[u8], contents: &mut Contents) -> Result<(), DamageKind> {
    // Some file systems leave zeros where a crash lost the data of a file that had grown.
    let zeros = tail.iter().rev().take_while(|byte| **byte == 0).count();
    let text = tail.get(..tail.len() - zeros).unwrap_or_default();
    contents.torn = tail.len();
    let Some(fields) = text.get(..LENGTH_HEX) else {
        let hex = text.iter().all(u8::is_ascii_hexdigit);
        return if hex { Ok(()) } else { Err(DamageKind::Fields) };
    };
    let length = hex_number(fields)
        .and_then(|length| usize::try_from(length).ok())
        .filter(|length| *length <= MAX_RECORD_BYTES)
        .ok_or(DamageKind::Fields)?;
    let said = PREFIX + length;
    if text.len() < said {
        return Ok(());
    }
    if text.len() > said {
        return Err(DamageKind::Length {
            said: length,
            found: text.len() - PREFIX,
        });
    }
    let (record, chain) = read_line(text, contents.chain)?;
    contents.records.push(record);
    contents.chain = chain;
    contents.whole += text.len();
    contents.torn = zeros;
    contents.unended = true;
    Ok(())
}

fn read_line(text: &[u8], before: Chain) -> Result<(Record, Chain), DamageKind> {
    let (prefix, json) = text.split_at_checked(PREFIX).ok_or(DamageKind::Fields)?;
    let fields = std::str::from_utf8(prefix).map_err(|_| DamageKind::Fields)?;
    let mut fields = fields.split(' ');
    let (Some(length), Some(crc), Some(chain), Some(""), None) = (
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
    ) else {
        return Err(DamageKind::Fields);
    };
    let said = hex_number(length.as_bytes())
        .and_then(|said| usize::try_from(said).ok())
        .ok_or(DamageKind::Fields)?;
    if said != json.len() {
        return Err(DamageKind::Length {
            said,
            found: json.len(),
        });
    }
    if hex_number(crc.as_bytes()) != Some(checksum(chain, json)) {
        return Err(DamageKind::Checksum);
    }
    let next = before.next(json);
    if next.to_string() != chain {
        return Err(DamageKind::Chain);
    }
    let record =
        serde_json::from_slice(json).map_err(|error| DamageKind::Record(error.to_string()))?;
    Ok((record, next))
}

/// Reads the first line, without its line break, and returns its version.
fn read_header(line: &[u8]) -> Result<u32, DamageKind> {
    let text = std::str::from_utf8(line).map_err(|_| DamageKind::Header)?;
    let (text, crc) = text.rsplit_once(' ').ok_or(DamageKind::Header)?;
    if hex_number(crc.as_bytes()) != Some(crc32fast::hash(text.as_bytes())) {
        return Err(DamageKind::Header);
    }
    let version = text
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.trim_start().split(' ').next())
        .and_then(|version| version.parse().ok())
        .ok_or(DamageKind::Header)?;
    match version {
        newer if newer > VERSION => Err(DamageKind::Newer(newer)),
        older if older < OLDEST_READABLE => Err(DamageKind::Older(older)),
        version => Ok(version),
    }
}

/// Whether `bytes` may be the beginning of a header, as a crash at the journal's creation
/// leaves it.
fn is_torn_header(bytes: &[u8]) -> bool {
    let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
    let text = bytes.get(..bytes.len() - zeros).unwrap_or_default();
    let shortest = text.len().min(MAGIC.len());
    text.get(..shortest) == MAGIC.as_bytes().get(..shortest)
        && text.len() < header(Chain::default()).0.len()
        && text.is_ascii()
}

fn checksum(chain: &str, json: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(chain.as_bytes());
    hasher.update(b" ");
    hasher.update(json);
    hasher.finalize()
}

/// Reads a number of at most eight lower-case hex digits.
///
/// Lower case only: `from_str_radix` would take `A` for `a`, and a flipped bit would pass.
fn hex_number(text: &[u8]) -> Option<u32> {
    let lower = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != LENGTH_HEX || !text.iter().all(lower) {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

fn memchr_newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

impl Chain {
    /// The chain after `bytes`.
    fn next(self, bytes: &[u8]) -> Chain {
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        hasher.update(bytes);
        let mut next = Chain::default();
        for (to, from) in next.0.iter_mut().zip(hasher.finalize()) {
            *to = from;
        }
        next
    }
}

impl std::fmt::Display for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
