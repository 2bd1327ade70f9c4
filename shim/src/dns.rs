//! Questions to name servers and their answers.

use std::net::IpAddr;

use hickory_proto::op::{Header, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use crate::limits::{MAX_NAME_ADDRESSES, MAX_NAME_RECORDS};

/// Names that stand for others which are followed.
const MAX_ALIASES: usize = 16;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Addresses of version 4.
    Four,
    /// Addresses of version 6.
    Six,
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

/// A question for the addresses of a name.
#[derive(Debug)]
pub struct Question {
    id: u16,
    query: Query,
    /// As it is sent.
    pub bytes: Vec<u8>,
}

impl Question {
    /// Makes one, with a number that nobody guesses; `None` for what cannot be a host's name.
    #[must_use]
    pub fn new(name: &str, kind: Kind) -> Option<Self> {
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let labels = name.strip_suffix('.').unwrap_or(name).split('.');
        let labels = Name::from_labels(labels.map(str::as_bytes)).ok();
        let kind = match kind {
            Kind::Four => RecordType::A,
            Kind::Six => RecordType::AAAA,
        };
        let query = Query::query(labels.filter(|_| name.bytes().all(is_plain))?, kind);
        let mut message = Message::query();
        // Whoever is asked finds it out if it does not know.
        message.metadata.recursion_desired = true;
        message.add_query(query.clone());
        Some(Self {
            id: message.metadata.id,
            query,
            bytes: message.to_vec().ok()?,
        })
    }

    /// Reads what came; `None` if it is no answer to this.
    #[must_use]
    pub fn answer(&self, bytes: &[u8]) -> Option<Reply> {
        let mut decoder = BinDecoder::new(bytes);
        let header = Header::read(&mut decoder).ok()?;
        let echoed = Query::read(&mut decoder).ok()?;
        let is_answer = header.id == self.id
            && header.message_type == MessageType::Response
            && header.op_code == OpCode::Query
            && header.counts.queries == 1;
        if !is_answer || echoed != self.query {
            return None;
        }
        if header.truncation {
            return Some(Reply::Truncated);
        }
        match header.response_code {
            ResponseCode::NoError => {}
            ResponseCode::NXDomain => return Some(Reply::NoSuchName),
            _ => return Some(Reply::Failed),
        }
        let count = usize::from(header.counts.answers).min(MAX_NAME_RECORDS);
        let records = Message::read_records(&mut decoder, count, false, OpCode::Query);
        // What is no message is as good as none.
        let records = records.map_or_else(|_| Vec::new(), |(records, ..)| records);
        Some(Reply::Found(self.addresses(&records)))
    }

    /// Follows the name through those that it stands for, and returns the addresses of the last.
    fn addresses(&self, records: &[Record]) -> Vec<IpAddr> {
        let mut name = &self.query.name;
        for _ in 0..MAX_ALIASES {
            let mut aliases = of(records, name).filter_map(|record| match &record.data {
                RData::CNAME(alias) => Some(&alias.0),
                _ => None,
            });
            match aliases.next() {
                Some(alias) => name = alias,
                None => break,
            }
        }
        let own = of(records, name).filter(|record| record.record_type() == self.query.query_type);
        let found = own.filter_map(|record| record.data.ip_addr());
        found.take(MAX_NAME_ADDRESSES).collect()
    }
}

/// Returns the records of a name, whatever its case.
fn of<'r>(records: &'r [Record], name: &Name) -> impl Iterator<Item = &'r Record> {
    let of = move |record: &&Record| record.dns_class == DNSClass::IN && record.name == *name;
    records.iter().filter(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of a canonical name among kinds of records.
    const ALIAS: u16 = 5;

    /// The name that was asked for.
    const ASKED: &[u8] = &[0xc0, 12];

    /// A question of a number.
    fn question(id: u16, name: &str, kind: Kind) -> Question {
        let mut question = Question::new(name, kind).unwrap();
        question.id = id;
        question.bytes[..2].copy_from_slice(&id.to_be_bytes());
        question
    }

    /// An answer with a code and records: an owner as bytes, a number, and data.
    fn reply(question: &Question, flags: u16, records: &[(&[u8], u16, &[u8])]) -> Vec<u8> {
        let mut bytes = question.bytes.clone();
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

    #[test]
    fn questions_are_those_of_names_alone() {
        let mut wanted = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        wanted.extend_from_slice(b"\x02Db\x04test\0\0\x1c\0\x01");
        assert_eq!(question(0x1234, "Db.test.", Kind::Six).bytes, wanted);
        let one = Question::new("-_a", Kind::Four).unwrap();
        assert_eq!(one.bytes[..2], one.id.to_be_bytes());
        assert_eq!(one.bytes[12..], *b"\x03-_a\0\0\x01\0\x01");
        let long = format!("{}.test", "a".repeat(64));
        let many = "abcdefgh.".repeat(30);
        for wrong in ["", ".", "a..b", "a b", "a\0", "\u{e9}.test", &long, &many] {
            assert!(Question::new(wrong, Kind::Four).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn answers_give_the_addresses_of_what_was_asked_and_of_what_it_stands_for() {
        let asked = question(7, "app.test", Kind::Four);
        let found = |bytes: &[u8]| asked.answer(bytes);
        let one = reply(&asked, 0, &[(ASKED, 1, &[10, 0, 0, 7])]);
        let ten = IpAddr::from([10, 0, 0, 7]);
        assert_eq!(found(&one), Some(Reply::Found(vec![ten])));
        // Servers may say the name as they like it.
        let loud = [&one[..12], &one[12..].to_ascii_uppercase()].concat();
        assert_eq!(found(&loud), Some(Reply::Found(vec![ten])));
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
        let six = question(7, "app.test", Kind::Six);
        let bytes = reply(
            &six,
            0,
            &[(ASKED, 28, &[1; 16]), (ASKED, 1, &[10, 0, 0, 7])],
        );
        let wanted = Reply::Found(vec![IpAddr::from([1; 16])]);
        assert_eq!(six.answer(&bytes), Some(wanted));
    }

    #[test]
    fn invalid_answers_are_passed_over_and_odd_ones_hold_nobody_up() {
        let asked = question(7, "app.test", Kind::Four);
        let (asked_len, ours) = (asked.bytes.len(), [10, 0, 0, 7]);
        let good = reply(&asked, 0, &[(ASKED, 1, &ours)]);
        for at in 0..asked_len {
            assert_eq!(asked.answer(&good[..at]), None, "{at}");
        }
        let others = [
            question(8, "app.test", Kind::Four),
            question(7, "app.best", Kind::Four),
            question(7, "app.test", Kind::Six),
        ];
        for other in others {
            assert_eq!(other.answer(&good), None);
        }
        // A question is no answer, nor is one about more or of another kind.
        assert_eq!(asked.answer(&asked.bytes), None);
        for (at, byte) in [(5, 2), (5, 0), (2, 0x91)] {
            let mut other = good.clone();
            other[at] = byte;
            assert_eq!(asked.answer(&other), None, "{at}");
        }
        let empty = Some(Reply::Found(vec![]));
        for at in asked_len..good.len() {
            assert_eq!(asked.answer(&good[..at]), empty, "{at}");
        }
        // A name that leads to itself, and names that stand for each other.
        let mut circle = reply(&asked, 0, &[(&[0xc0, 0], 1, &ours)]);
        circle[asked_len + 1] = u8::try_from(asked_len).unwrap();
        assert_eq!(asked.answer(&circle), empty);
        let mutual: [(&[u8], u16, &[u8]); 2] = [
            (ASKED, ALIAS, b"\x01b\0"),
            (b"\x01b\0", ALIAS, b"\x03app\x04test\0"),
        ];
        assert_eq!(asked.answer(&reply(&asked, 0, &mutual)), empty);
        // One of another class is none of ours.
        let mut chaos = good.clone();
        chaos[asked_len + 5] = 3;
        assert_eq!(asked.answer(&chaos), empty);
        let one: (&[u8], u16, &[u8]) = (ASKED, 1, &ours);
        let many = vec![one; MAX_NAME_RECORDS + 1];
        let Some(Reply::Found(found)) = asked.answer(&reply(&asked, 0, &many)) else {
            panic!("no answer");
        };
        assert_eq!(found.len(), MAX_NAME_ADDRESSES);
    }

    #[test]
    fn no_bytes_of_a_server_end_the_process() {
        let asked = question(7, "app.test", Kind::Four);
        let records: [(&[u8], u16, &[u8]); 3] = [
            (ASKED, ALIAS, b"\x05other\xc0\x10"),
            (ASKED, 64, &[0, 1, 0, 0, 1, 0, 3, 2, b'h', b'2']),
            (b"\x05other\xc0\x10", 1, &[10, 0, 0, 7]),
        ];
        let good = reply(&asked, 0, &records);
        for at in asked.bytes.len()..good.len() {
            for byte in 0..=255 {
                let mut changed = good.clone();
                changed[at] = byte;
                assert!(
                    matches!(asked.answer(&changed), Some(Reply::Found(_))),
                    "{at}: {byte}"
                );
            }
        }
    }
}
