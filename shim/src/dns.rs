//! Questions to name servers and their answers, as bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::limits::{MAX_NAME_ADDRESSES, MAX_NAME_RECORDS};

/// Bytes of a name, as it is sent, and of one of its parts.
const MAX_NAME_BYTES: usize = 255;
const MAX_LABEL_BYTES: usize = 63;

/// Bytes before the question.
const HEADER_BYTES: usize = 12;

/// Jumps that a name is followed, and names that stand for others.
const MAX_JUMPS: usize = 32;
const MAX_ALIASES: usize = 16;

/// Numbers of what is asked for and found.
const ALIAS: u16 = 5;
const INTERNET: u16 = 1;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Addresses of version 4.
    Four = 1,
    /// Addresses of version 6.
    Six = 28,
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The addresses; none if the name has none of that kind.
    Found(Vec<IpAddr>),
    /// There is no such name.
    NoSuchName,
    /// There is more than fits: it has to be asked for over TCP.
    Truncated,
    /// It does not know, or does not say.
    Failed,
}

/// Writes a question; `None` for what cannot be a host's name.
#[must_use]
pub fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + name.len() + 6);
    bytes.extend_from_slice(&id.to_be_bytes());
    // One question, and whoever is asked finds it out if it does not know.
    bytes.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let len = u8::try_from(label.len()).ok()?;
        if label.is_empty() || label.len() > MAX_LABEL_BYTES || !label.bytes().all(is_plain) {
            return None;
        }
        bytes.push(len);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    if bytes.len() - HEADER_BYTES > MAX_NAME_BYTES {
        return None;
    }
    bytes.extend_from_slice(&(kind as u16).to_be_bytes());
    bytes.extend_from_slice(&INTERNET.to_be_bytes());
    Some(bytes)
}

/// Reads what came as the answer to a question; `None` if it is no answer to that.
#[must_use]
pub fn answer(bytes: &[u8], question: &[u8]) -> Option<Reply> {
    let same_id = bytes.get(..2)? == question.get(..2)?;
    let flags = two(bytes, 2)?;
    let asked = question.get(HEADER_BYTES..)?;
    let echoed = bytes.get(HEADER_BYTES..HEADER_BYTES + asked.len())?;
    // An answer, to a plain question, which is this one.
    let is_answer = flags & 0xf800 == 0x8000 && two(bytes, 4)? == 1;
    if !same_id || !is_answer || !echoed.eq_ignore_ascii_case(asked) {
        return None;
    }
    if flags & 0x0200 != 0 {
        return Some(Reply::Truncated);
    }
    match flags & 0xf {
        0 => {}
        3 => return Some(Reply::NoSuchName),
        _ => return Some(Reply::Failed),
    }
    // What is no message is as good as none.
    let records = records(bytes, HEADER_BYTES + asked.len()).unwrap_or_default();
    let wanted = two(asked, asked.len() - 4)?;
    let (name, _) = name_at(question, HEADER_BYTES)?;
    Some(Reply::Found(addresses(&records, name, wanted)))
}

/// A record of an answer.
struct Record {
    owner: Vec<u8>,
    what: u16,
    data: Vec<u8>,
}

/// Reads the records of an answer, whose names are written out.
fn records(bytes: &[u8], mut at: usize) -> Option<Vec<Record>> {
    let count = usize::from(two(bytes, 6)?).min(MAX_NAME_RECORDS);
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        let (owner, next) = name_at(bytes, at)?;
        let (what, class) = (two(bytes, next)?, two(bytes, next + 2)?);
        let len = usize::from(two(bytes, next + 8)?);
        let data = bytes.get(next + 10..next + 10 + len)?;
        let data = match what {
            ALIAS => name_at(bytes, next + 10)?.0,
            _ => data.to_vec(),
        };
        if class == INTERNET {
            records.push(Record { owner, what, data });
        }
        at = next + 10 + len;
    }
    Some(records)
}

/// Follows a name through those that it stands for, and returns the addresses of the last.
fn addresses(records: &[Record], mut name: Vec<u8>, wanted: u16) -> Vec<IpAddr> {
    for _ in 0..MAX_ALIASES {
        let mut aliases = records.iter();
        match aliases.find(|record| record.what == ALIAS && record.owner == name) {
            Some(alias) => name.clone_from(&alias.data),
            None => break,
        }
    }
    let own = records
        .iter()
        .filter(|record| record.what == wanted && record.owner == name);
    let found = own.filter_map(|record| address(&record.data));
    found.take(MAX_NAME_ADDRESSES).collect()
}

fn address(data: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(data).map(|four| IpAddr::V4(Ipv4Addr::from(four)));
    let six = || <[u8; 16]>::try_from(data).map(|six| IpAddr::V6(Ipv6Addr::from(six)));
    four.or_else(|_| six()).ok()
}

/// Reads a name, in small letters, and where what follows it begins.
fn name_at(bytes: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
    let mut name = Vec::new();
    let mut end = None;
    let mut jumps = 0;
    loop {
        let len = usize::from(*bytes.get(at)?);
        match len {
            0 => return Some((name, end.unwrap_or(at + 1))),
            1..=MAX_LABEL_BYTES => {
                let label = bytes.get(at + 1..at + 1 + len)?;
                name.extend(label.iter().map(u8::to_ascii_lowercase));
                name.push(b'.');
                at += 1 + len;
            }
            // The rest lies elsewhere.
            0xc0.. => {
                end.get_or_insert(at + 2);
                at = usize::from(two(bytes, at)? & 0x3fff);
                jumps += 1;
            }
            _ => return None,
        }
        if name.len() > MAX_NAME_BYTES || jumps > MAX_JUMPS {
            return None;
        }
    }
}

