//! The fields of a header block.

use ::tar::Header;

use crate::meta::Time;

/// Uids and gids that do not fit, negative ones too.
const ID_OUT_OF_RANGE: u32 = u32::MAX;

/// A field up to its NUL, or all of it.
pub(in crate::source) fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Checks the sum over the header. Old archives summed signed bytes.
pub(super) fn checksum_holds(header: &Header) -> bool {
    let Some(stated) = number(&header.as_old().cksum) else {
        return false;
    };
    let bytes = header.as_bytes();
    let counted = || {
        // The field counts as spaces itself.
        let sum = |from: &[u8]| from.iter().map(|byte| i128::from(*byte)).sum::<i128>();
        let (head, rest) = bytes.split_at(148);
        let tail = rest.get(8..).unwrap_or_default();
        let high = head.iter().chain(tail).filter(|byte| **byte > 127).count() as i128;
        let unsigned = sum(head) + sum(tail) + 8 * 32;
        [unsigned, unsigned - 256 * high]
    };
    counted().contains(&stated)
}

/// Reads a number: octal digits between blanks, or base 256 where the first
/// bit is set. `None` for anything else.
pub(super) fn number(field: &[u8]) -> Option<i128> {
    match field {
        [first, rest @ ..] if first & 0x80 != 0 => base256(*first, rest),
        _ => octal(field),
    }
}

fn base256(first: u8, rest: &[u8]) -> Option<i128> {
    // Two's complement; the bit under the mark is the sign.
    let negative = first & 0x40 != 0;
    let mut value = if negative { -1 } else { 0_i128 };
    let first = if negative { first | 0x80 } else { first & 0x3f };
    value = (value << 8) | i128::from(first);
    for byte in rest {
        // 12 bytes at most: 96 bits.
        value = (value << 8) | i128::from(*byte);
    }
    Some(value)
}

fn octal(field: &[u8]) -> Option<i128> {
    let digits = field.trim_ascii_start();
    if digits.first() == Some(&0) {
        // Unused: nothing may follow.
        return digits.iter().all(|byte| *byte == 0).then_some(0);
    }
    text(digits)
        .trim_ascii_end()
        .iter()
        .try_fold(0, |value: i128, byte| match byte {
            b'0'..=b'7' => Some(value * 8 + i128::from(byte - b'0')),
            _ => None,
        })
}

/// Reads a size: not negative, at most `i64::MAX`.
pub(super) fn size(field: &[u8]) -> Option<u64> {
    let size = i64::try_from(number(field)?).ok()?;
    u64::try_from(size).ok()
}

/// Reads the size that a header gives.
#[cfg(feature = "oci")]
pub(in crate::source) fn size_of(header: &Header) -> Option<u64> {
    size(&header.as_old().size)
}

/// Reads a uid or gid. What does not fit becomes `u32::MAX`.
pub(super) fn id(field: &[u8]) -> Option<u32> {
    number(field).map(|id| u32::try_from(id).unwrap_or(ID_OUT_OF_RANGE))
}

/// Reads a uid or gid of a PAX record.
pub(super) fn pax_id(value: &[u8]) -> Option<u32> {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    let negative = digits.len() < value.len();
    let id = decimal_saturating(digits)?;
    let fitting = u32::try_from(id).ok().filter(|_| !negative);
    Some(fitting.unwrap_or(ID_OUT_OF_RANGE))
}

/// Reads a time in whole seconds. What does not fit is clamped.
pub(super) fn time(field: &[u8]) -> Option<Time> {
    let secs = number(field)?;
    let clamped = secs.clamp(i64::MIN.into(), i64::MAX.into());
    Some(Time::new(i64::try_from(clamped).unwrap_or(0), 0))
}

/// Reads the time of a PAX record: decimal seconds, with sign, fraction and
/// exponent (`5e-05`), as Python writes small ones. What a [`Time`] cannot hold
/// is clamped, digits past nanoseconds dropped.
pub(super) fn pax_time(value: &[u8]) -> Option<Time> {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    let negative = digits.len() < value.len();
    let number = Decimal::read(digits)?;
    Some(signed_time(negative, number.whole(), number.nanos()))
}

/// A decimal number: its digits, and where among them the point is.
struct Decimal<'a> {
    whole: &'a [u8],
    fraction: &'a [u8],
    /// Digits that come before the point: more than there are, or less than
    /// none, if zeros stand between.
    point: i64,
}

impl<'a> Decimal<'a> {
    /// Reads digits, a fraction, an exponent: there is a digit before the point.
    fn read(text: &'a [u8]) -> Option<Self> {
        let (mantissa, exponent) = match text.iter().position(|byte| matches!(byte, b'e' | b'E')) {
            Some(at) => (text.get(..at)?, exponent(text.get(at + 1..)?)?),
            None => (text, 0),
        };
        let (whole, fraction) = match mantissa.iter().position(|byte| *byte == b'.') {
            Some(dot) => (mantissa.get(..dot)?, mantissa.get(dot + 1..)?),
            None => (mantissa, &b""[..]),
        };
        let all_digits = |digits: &[u8]| digits.iter().all(u8::is_ascii_digit);
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let point = i64::try_from(whole.len()).ok()? + exponent;
        Some(Self {
            whole,
            fraction,
            point,
        })
    }

    /// The digit that stands `at` places behind the first one.
    fn digit(&self, at: i64) -> u64 {
        let digit = usize::try_from(at).ok().and_then(|at| {
            let behind = at.checked_sub(self.whole.len());
            behind.map_or_else(|| self.whole.get(at), |at| self.fraction.get(at))
        });
        digit.map_or(0, |digit| u64::from(digit - b'0'))
    }

