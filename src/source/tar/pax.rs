//! PAX extended headers: records of `LENGTH KEY=VALUE\n`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fields;
use crate::limits::MAX_XATTR_BYTES;
use crate::meta::{Time, Xattrs};

/// A field of an extended header. An empty value takes back what a global
/// header said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::source) enum Field<T> {
    #[default]
    Absent,
    Emptied,
    Set(T),
}

impl<T: Clone> Field<T> {
    /// Returns the value, or that of the global header.
    pub(super) fn or<'a>(&'a self, global: &'a Self) -> Option<&'a T> {
        match (self, global) {
            (Self::Set(value), _) | (Self::Absent, Self::Set(value)) => Some(value),
            _ => None,
        }
    }

    pub(in crate::source) fn get(&self) -> Option<&T> {
        self.or(&Self::Absent)
    }

    fn read(value: &[u8], parse: impl FnOnce(&[u8]) -> Option<T>) -> Result<Self, &'static str> {
        if value.is_empty() {
            return Ok(Self::Emptied);
        }
        parse(value)
            .map(Self::Set)
            .ok_or("a value of its extended header is not a number")
    }

    fn update(&mut self, newer: Self) {
        if !matches!(newer, Self::Absent) {
            *self = newer;
        }
    }
}

/// What an extended header says, as far as it matters here. Names of owners
/// mean nothing without the machine they come from; other records are for
/// other readers.
#[derive(Clone, Debug, Default)]
pub(in crate::source) struct PaxRecords {
    pub(in crate::source) path: Field<Vec<u8>>,
    pub(in crate::source) linkpath: Field<Vec<u8>>,
    pub(in crate::source) size: Field<u64>,
    pub(super) uid: Field<u32>,
    pub(super) gid: Field<u32>,
    pub(super) mtime: Field<Time>,
    xattrs: PaxAttributes,
    pub(super) sparse: SparseKeys,
}

/// Extended attributes by name, with a bound on all of them.
#[derive(Clone, Debug, Default)]
struct PaxAttributes {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
    /// Those of a global header, as each entry without its own has them.
    shared: Option<Arc<Xattrs>>,
}

impl PaxAttributes {
    fn insert(&mut self, name: Vec<u8>, value: Vec<u8>) -> Result<(), &'static str> {
        self.bytes += name.len() + value.len();
        let len = name.len();
        if let Some(before) = self.values.insert(name, value) {
            self.bytes -= len + before.len();
        }
        if self.bytes > MAX_XATTR_BYTES {
            return Err("its extended attributes are too large");
        }
        Ok(())
    }
}

/// The records of GNU's sparse formats 0.0, 0.1 and 1.0.
#[derive(Clone, Debug, Default)]
pub(super) struct SparseKeys {
    pub(super) major: Field<u64>,
    pub(super) minor: Field<u64>,
    pub(super) name: Field<Vec<u8>>,
    /// `size` of 0.x, `realsize` of 1.0.
    pub(super) size: Field<u64>,
    pub(super) count: Field<u64>,
    pub(super) map: Option<Vec<(u64, u64)>>,
    /// An offset of format 0.0 whose length is to follow.
    offset: Option<u64>,
    any: bool,
}

impl SparseKeys {
    pub(super) fn any(&self) -> bool {
        self.any
    }

    fn segment(&mut self, offset: u64, len: u64) {
        self.map.get_or_insert_default().push((offset, len));
    }
}

/// What is said of an archive that is not whole.
pub(super) const SEVERAL_VOLUMES: &str = "it is part of an archive in several volumes, which has \
    to be made one first (`tar -xMf` all volumes, then `tar -cf` one)";

/// Reads the records of an `x` or `g` header. Anything that is not a record
/// is an error: skipping it would hide an entry's true name or size.
pub(in crate::source) fn parse(mut data: &[u8]) -> Result<PaxRecords, &'static str> {
    let mut records = PaxRecords::default();
    while !data.is_empty() {
        let (record, rest) = split_record(data)?;
        let equals = record.iter().position(|byte| *byte == b'=');
        let (key, value) =
            record.split_at(equals.ok_or("a record of its extended header has no `=`")?);
        if key.is_empty() {
            return Err("a record of its extended header has no key");
        }
        take_record(&mut records, key, value.get(1..).unwrap_or_default())?;
        data = rest;
    }
    if records.sparse.offset.is_some() {
        return Err("its sparse map ends with an offset");
    }
    Ok(records)
}

