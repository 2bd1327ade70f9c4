//! Every crate that is built in comes under a licence we have agreed to.

use std::process::Command;

/// Permissive ones, and MPL-2.0 for crates used unmodified (imbl).
/// CDLA-Permissive-2.0 is that of Mozilla's list of roots of trust, which is data.
const AGREED: [&str; 16] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "0BSD",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT-0",
    "bzip2-1.0.6",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "MPL-2.0+",
];

/// Tells whether some choice the expression leaves is agreed to.
fn is_agreed(expression: &str) -> bool {
    expression.split(" AND ").all(|part| {
        part.trim_matches(['(', ')'])
            .split(" OR ")
            .flat_map(|choice| choice.split('/'))
            .any(|choice| AGREED.contains(&choice.trim()))
    })
}

#[test]
fn every_dependency_has_an_agreed_licence() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(
        packages.len() > 100,
        "only {} packages seen",
        packages.len()
    );
    let refused: Vec<String> = packages
        .iter()
        .filter(|package| !package["license"].as_str().is_some_and(is_agreed))
        .map(|package| format!("{}: {}", package["name"], package["license"]))
        .collect();
    assert!(refused.is_empty(), "licences not agreed to: {refused:#?}");
}

#[test]
fn expressions_are_read_as_choices_and_sums() {
    assert!(is_agreed("MIT OR GPL-3.0"));
    assert!(is_agreed("MIT/Apache-2.0"));
    assert!(is_agreed("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(!is_agreed("(MIT OR Apache-2.0) AND GPL-3.0"));
    assert!(!is_agreed("GPL-2.0-only"));
}