fn two(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at.checked_add(2)?)?;
    <[u8; 2]>::try_from(pair).ok().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with a code and records: an owner as bytes, a number, and data.
    fn reply(question: &[u8], flags: u16, records: &[(&[u8], u16, &[u8])]) -> Vec<u8> {
        let mut bytes = question.to_vec();
        bytes[2..4].copy_from_slice(&(0x8180 | flags).to_be_bytes());
        bytes[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
        for (owner, what, data) in records {
            bytes.extend_from_slice(owner);
            bytes.extend_from_slice(&what.to_be_bytes());
            bytes.extend_from_slice(&[0, 1, 0, 0, 0, 9]);
            bytes.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(data);
        }
        bytes
    }

    /// The name that was asked for.
    const ASKED: &[u8] = &[0xc0, 12];

    #[test]
    fn questions_are_those_of_names_alone() {
        let bytes = question(0x1234, "Db.test.", Kind::Six).unwrap();
        let mut wanted = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        wanted.extend_from_slice(b"\x02Db\x04test\0\0\x1c\0\x01");
        assert_eq!(bytes, wanted);
        let long = format!("{}.test", "a".repeat(64));
        let many = "abcdefgh.".repeat(30);
        for wrong in ["", ".", "a..b", "a b", "a\0", "\u{e9}.test", &long, &many] {
            assert_eq!(question(1, wrong, Kind::Four), None, "{wrong:?}");
        }
    }

    #[test]
    fn answers_give_the_addresses_of_what_was_asked_and_of_what_it_stands_for() {
        let asked = question(7, "app.test", Kind::Four).unwrap();
        let found = |bytes: &[u8]| answer(bytes, &asked);
        let one = reply(&asked, 0, &[(ASKED, 1, &[10, 0, 0, 7])]);
        let ten = IpAddr::from([10, 0, 0, 7]);
        assert_eq!(found(&one), Some(Reply::Found(vec![ten])));
        let alias = reply(
            &asked,
            0,
            &[
                (b"\x05other\x04TEST\0", 1, &[10, 0, 0, 7]),
                (b"\x05stray\x04test\0", 1, &[10, 0, 0, 8]),
                (ASKED, ALIAS, b"\x05Other\x04test\0"),
                (ASKED, 28, &[0; 16]),
            ],
        );
        assert_eq!(found(&alias), Some(Reply::Found(vec![ten])));
        assert_eq!(found(&reply(&asked, 0, &[])), Some(Reply::Found(vec![])));
        assert_eq!(found(&reply(&asked, 3, &[])), Some(Reply::NoSuchName));
        assert_eq!(found(&reply(&asked, 2, &[])), Some(Reply::Failed));
        assert_eq!(found(&reply(&asked, 0x200, &[])), Some(Reply::Truncated));
        let six = question(7, "app.test", Kind::Six).unwrap();
        let bytes = reply(&six, 0, &[(ASKED, 28, &[1; 16])]);
        let wanted = Reply::Found(vec![IpAddr::from([1; 16])]);
        assert_eq!(answer(&bytes, &six), Some(wanted));
    }

    #[test]
    fn what_is_no_answer_is_none_and_what_is_odd_holds_nobody_up() {
        let asked = question(7, "app.test", Kind::Four).unwrap();
        let good = reply(&asked, 0, &[(ASKED, 1, &[10, 0, 0, 7])]);
        for at in 0..asked.len() {
            assert_eq!(answer(&good[..at], &asked), None, "{at}");
        }
        let others = [
            question(8, "app.test", Kind::Four).unwrap(),
            question(7, "app.best", Kind::Four).unwrap(),
            question(7, "app.test", Kind::Six).unwrap(),
        ];
        for other in others {
            assert_eq!(answer(&good, &other), None);
        }
        // A question is no answer.
        assert_eq!(answer(&asked, &asked), None);
        let empty = Some(Reply::Found(vec![]));
        for at in asked.len()..good.len() {
            assert_eq!(answer(&good[..at], &asked), empty, "{at}");
        }
        // A name that leads to itself, and names that stand for each other.
        let mut circle = reply(&asked, 0, &[(&[0xc0, 0], 1, &[10, 0, 0, 7])]);
        let at = u8::try_from(asked.len()).unwrap();
        circle[asked.len() + 1] = at;
        assert_eq!(answer(&circle, &asked), empty);
        let mutual: [(&[u8], u16, &[u8]); 2] = [
            (ASKED, ALIAS, b"\x01b\0"),
            (b"\x01b\0", ALIAS, b"\x03app\x04test\0"),
        ];
        assert_eq!(answer(&reply(&asked, 0, &mutual), &asked), empty);
        let data = [10, 0, 0, 7];
        let one: (&[u8], u16, &[u8]) = (ASKED, 1, &data);
        let many = vec![one; MAX_NAME_RECORDS + 1];
        let Some(Reply::Found(found)) = answer(&reply(&asked, 0, &many), &asked) else {
            panic!("no answer");
        };
        assert_eq!(found.len(), MAX_NAME_ADDRESSES);
    }
}