/// Splits off `KEY=VALUE` of the first record.
fn split_record(data: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    const BAD_LENGTH: &str = "a record of its extended header has a bad length";
    // Twenty digits hold any length.
    let space = data
        .iter()
        .take(21)
        .position(|byte| *byte == b' ')
        .ok_or(BAD_LENGTH)?;
    let stated = fields::decimal(data.get(..space).unwrap_or_default()).ok_or(BAD_LENGTH)?;
    let len = usize::try_from(stated).map_err(|_| BAD_LENGTH)?;
    let (record, rest) = data.split_at_checked(len).ok_or(BAD_LENGTH)?;
    let body = record.get(space + 1..).ok_or(BAD_LENGTH)?;
    let body = body
        .strip_suffix(b"\n")
        .ok_or("a record of its extended header has no newline at its end")?;
    Ok((body, rest))
}

fn take_record(records: &mut PaxRecords, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
    let text = |value: &[u8]| Field::read(value, |value| Some(value.to_vec()));
    match key {
        b"path" => records.path = text(value)?,
        b"linkpath" => records.linkpath = text(value)?,
        b"size" => records.size = Field::read(value, size)?,
        b"uid" => records.uid = Field::read(value, fields::pax_id)?,
        b"gid" => records.gid = Field::read(value, fields::pax_id)?,
        b"mtime" => records.mtime = Field::read(value, fields::pax_time)?,
        b"hdrcharset" => match value {
            b"" | b"BINARY" | b"ISO-IR 10646 2000 UTF-8" => {}
            _ => return Err("its extended header is in an unknown character set"),
        },
        _ => {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                return records
                    .xattrs
                    .insert(decode_xattr_name(name), value.to_vec());
            }
            if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                records.sparse.any = true;
                return take_sparse(&mut records.sparse, key, value);
            }
            if key.starts_with(b"GNU.volume.") {
                return Err(SEVERAL_VOLUMES);
            }
        }
    }
    Ok(())
}

/// Undoes what GNU tar does for names with `=` and `%`.
fn decode_xattr_name(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match rest.get(..3) {
            Some(b"%3D") => (b'=', rest.get(3..)),
            Some(b"%25") => (b'%', rest.get(3..)),
            _ => (*first, Some(after)),
        };
        out.push(byte);
        rest = after.unwrap_or_default();
    }
    out
}

fn take_sparse(sparse: &mut SparseKeys, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
    const BAD_MAP: &str = "its sparse map is damaged";
    let number = |value| fields::decimal(value).ok_or(BAD_MAP);
    match key {
        b"major" => sparse.major = Field::read(value, fields::decimal)?,
        b"minor" => sparse.minor = Field::read(value, fields::decimal)?,
        b"name" => sparse.name = Field::read(value, |value| Some(value.to_vec()))?,
        b"size" | b"realsize" => sparse.size = Field::read(value, fields::decimal)?,
        b"numblocks" => sparse.count = Field::read(value, fields::decimal)?,
        b"offset" => {
            if sparse.offset.replace(number(value)?).is_some() {
                return Err(BAD_MAP);
            }
        }
        b"numbytes" => {
            let offset = sparse.offset.take().ok_or(BAD_MAP)?;
            sparse.segment(offset, number(value)?);
        }
        b"map" => {
            if sparse.map.is_some() {
                return Err(BAD_MAP);
            }
            let numbers: Vec<&[u8]> = value.split(|byte| *byte == b',').collect();
            for pair in numbers.chunks(2) {
                let [offset, len] = pair else {
                    return Err(BAD_MAP);
                };
                sparse.segment(number(offset)?, number(len)?);
            }
        }
        _ => return Err("it is in an unknown sparse format"),
    }
    Ok(())
}

