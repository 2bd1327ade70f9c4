//! What a repository has already of images that were published before: packs, and entries.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use super::entries::EarlierEntries;
use super::listed::{ListedTables, NotedTables};
use crate::digest::Digest;
use crate::limits::{MAX_EARLIER_CHUNKS, MAX_LISTED_TABLE_BYTES, MAX_PACKED_PACKS};
use crate::registry::{Client, RegistryRef};
use crate::source::packed::{
    NAME_ANNOTATION, PACK_BLOB, PACK_TABLES, PACKED_CONFIG, TABLES_ANNOTATION, inline_data,
};
use crate::source::{BlobDigest, PackBlob, START_ANNOTATION, TABLE_ANNOTATION};
use crate::transfer::TransferError;
use crate::transfer::lazy::{self, NotedTable};
use crate::transfer::remote::{OfRegistry, Origin};
use crate::transfer::table_room::TableRoom;

/// Tags that are looked at, if none is named and the own one leads to nothing of use.
const NEAR_TAGS: usize = 4;

/// Where images in packs are published: a repository of a registry, or a name in an object store.
pub(in crate::transfer) trait PackHome {
    /// Returns the tag that is pushed to.
    fn own_tag(&self) -> String;

    /// Lists the tags; none where there is nothing yet.
    fn tags(&self) -> Result<Vec<String>, TransferError>;

    /// Returns what a tag leads to.
    fn at(&self, tag: &str) -> Arc<dyn Origin>;
}

impl PackHome for (&Client, &RegistryRef) {
    fn own_tag(&self) -> String {
        self.1.tag().unwrap_or("latest").to_owned()
    }

    fn tags(&self) -> Result<Vec<String>, TransferError> {
        match self.0.tags(self.1) {
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            tags => Ok(tags?),
        }
    }

    fn at(&self, tag: &str) -> Arc<dyn Origin> {
        Arc::new(OfRegistry(self.0.clone(), self.1.tagged(tag)))
    }
}

/// A pack that is there.
#[derive(Debug)]
pub(super) struct EarlierPack {
    pub(super) blob: PackBlob,
    /// Its chunks in their order.
    pub(super) chunks: Vec<(Digest, u32)>,
}

impl EarlierPack {
    pub(super) fn bytes(&self) -> u64 {
        self.chunks.iter().map(|(_, len)| u64::from(*len)).sum()
    }
}

/// Finds what a push may name again: packs and entries of the image that the tag leads to, and of
/// those that `since` names; of tags that stand near in order, if there are none.
pub(super) fn find(
    home: &dyn PackHome,
    since: &[String],
) -> Result<(Vec<EarlierPack>, EarlierEntries), TransferError> {
    if let Some(wrong) = since.iter().find(|tag| !is_tag(tag)) {
        let what = format!("invalid tag {wrong:?}: expected letters, digits, `.`, `_` and `-`");
        return Err(TransferError::Place(what));
    }
    let mut found = EarlierPacks::default();
    let own = home.own_tag();
    found.take(home, &own)?;
    for tag in since {
        if !found.take(home, tag)? {
            let name = home.at(tag).name(None);
            let what = format!("{name}: there is no image in packs that could be built upon");
            return Err(TransferError::Place(what));
        }
    }
    if since.is_empty() && found.packs.is_empty() {
        for tag in near(&own, home.tags()?) {
            found.take(home, &tag)?;
        }
    }
    Ok((found.packs, found.entries))
}

struct EarlierPacks {
    packs: Vec<EarlierPack>,
    entries: EarlierEntries,
    seen: HashSet<BlobDigest>,
    names: HashSet<Digest>,
    chunks: usize,
    /// For tables of all images that are looked at.
    room: TableRoom,
}

impl Default for EarlierPacks {
    fn default() -> Self {
        Self {
            packs: Vec::new(),
            entries: EarlierEntries::default(),
            seen: HashSet::new(),
            names: HashSet::new(),
            chunks: 0,
            room: TableRoom::new(),
        }
    }
}

impl EarlierPacks {
    /// Fetches the tables that an image has together, if those of several packs are new. Where they are not
    /// as they should be, packs are asked for theirs.
    fn listed(
        &mut self,
        origin: &dyn Origin,
        packs: &[Option<PackBlob>],
        tables: Option<TablesBlob>,
    ) -> Result<ListedTables, TransferError> {
        let Some((digest, size, numbers, data)) = tables else {
            return Ok(ListedTables::default());
        };
        let inline = data.and_then(|data| inline_data((&digest, size), &data).ok());
        let noted = NotedTables {
            digest: &digest,
            size,
            packs: Some(&numbers),
            inline: inline.as_deref(),
        };
        let known = packs.iter().enumerate();
        let new = known.filter(|(_, pack)| {
            let pack = pack.as_ref();
            pack.is_some_and(|pack| !self.seen.contains(&pack.digest))
        });
        let wanted: HashSet<usize> = new.map(|(number, _)| number).collect();
        let listed = ListedTables::fetch(origin, &noted, &mut self.room, &wanted)?;
        Ok(listed.unwrap_or_else(|why| {
            tracing::warn!(blob = %digest, why, "tables that cannot be read");
            ListedTables::default()
        }))
    }

