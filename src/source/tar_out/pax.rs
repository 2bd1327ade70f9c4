//! Records of a PAX header.

use crate::meta::Time;

/// Text without PAX's own record is UTF-8 to a reader.
const BINARY: &[u8] = b"BINARY";

#[derive(Default)]
pub(super) struct PaxHeader {
    out: Vec<u8>,
    binary: bool,
}

impl PaxHeader {
    /// Adds a path. Bytes that are no UTF-8 are announced as such.
    pub(super) fn text(&mut self, key: &str, value: &[u8]) {
        self.binary |= std::str::from_utf8(value).is_err();
        record(&mut self.out, key.as_bytes(), value);
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        record(&mut self.out, key.as_bytes(), value.to_string().as_bytes());
    }

    pub(super) fn time(&mut self, key: &str, time: Time) {
        record(&mut self.out, key.as_bytes(), decimal(time).as_bytes());
    }

    /// Adds an extended attribute. `=` and `%` in its name are written as GNU
    /// tar does it, since the first `=` ends the key.
    pub(super) fn xattr(&mut self, name: &[u8], value: &[u8]) {
        let mut key = b"SCHILY.xattr.".to_vec();
        for byte in name {
            match byte {
                b'=' => key.extend_from_slice(b"%3D"),
                b'%' => key.extend_from_slice(b"%25"),
                _ => key.push(*byte),
            }
        }
        record(&mut self.out, &key, value);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.binary {
            record(&mut out, b"hdrcharset", BINARY);
        }
        out.extend_from_slice(&self.out);
        out
    }
}

/// Writes `LENGTH KEY=VALUE\n`; the length counts its own digits.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    out.extend_from_slice(len.to_string().as_bytes());
    for part in [b" ", key, b"=", value, b"\n"] {
        out.extend_from_slice(part);
    }
}

/// Decimal seconds: sign and magnitude, as few digits as tell the time.
fn decimal(time: Time) -> String {
    let (secs, nanos) = (time.secs(), time.nanos());
    let (sign, secs, nanos) = match (secs < 0, nanos) {
        (false, _) => ("", secs.unsigned_abs(), nanos),
        (true, 0) => ("-", secs.unsigned_abs(), 0),
        (true, _) => ("-", secs.unsigned_abs() - 1, 1_000_000_000 - nanos),
    };
    let fraction = format!(".{nanos:09}");
    format!(
        "{sign}{secs}{}",
        fraction.trim_end_matches('0').trim_end_matches('.')
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_itself() {
        for len in 0..1200 {
            let mut out = Vec::new();
            record(&mut out, b"path", &vec![b'x'; len]);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.split(' ').next(), Some(&*text.len().to_string()));
        }
    }

    #[test]
    fn times_are_sign_and_magnitude() {
        assert_eq!(decimal(Time::new(1, 500_000_000)), "1.5");
        assert_eq!(decimal(Time::new(-1, 500_000_000)), "-0.5");
        assert_eq!(decimal(Time::new(-2, 1)), "-1.999999999");
        assert_eq!(decimal(Time::new(10, 0)), "10");
        assert_eq!(decimal(Time::new(i64::MIN, 0)), "-9223372036854775808");
    }
}