fn size(value: &[u8]) -> Option<u64> {
    fields::decimal(value).filter(|size| *size <= i64::MAX.unsigned_abs())
}

impl PaxRecords {
    /// Adds a global header to those before it.
    pub(super) fn add_global(&mut self, newer: Self) -> Result<(), &'static str> {
        let fixed = [newer.path.get().is_some(), newer.linkpath.get().is_some()];
        if fixed.contains(&true) || newer.size.get().is_some() || newer.sparse.any {
            return Err("a global header gives all entries one path, size or sparse map");
        }
        self.uid.update(newer.uid);
        self.gid.update(newer.gid);
        self.mtime.update(newer.mtime);
        for (name, value) in newer.xattrs.values {
            self.xattrs.insert(name, value)?;
        }
        self.xattrs.shared = collected(self.xattrs.values.clone());
        Ok(())
    }

    /// Returns the attributes, with those of the global header that the
    /// entry's own leave. What the global header alone says is held once.
    pub(super) fn xattrs_over(&self, global: &Self) -> Option<Arc<Xattrs>> {
        if self.xattrs.values.is_empty() {
            return global.xattrs.shared.clone();
        }
        let mut all = global.xattrs.values.clone();
        all.extend(self.xattrs.values.clone());
        collected(all)
    }
}

/// The attributes in the form that layers have, `None` without any.
fn collected(values: BTreeMap<Vec<u8>, Vec<u8>>) -> Option<Arc<Xattrs>> {
    let pairs = values.into_iter();
    let all: Xattrs = pairs
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    (!all.is_empty()).then(|| Arc::new(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_c1_28_every_byte_belongs_to_a_record() {
        let path = |data: &[u8]| parse(data).map(|records| records.path);
        assert_eq!(path(b"10 path=a\n"), Ok(Field::Set(b"a".to_vec())));
        assert_eq!(
            path(b"10 path=a\n10 path=b\n"),
            Ok(Field::Set(b"b".to_vec()))
        );
        assert_eq!(path(b"12 path=a=\n\n"), Ok(Field::Set(b"a=\n".to_vec())));
        assert_eq!(
            path(b"9 path=\n"),
            Err("a record of its extended header has a bad length")
        );
        assert_eq!(path(b"8 path=\n"), Ok(Field::Emptied));
        assert_eq!(path(b"011 path=a\n"), path(b"10 path=a\n"));
        for bad in [
            &b"11 path=a\n"[..],
            b"8 path=a\n",
            b"10 path=a",
            b"10 path=aX",
            b"x path=a\n",
            b"-1 path=a\n",
            b"+10 path=a\n",
            b" 10 path=a\n",
            b"0 ",
            b"3 \n",
            b"99999999999999999999 path=a\n",
            b"99999999999999999999999 path=a\n",
            b"7 path\n",
            b"5 =a\n",
            b"10 path=a\n\0",
            b"15 path=a\n10 path=b\n",
            b"11 size=1x\n",
            b"11 size=-1\n",
            b"27 size=9223372036854775808\n",
            b"14 mtime=1x3\n",
            b"12 size=5e0\n",
            b"12 uid=1.5\n",
            b"19 hdrcharset=KOI\n",
        ] {
            assert!(parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn names_of_attributes_are_decoded_as_gnu_tar_writes_them() {
        assert_eq!(decode_xattr_name(b"user.a%3Db%25c%41"), b"user.a=b%c%41");
    }

    #[test]
    fn sparse_maps_are_pairs() {
        let map = |text: &str| {
            let body = format!(" GNU.sparse.{text}\n");
            let len = body.len() + 2;
            parse(format!("{len}{body}").as_bytes()).map(|records| records.sparse.map)
        };
        assert_eq!(map("map=0,1,5,2"), Ok(Some(vec![(0, 1), (5, 2)])));
        for bad in [
            "map=0",
            "map=0,1,5",
            "map=0,,1,2",
            "map=-1,2",
            "offset=1",
            "numbytes=1",
            "what=1",
        ] {
            assert!(map(bad).is_err(), "{bad}");
        }
    }
}