    /// Takes in the packs of an image; says whether there is one.
    fn take(&mut self, home: &dyn PackHome, tag: &str) -> Result<bool, TransferError> {
        let origin = home.at(tag);
        let manifest = match origin.top() {
            Err(error) if is_missing(&error) => return Ok(false),
            manifest => manifest?,
        };
        let value: Option<Value> = serde_json::from_slice(&manifest.bytes).ok();
        let read = value.and_then(|value| Some((packs_of(&value)?, value)));
        let Some(((packs, tables), value)) = read else {
            return Ok(false);
        };
        self.entries.take(&*origin, &value)?;
        let listed = self.listed(&*origin, &packs, tables)?;
        for mut blob in packs.into_iter().flatten() {
            let is_full = self.packs.len() >= MAX_PACKED_PACKS || self.chunks >= MAX_EARLIER_CHUNKS;
            if is_full || !self.seen.insert(blob.digest.clone()) {
                continue;
            }
            let noted = NotedTable {
                stated: Some(&blob.table),
                start: blob.start.as_deref(),
                size: blob.size,
            };
            let small = RefCell::new(None);
            let fetch = |range, asked| {
                let listed = listed.get(&noted).map(<[u8]>::to_vec);
                let far = || origin.range((&blob.digest, blob.size), range, asked);
                let bytes = listed.map_or_else(far, Ok)?;
                let is_small = bytes.len() <= MAX_LISTED_TABLE_BYTES;
                small.replace(is_small.then(|| bytes.clone()));
                Ok(bytes)
            };
            match lazy::read_table(&noted, &mut self.room, &fetch)? {
                // It is named by its digest: bytes that are right once are right for everybody.
                Ok((table, _))
                    if matches!(&*table.packs, [one] if one.name == blob.name)
                        && self.names.insert(blob.name) =>
                {
                    let chunks = table.chunks.iter().map(|chunk| (chunk.digest, chunk.len));
                    let chunks: Vec<_> = chunks.collect();
                    self.chunks += chunks.len();
                    blob.small_table = small.into_inner();
                    self.packs.push(EarlierPack { blob, chunks });
                }
                Ok(_) => tracing::warn!(pack = %blob.digest, "not the pack that it is said to be"),
                Err(why) => tracing::warn!(pack = %blob.digest, why, "a pack without its table"),
            }
        }
        Ok(true)
    }
}

/// A blob that has tables of packs together, which packs these are, and the blob itself if the manifest has it.
type TablesBlob = (BlobDigest, u64, String, Option<String>);

/// Returns whether there is nothing of a name.
pub(super) fn is_missing(error: &TransferError) -> bool {
    match error {
        TransferError::Registry(error) => error.is_not_found(),
        #[cfg(feature = "object")]
        TransferError::Object(error) => {
            matches!(error.kind(), crate::object::ObjectErrorKind::NotFound)
        }
        _ => false,
    }
}

/// Reads the packs of a manifest, and what has tables of them together; `None` if it is not of an image in
/// packs. What is not named as it should be is none: it is sent anew.
fn packs_of(value: &Value) -> Option<(Vec<Option<PackBlob>>, Option<TablesBlob>)> {
    let text = |value: &Value, key: &str| Some(value.get(key)?.as_str()?.to_owned());
    if text(value.get("config")?, "mediaType")? != PACKED_CONFIG {
        return None;
    }
    let pack = |one: &Value| {
        let notes = one.get("annotations")?;
        Some(PackBlob {
            digest: text(one, "digest")?.parse().ok()?,
            size: one.get("size")?.as_u64()?,
            name: text(notes, NAME_ANNOTATION)?.parse().ok()?,
            table: text(notes, TABLE_ANNOTATION)?,
            start: text(notes, START_ANNOTATION),
            small_table: None,
        })
    };
    let tables = |one: &Value| {
        let digest = text(one, "digest")?.parse().ok()?;
        let packs = text(one.get("annotations")?, TABLES_ANNOTATION)?;
        Some((digest, one.get("size")?.as_u64()?, packs, text(one, "data")))
    };
    let all = value.get("layers")?.as_array()?;
    let of_type = |wanted| {
        let is_one = move |one: &&Value| text(one, "mediaType").is_some_and(|it| it == wanted);
        all.iter().filter(is_one)
    };
    let listed = of_type(PACK_TABLES).next().and_then(tables);
    Some((of_type(PACK_BLOB).map(pack).collect(), listed))
}

/// Returns whether a text is a tag as registries have it: nothing else gets into an address.
fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_rest = |byte: u8| is_word(byte) || matches!(byte, b'.' | b'-');
    text.bytes().next().is_some_and(is_word) && text.bytes().all(is_rest) && text.len() <= 128
}