    /// What stands before the point; `u64::MAX` for what is larger.
    fn whole(&self) -> u64 {
        let len = self.whole.len() + self.fraction.len();
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        let mut value = 0_u64;
        for at in 0..self.point.min(len) {
            value = value.saturating_mul(10).saturating_add(self.digit(at));
        }
        // Zeros that no digit was written for; twenty of them are too many for all but 0.
        for _ in 0..(self.point - len).clamp(0, 20) {
            value = value.saturating_mul(10);
        }
        value
    }

    /// The nanoseconds behind the point.
    fn nanos(&self) -> u32 {
        let places = self.point..self.point.saturating_add(9);
        let nanos = places.fold(0, |nanos, at| nanos * 10 + self.digit(at));
        // Nine digits.
        u32::try_from(nanos).unwrap_or(0)
    }
}

/// Reads an exponent. A thousand places are as good as any more.
fn exponent(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+"));
    let digits = digits.unwrap_or(text);
    let places = i64::try_from(decimal_saturating(digits)?.min(1000)).ok()?;
    Some(if text.starts_with(b"-") {
        -places
    } else {
        places
    })
}

fn signed_time(negative: bool, secs: u64, nanos: u32) -> Time {
    let too_far = 1 << 63;
    match (negative, nanos) {
        (false, _) if secs >= too_far => Time::new(i64::MAX, 999_999_999),
        (false, _) => Time::new(secs.cast_signed(), nanos),
        (true, 0) if secs <= too_far => Time::new(0_i64.wrapping_sub_unsigned(secs), 0),
        (true, _) if secs >= too_far => Time::new(i64::MIN, 0),
        // Seconds are rounded down, so that the fraction counts up.
        (true, _) => Time::new(-secs.cast_signed() - 1, 1_000_000_000 - nanos),
    }
}

/// Reads decimal digits alone, at least one.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    let first = digits.first()?;
    if !first.is_ascii_digit() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

fn decimal_saturating(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(decimal(digits).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_c1_32_numbers_are_octal_or_base_256_and_nothing_else() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"77777777"), Some(0o77_777_777));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"        "), Some(0));
        for bad in [
            &b"64x4\0"[..],
            b"9\0",
            b"-1\0",
            b"1 2\0",
            b"\x0012",
            b"+5\0",
            b"0x5\0",
        ] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
        assert_eq!(number(b"12\0garbage"), Some(0o12));
        assert_eq!(number(&[0x80, 0, 0, 1, 0]), Some(65536 / 256));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(size(&[0xff; 12]), None);
        let mut largest = [0xff; 12];
        largest[..5].copy_from_slice(&[0x80, 0, 0, 0, 0x7f]);
        assert_eq!(size(&largest), Some(i64::MAX.unsigned_abs()));
        largest[4] = 0x80;
        assert_eq!(size(&largest), None);
    }

    #[test]
    fn case_c1_42_ids_and_times_are_clamped() {
        assert_eq!(id(&[0x80, 0, 0, 1, 0, 0, 0, 0]), Some(u32::MAX));
        assert_eq!(id(&[0xff; 8]), Some(u32::MAX));
        assert_eq!(pax_id(b"4294967296"), Some(u32::MAX));
        assert_eq!(pax_id(b"4294967294"), Some(u32::MAX - 1));
        assert_eq!(
            (pax_id(b"-1"), pax_id(b"x"), pax_id(b"")),
            (Some(u32::MAX), None, None)
        );
        assert_eq!(pax_time(b"1.5"), Some(Time::new(1, 500_000_000)));
        assert_eq!(pax_time(b"-1.5"), Some(Time::new(-2, 500_000_000)));
        assert_eq!(pax_time(b"-0.25"), Some(Time::new(-1, 750_000_000)));
        assert_eq!(pax_time(b"7."), Some(Time::new(7, 0)));
        assert_eq!(pax_time(b"1.1234567899"), Some(Time::new(1, 123_456_789)));
        assert_eq!(
            pax_time(b"9223372036854775808"),
            Some(Time::new(i64::MAX, 999_999_999))
        );
        assert_eq!(
            pax_time(b"-9223372036854775808"),
            Some(Time::new(i64::MIN, 0))
        );
        assert_eq!(
            pax_time(b"-99999999999999999999.5"),
            Some(Time::new(i64::MIN, 0))
        );
        for (text, time) in [
            (&b"5e-05"[..], Time::new(0, 50_000)),
            (b"-5E-05", Time::new(-1, 999_950_000)),
            (b"1.5e3", Time::new(1500, 0)),
            (b"1e+3", Time::new(1000, 0)),
            (b"123456789e-4", Time::new(12_345, 678_900_000)),
            (b"1e-99999999999999999999", Time::new(0, 0)),
            (b"1e99999999999999999999", Time::new(i64::MAX, 999_999_999)),
            (b"-1e400", Time::new(i64::MIN, 0)),
            (b"0e400", Time::new(0, 0)),
        ] {
            let shown = String::from_utf8_lossy(text);
            assert_eq!(pax_time(text), Some(time), "{shown}");
        }
        for bad in [
            &b""[..],
            b".5",
            b"1e",
            b"1e-",
            b"1e1.5",
            b"1e 3",
            b"1e3e3",
            b"e3",
            b"nan",
            b"inf",
            b"0x1p3",
            b"1.x",
            b"--1",
            b" 1",
            b"1.-5",
        ] {
            assert_eq!(pax_time(bad), None, "{bad:?}");
        }
        assert_eq!(
            time(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            Some(Time::new(i64::MAX, 0))
        );
        assert_eq!(time(&[0xff; 12]), Some(Time::new(-1, 0)));
    }
}
