//! What was found.

use std::collections::HashMap;

use stratafs::name::LayerPath;

use super::rules::{Rule, Severity};
use crate::limits::MAX_FINDINGS;

/// A place where a rule does not hold.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) rule: &'static Rule,
    pub(super) path: Option<LayerPath>,
    /// The layer, the lowest being 0.
    pub(super) layer: Option<usize>,
    pub(super) reason: String,
}

/// All that was found, of each rule up to a bound.
pub(super) struct Findings {
    allowed: Vec<&'static Rule>,
    all: Vec<Finding>,
    counts: HashMap<&'static str, u64>,
}

impl Findings {
    /// Makes an empty list that takes none of the rules `allowed`.
    pub(super) fn new(allowed: Vec<&'static Rule>) -> Self {
        Self {
            allowed,
            all: Vec::new(),
            counts: HashMap::new(),
        }
    }

    /// Returns whether findings of a rule are of any use.
    pub(super) fn wants(&self, rule: &'static Rule) -> bool {
        !self.allowed.contains(&rule)
    }

    pub(super) fn at(
        &mut self,
        rule: &'static Rule,
        path: &LayerPath,
        layer: usize,
        reason: impl Into<String>,
    ) {
        self.add(rule, Some(path.clone()), Some(layer), reason.into());
    }

    pub(super) fn of_image(&mut self, rule: &'static Rule, reason: impl Into<String>) {
        self.add(rule, None, None, reason.into());
    }

    fn add(
        &mut self,
        rule: &'static Rule,
        path: Option<LayerPath>,
        layer: Option<usize>,
        reason: String,
    ) {
        if !self.wants(rule) {
            return;
        }
        let count = self.counts.entry(rule.id).or_default();
        *count += 1;
        if *count <= MAX_FINDINGS {
            self.all.push(Finding {
                rule,
                path,
                layer,
                reason,
            });
        }
    }

    /// Gives the findings, the worst first, and of each rule that has more than are listed
    /// one that counts them.
    pub(super) fn finish(mut self) -> Vec<Finding> {
        for rule in super::rules::RULES {
            let count = self.counts.get(rule.id).copied().unwrap_or(0);
            if count > MAX_FINDINGS {
                let more = count - MAX_FINDINGS;
                self.all.push(Finding {
                    rule,
                    path: None,
                    layer: None,
                    reason: format!("{more} more of these"),
                });
            }
        }
        let place = |finding: &Finding| {
            let mut rules = super::rules::RULES.iter();
            rules.position(|rule| rule.id == finding.rule.id)
        };
        self.all.sort_by_key(place);
        self.all
    }
}

/// Counts the findings of a severity.
pub(super) fn count(findings: &[Finding], severity: Severity) -> usize {
    let same = findings.iter();
    same.filter(|finding| finding.rule.severity == severity)
        .count()
}

#[cfg(test)]
mod tests {
    use super::super::rules::{LATEST, SECRET};
    use super::*;

    #[test]
    fn findings_of_a_rule_are_listed_up_to_a_bound() {
        let mut findings = Findings::new(vec![&LATEST]);
        findings.of_image(&LATEST, "allowed");
        for _ in 0..MAX_FINDINGS + 5 {
            findings.of_image(&SECRET, "found");
        }
        let all = findings.finish();
        assert_eq!(all.len() as u64, MAX_FINDINGS + 1);
        assert_eq!(all.last().unwrap().reason, "5 more of these");
    }
}
