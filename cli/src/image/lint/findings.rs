//! What was found.

use std::collections::HashMap;

use stratafs::name::LayerPath;

use super::rules::{Rule, Severity};
use crate::limits::MAX_FINDINGS;
use crate::recipe::Position;

/// A place where a rule does not hold.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) rule: &'static Rule,
    pub(super) path: Option<LayerPath>,
    /// The layer, the lowest being 0.
    pub(super) layer: Option<usize>,
    /// Where in a recipe.
    pub(super) at: Option<Position>,
    pub(super) reason: String,
}

/// All that was found, of each rule up to a bound.
pub(super) struct Findings {
    allowed: Vec<&'static Rule>,
    /// What is allowed for the instruction at a line of a recipe.
    allowed_at: Vec<(usize, &'static Rule)>,
    all: Vec<Finding>,
    counts: HashMap<&'static str, u64>,
}

impl Findings {
    /// Makes an empty list that takes none of the rules `allowed`.
    pub(super) fn new(allowed: Vec<&'static Rule>) -> Self {
        Self {
            allowed,
            allowed_at: Vec::new(),
            all: Vec::new(),
            counts: HashMap::new(),
        }
    }

    /// Takes no further findings of a rule, for the instruction at a line or for all.
    pub(super) fn allow(&mut self, rule: &'static Rule, line: Option<usize>) {
        match line {
            Some(line) => self.allowed_at.push((line, rule)),
            None => self.allowed.push(rule),
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
        self.add(Finding {
            rule,
            path: Some(path.clone()),
            layer: Some(layer),
            at: None,
            reason: reason.into(),
        });
    }

    pub(super) fn of_image(&mut self, rule: &'static Rule, reason: impl Into<String>) {
        self.add(Finding {
            rule,
            path: None,
            layer: None,
            at: None,
            reason: reason.into(),
        });
    }

    /// Adds what is found in the instruction of a recipe that begins at line `about`.
    pub(super) fn in_recipe(
        &mut self,
        rule: &'static Rule,
        (about, at): (usize, Position),
        reason: impl Into<String>,
    ) {
        if !self.allowed_at.contains(&(about, rule)) {
            self.add(Finding {
                rule,
                path: None,
                layer: None,
                at: Some(at),
                reason: reason.into(),
            });
        }
    }

    fn add(&mut self, finding: Finding) {
        if !self.wants(finding.rule) {
            return;
        }
        let count = self.counts.entry(finding.rule.id).or_default();
        *count += 1;
        if *count <= MAX_FINDINGS {
            self.all.push(finding);
        }
    }

    /// Returns the findings, the worst first, and of each rule that has more than are listed
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
                    at: None,
                    reason: format!("{more} more of these"),
                });
            }
        }
        let place = |finding: &Finding| {
            let mut rules = super::rules::RULES.iter();
            rules.position(|rule| rule.id == finding.rule.id)
        };
        self.all
            .sort_by_key(|finding| (place(finding), finding.at.is_none(), finding.at));
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
