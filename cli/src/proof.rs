//! That no instance holds what another wrote.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use memchr::memmem;
use serde::Serialize;
use stratafs::chunk::{ChunkPool, Content};
use stratafs::layer::EntryBody;
use stratafs::runner::RunReport;

use super::failure::Failure;

/// What the demo's guest writes before its number, wherever it leaves a mark.
const MARK: &[u8] = b"stratafs-marker-";

/// What looking through everything that every instance changed has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Proof {
    /// Instances looked through.
    pub(super) instances: u64,
    /// Of these, the ones that hold marks of their own.
    pub(super) with_own_marks: u64,
    /// Files and names looked through.
    pub(super) entries: u64,
    /// Marks of an instance found with that instance.
    pub(super) own_marks: u64,
    /// Marks of an instance found with another.
    pub(super) foreign_marks: u64,
}

/// Looks for marks in all that the instances of a run changed: in names, and
/// in the bytes of new, changed and moved files.
pub(super) fn prove(report: &RunReport, pool: &ChunkPool) -> Result<Proof, Failure> {
    let mut proof = Proof::default();
    // What a moved directory holds is the same in each instance.
    let mut known = HashMap::new();
    for (instance, fs) in (0_u64..).zip(&report.file_systems) {
        let own = proof.own_marks;
        let layer = fs.diff(pool)?;
        for entry in layer.entries() {
            proof.entries += 1;
            proof.count(&marks(entry.path.to_string().as_bytes()), instance);
            if let EntryBody::File { content, .. } = entry.body {
                let found = known.entry(content.digest());
                let found = match found {
                    Entry::Occupied(found) => found.into_mut(),
                    Entry::Vacant(new) => new.insert(marks(&bytes_of(content)?)),
                };
                proof.count(found, instance);
            }
        }
        proof.instances += 1;
        proof.with_own_marks += u64::from(proof.own_marks > own);
    }
    Ok(proof)
}

impl Proof {
    /// Returns whether every instance left its marks, and none elsewhere.
    pub(super) fn holds(&self) -> bool {
        self.foreign_marks == 0 && self.with_own_marks == self.instances
    }

    fn count(&mut self, marks: &[Option<u64>], instance: u64) {
        let own = marks.iter().filter(|mark| **mark == Some(instance)).count();
        self.own_marks += own as u64;
        self.foreign_marks += (marks.len() - own) as u64;
    }
}

/// Returns whose marks are in `bytes`; `None` for one without a number.
fn marks(bytes: &[u8]) -> Vec<Option<u64>> {
    let found = memmem::find_iter(bytes, MARK);
    found
        .map(|at| number(bytes.get(at + MARK.len()..)?))
        .collect()
}

/// Reads the number at the start of `bytes`.
fn number(bytes: &[u8]) -> Option<u64> {
    let end = bytes
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(bytes.len());
    std::str::from_utf8(bytes.get(..end)?).ok()?.parse().ok()
}

fn bytes_of(content: &Content) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![0; usize::try_from(content.size()).unwrap_or(0)];
    content.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_told_apart_by_number() {
        let text = b"stratafs-marker-1 stratafs-marker-12\nstratafs-marker-1 stratafs-marker-";
        let found = marks(text);
        assert_eq!(found, [Some(1), Some(12), Some(1), None]);
        let mut proof = Proof {
            instances: 1,
            with_own_marks: 1,
            ..Proof::default()
        };
        proof.count(&found[..1], 1);
        assert!(proof.holds());
        proof.count(&found, 1);
        assert_eq!((proof.own_marks, proof.foreign_marks), (3, 2));
        assert!(!proof.holds());
        assert!(marks(b"stratafs-marke").is_empty());
    }

    #[test]
    fn an_instance_without_marks_proves_nothing() {
        assert!(
            !Proof {
                instances: 1,
                ..Proof::default()
            }
            .holds()
        );
    }
}