/// Chooses the tags that stand nearest to one, as people count: those before it first.
fn near(own: &str, mut tags: Vec<String>) -> Vec<String> {
    tags.retain(|tag| tag != own && is_tag(tag) && !BlobDigest::is_tag(tag));
    tags.sort_by(|one, other| by_number(one, other));
    let after = tags.partition_point(|tag| by_number(tag, own) == Ordering::Less);
    let (before, after) = tags.split_at(after);
    let nearest = before.iter().rev().take(NEAR_TAGS - 1);
    let mut near: Vec<String> = nearest.cloned().collect();
    near.extend(after.iter().take(NEAR_TAGS - near.len()).cloned());
    near
}

/// Compares texts with the numbers in them as numbers: `v9` stands before `v10`.
fn by_number(one: &str, other: &str) -> Ordering {
    parts(one).cmp(&parts(other)).then_with(|| one.cmp(other))
}

/// A stretch of a tag, which compares as people count.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum TagPart<'t> {
    /// Digits without zeros in front: how many, and which.
    Number(usize, &'t str),
    Text(&'t str),
}

fn parts(mut text: &str) -> Vec<TagPart<'_>> {
    let mut parts = Vec::new();
    while let Some(first) = text.chars().next() {
        let is_number = first.is_ascii_digit();
        let end = text.find(|next: char| next.is_ascii_digit() != is_number);
        let (own, rest) = text.split_at(end.unwrap_or(text.len()));
        parts.push(match is_number {
            true => {
                let digits = own.trim_start_matches('0');
                TagPart::Number(digits.len(), digits)
            }
            false => TagPart::Text(own),
        });
        text = rest;
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use serde_json::json;

    use super::*;
    use crate::image::Reference;
    use crate::registry::{BlobTarget, HostsAsked, Manifest};

    /// A place whose one image has one pack, which nobody may ask for.
    struct NotAsked;

    impl Origin for NotAsked {
        fn name(&self, _: Option<&BlobDigest>) -> String {
            "place/app:1".to_owned()
        }

        fn store_name(&self) -> Reference {
            Reference::Tag("app:1".to_owned())
        }

        fn top(&self) -> Result<Manifest, TransferError> {
            let manifest = json!({
                "config": {"mediaType": PACKED_CONFIG},
                "layers": [{
                    "mediaType": PACK_BLOB, "size": 100, "digest": BlobDigest::of(b"").as_str(),
                    "annotations": {
                        NAME_ANNOTATION: Digest::of(b"").to_string(),
                        TABLE_ANNOTATION: format!("10:90:{}", Digest::of(b"")),
                    },
                }],
            });
            let bytes = manifest.to_string().into_bytes();
            Ok(Manifest::new(BlobDigest::of(&bytes), String::new(), bytes))
        }

        fn document(&self, _: &BlobDigest) -> Result<Vec<u8>, TransferError> {
            unreachable!("a manifest is enough")
        }

        fn fetch(
            &self,
            _: (&BlobDigest, u64),
            _: &mut dyn BlobTarget,
            _: &mut dyn FnMut(u64) -> bool,
        ) -> Result<(), TransferError> {
            unreachable!("no pack is fetched whole")
        }

        fn range(
            &self,
            _: (&BlobDigest, u64),
            _: Range<u64>,
            _: HostsAsked,
        ) -> Result<Vec<u8>, TransferError> {
            Err(TransferError::Place("it was asked for".to_owned()))
        }
    }

    impl PackHome for NotAsked {
        fn own_tag(&self) -> String {
            "1".to_owned()
        }

        fn tags(&self) -> Result<Vec<String>, TransferError> {
            Ok(Vec::new())
        }

        fn at(&self, _: &str) -> Arc<dyn Origin> {
            Arc::new(Self)
        }
    }

    #[test]
    fn what_is_looked_at_of_earlier_packs_has_a_bound() {
        let mut found = EarlierPacks::default();
        assert!(found.take(&NotAsked, "1").is_err());
        let mut found = EarlierPacks {
            chunks: MAX_EARLIER_CHUNKS,
            ..EarlierPacks::default()
        };
        assert!(found.take(&NotAsked, "1").unwrap());
        assert!(found.packs.is_empty());
    }

    #[test]
    fn the_tags_before_are_the_nearest_as_people_count() {
        let tags = |list: &[&str]| list.iter().map(|tag| (*tag).to_owned()).collect();
        let all = tags(&["v1", "v10", "v2", "v9", "v11", "latest", "v100"]);
        assert_eq!(near("v10", all), ["v9", "v2", "v1", "v11"]);
        assert_eq!(near("1.10.0", tags(&["1.9.3", "1.10.0"])), ["1.9.3"]);
        let signature = format!("sha256-{}.sig", "0".repeat(64));
        let wrong = ["", "../2", "a/b", "-x", "2?n=1", &"9".repeat(129)];
        assert!(near("1", tags(&[&signature])).is_empty() && near("1", tags(&wrong)).is_empty());
        assert_eq!(
            near("1", tags(&["2", "3", "4", "5", "6"])),
            ["2", "3", "4", "5"]
        );
    }
}
