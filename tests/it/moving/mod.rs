//! What a host of wasmtime-wasi changes to move to stratafs: the guide shows these
//! programs, which are compiled and run here, and says how many lines that is.

mod p1_after;
mod p1_before;
mod p2_after;
mod p2_before;

const GUIDE: &str = include_str!("../../../docs/GUIDE.md");

/// A command that ends with success if it has a preopened directory, else with a trap.
const P1_GUEST: &[u8] = br#"(module
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (if (call $prestat (i32.const 3) (i32.const 0)) (then unreachable))))"#;

const P2_GUEST: &[u8] = include_bytes!("../../../examples/embed_p2.wat");

/// The lines of a unified difference of two texts, by the longest common subsequence.
fn difference(before: &str, after: &str) -> Vec<String> {
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let mut common = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push(format!(" {}", old[i]).trim_end().to_owned());
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (j == new.len() || common[i + 1][j] >= common[i][j + 1]) {
            lines.push(format!("-{}", old[i]));
            i += 1;
        } else {
            lines.push(format!("+{}", new[j]));
            j += 1;
        }
    }
    lines
}

fn count(lines: &[String], sign: char) -> usize {
    lines.iter().filter(|line| line.starts_with(sign)).count()
}

/// Checks that the guide shows this difference and that it stays within the bounds.
fn shown(before: &str, after: &str, removed: usize, added: usize) {
    let lines = difference(before, after);
    assert!(count(&lines, '-') <= removed, "{lines:#?}");
    assert!(count(&lines, '+') <= added, "{lines:#?}");
    let block = format!("```diff\n{}\n```", lines.join("\n"));
    assert!(GUIDE.contains(&block), "docs/GUIDE.md lacks:\n{block}");
}

#[test]
fn a_preview1_host_removes_two_lines_and_adds_four() {
    let (before, after) = (include_str!("p1_before.rs"), include_str!("p1_after.rs"));
    shown(before, after, 2, 4);
    assert!(p1_before::run(P1_GUEST).is_err(), "no directory before");
    p1_after::run(P1_GUEST).unwrap();
}

#[test]
fn a_host_of_components_removes_two_lines_and_adds_six() {
    let (before, after) = (include_str!("p2_before.rs"), include_str!("p2_after.rs"));
    shown(before, after, 2, 6);
    assert_ne!(
        p2_before::run(P2_GUEST).ok(),
        Some(Ok(())),
        "no directory before"
    );
    assert_eq!(p2_after::run(P2_GUEST).unwrap(), Ok(()));
}
