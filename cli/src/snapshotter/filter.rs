//! containerd's filters: `kind==active`, `labels."a.b"!=c`, `parent`, joined by commas.

use tonic::Status;

use super::record::SnapshotRecord;
use crate::limits::MAX_FILTER_BYTES;

/// All of its conditions have to hold.
pub(super) struct Filter(Vec<Condition>);

struct Condition {
    field: Vec<String>,
    test: FilterTest,
}

enum FilterTest {
    Present,
    Is(String),
    IsNot(String),
}

impl Filter {
    /// Reads one.
    pub(super) fn parse(text: &str) -> Result<Self, Status> {
        let wrong = |what: &str| Status::invalid_argument(format!("filter {text:?}: {what}"));
        if text.len() > MAX_FILTER_BYTES {
            let what = format!("filter: more than {MAX_FILTER_BYTES} bytes");
            return Err(Status::invalid_argument(what));
        }
        let mut rest = text.trim();
        let mut conditions = Vec::new();
        while !rest.is_empty() {
            conditions.push(condition(&mut rest).map_err(|what| wrong(&what))?);
            rest = match rest.strip_prefix(',') {
                Some("") => return Err(wrong("it ends with a comma")),
                Some(next) => next,
                None if rest.is_empty() => rest,
                None => return Err(wrong("expected a comma between conditions")),
            };
        }
        Ok(Self(conditions))
    }

    /// Returns whether a snapshot is meant.
    pub(super) fn matches(&self, name: &str, record: &SnapshotRecord) -> bool {
        self.0.iter().all(|condition| {
            let value = value(&condition.field, name, record);
            match &condition.test {
                FilterTest::Present => value.is_some(),
                FilterTest::Is(wanted) => value == Some(wanted.as_str()),
                FilterTest::IsNot(other) => value != Some(other.as_str()),
            }
        })
    }
}

fn value<'r>(field: &[String], name: &'r str, record: &'r SnapshotRecord) -> Option<&'r str> {
    let words: Vec<&str> = field.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["name"] => Some(name),
        // Also of a snapshot without one: containerd asks for `parent==""`.
        ["parent"] => Some(&record.parent),
        ["kind"] => Some(record.kind.name()),
        ["labels", label @ ..] if !label.is_empty() => {
            record.labels.get(&label.join(".")).map(String::as_str)
        }
        _ => None,
    }
}

fn condition(rest: &mut &str) -> Result<Condition, String> {
    let mut field = vec![word(rest, |c| c.is_alphanumeric() || "_-/".contains(c))?];
    while let Some(next) = rest.strip_prefix('.') {
        *rest = next;
        field.push(word(rest, |c| c.is_alphanumeric() || "_-/".contains(c))?);
    }
    let known = match field.first().map(String::as_str) {
        Some("name" | "parent" | "kind") => field.len() == 1,
        Some("labels") => field.len() > 1,
        _ => false,
    };
    if !known {
        let field = field.join(".");
        return Err(format!(
            "no field {field:?}: expected name, parent, kind or labels.NAME"
        ));
    }
    let operator = rest.get(..2).unwrap_or_default();
    let make: fn(String) -> FilterTest = match operator {
        "==" => FilterTest::Is,
        "!=" => FilterTest::IsNot,
        "~=" => return Err("patterns are not looked for: expected == or !=".to_owned()),
        _ => {
            return Ok(Condition {
                field,
                test: FilterTest::Present,
            });
        }
    };
    *rest = rest.get(2..).unwrap_or_default();
    let value = word(rest, |c| c != ',' && !c.is_whitespace())?;
    Ok(Condition {
        field,
        test: make(value),
    })
}

/// Takes a word, as it stands or between quotes.
fn word(rest: &mut &str, plain: impl Fn(char) -> bool) -> Result<String, String> {
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find(|c| !plain(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return Err(format!("expected a word before {after:?}"));
        }
        *rest = after;
        return Ok(word.to_owned());
    };
    let mut out = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                *rest = quoted.get(at + 1..).unwrap_or_default();
                return Ok(out);
            }
            '\\' => match chars.next() {
                Some((_, c @ ('"' | '\\'))) => out.push(c),
                _ => return Err("after a backslash only a quote or a backslash is read".to_owned()),
            },
            c => out.push(c),
        }
    }
    Err("a quote is not closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::record::{Body, Moment, SnapshotKind};
    use super::*;

    fn record() -> SnapshotRecord {
        SnapshotRecord {
            number: 1,
            kind: SnapshotKind::Committed,
            parent: "k8s.io/1/sha256:aa".into(),
            labels: [("a.b/c".to_owned(), "sha256:ff".to_owned())].into(),
            created: Moment::now(),
            updated: Moment::now(),
            body: Body::Dir,
            usage: (0, 0),
        }
    }

    #[test]
    fn filters_are_read_as_containerd_writes_them() {
        let matches = |text: &str| Filter::parse(text).unwrap().matches("n/1/x", &record());
        for text in [
            "",
            "name==n/1/x",
            "kind==committed,parent==\"k8s.io/1/sha256:aa\"",
            "labels.\"a.b/c\"==sha256:ff,parent==\"k8s.io/1/sha256:aa\"",
            "labels.a.b/c",
            "labels.none!=x",
            "name!=\"q\\\"uote\"",
        ] {
            assert!(matches(text), "{text}");
        }
        for text in [
            "name==x",
            "kind==active",
            "labels.none",
            "labels.\"a.b/c\"==x",
            "name==n/1/x,kind==view",
        ] {
            assert!(!matches(text), "{text}");
        }
        let root = SnapshotRecord {
            parent: String::new(),
            ..record()
        };
        assert!(Filter::parse("parent==\"\"").unwrap().matches("n", &root));
        assert!(!Filter::parse("parent==\"x\"").unwrap().matches("n", &root));
    }

    #[test]
    fn invalid_filters_are_refused() {
        let wrong = |text: &str| Filter::parse(text).err().unwrap().message().to_owned();
        assert!(wrong("size==3").contains("no field \"size\""));
        assert!(wrong("labels==3").contains("no field"));
        assert!(wrong("name~=x").contains("patterns"));
        assert!(wrong("name==\"x").contains("not closed"));
        assert!(wrong("name==\"\\n\"").contains("backslash"));
        assert!(wrong("name==x,").contains("comma"));
        assert!(wrong("name==x y").contains("comma"));
        assert!(wrong("name==").contains("expected a word"));
        assert!(wrong(&"n".repeat(MAX_FILTER_BYTES + 1)).contains("more than"));
    }
}
