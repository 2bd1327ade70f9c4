//! Findings as SARIF 2.1.0, for tools that show them beside code.

use serde_json::{Value, json};

use super::super::text::rooted_bytes;
use super::findings::Finding;
use super::rules::RULES;
use super::subject::Subject;

/// Makes the document.
pub(super) fn document(subject: &Subject, findings: &[Finding]) -> Value {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|rule| {
            json!({
                "id": rule.id,
                "shortDescription": {"text": rule.about},
                "help": {"text": rule.fix},
                "defaultConfiguration": {"level": rule.severity.word()},
            })
        })
        .collect();
    let results: Vec<Value> = findings
        .iter()
        .map(|finding| result(subject, finding))
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "stratafs",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "results": results,
        }],
    })
}

fn result(subject: &Subject, finding: &Finding) -> Value {
    let index = RULES.iter().position(|rule| rule.id == finding.rule.id);
    let uri = match (&finding.path, subject.recipe()) {
        (Some(path), _) => uri(rooted_bytes(path).strip_prefix(b"/").unwrap_or_default()),
        (None, Some(recipe)) if recipe.starts_with('/') => {
            format!("file://{}", uri(recipe.as_bytes()))
        }
        (None, Some(recipe)) => uri(recipe.as_bytes()),
        (None, None) => uri(subject.image().unwrap_or_default().as_bytes()),
    };
    let artifact = json!({"uri": uri});
    let place = match finding.at {
        Some(at) => json!({
            "artifactLocation": artifact,
            "region": {"startLine": at.line, "startColumn": at.column},
        }),
        None => json!({"artifactLocation": artifact}),
    };
    json!({
        "ruleId": finding.rule.id,
        "ruleIndex": index,
        "level": finding.rule.severity.word(),
        "message": {"text": format!("{}: {}", finding.rule.about, finding.reason)},
        "locations": [{"physicalLocation": place}],
        "properties": {
            "image": subject.image(),
            "recipe": subject.recipe(),
            "layer": finding.layer,
        },
    })
}

/// Writes bytes as a relative reference of RFC 3986.
fn uri(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._~/".contains(byte) => {
                out.push(char::from(*byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_references() {
        assert_eq!(uri(b"a b/<c>.txt"), "a%20b/%3Cc%3E.txt");
        assert_eq!(uri(b"\xff:"), "%FF%3A");
    }
}
