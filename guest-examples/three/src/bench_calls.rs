//! Times calls of `wasi:filesystem@0.3` from inside a guest.
//!
//! `bench_calls [TIMES]`: the first preopened directory has `f` and `1/2/3/4/5/6/7/f`. One line a
//! kind of call: its name, and nanoseconds for one, the median of nine rounds of TIMES calls.

use std::time::Instant;

use guest_examples::check::number;
use guest_examples::three::wasip3;
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};
use wasip3::wit_bindgen::block_on;

const NONE: PathFlags = PathFlags::empty();
const ROUNDS: usize = 9;

async fn time(name: &str, times: u64, call: impl AsyncFn()) {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..times {
            call().await;
        }
        rounds.push(start.elapsed().as_nanos() / u128::from(times));
    }
    rounds.sort_unstable();
    println!("{name} {}", rounds[ROUNDS / 2]);
}

async fn open(dir: &Descriptor, path: &str) -> Descriptor {
    let access = DescriptorFlags::READ;
    let opened = dir.open_at(NONE, path.to_owned(), OpenFlags::empty(), access);
    opened.await.expect("opens")
}

async fn time_all(dir: &Descriptor, times: u64) {
    for (depth, path) in [(1, "f"), (8, "1/2/3/4/5/6/7/f")] {
        time(&format!("stat_depth_{depth}"), times, async || {
            dir.stat_at(NONE, path.to_owned()).await.expect("is there");
        })
        .await;
        time(&format!("open_close_depth_{depth}"), times, async || {
            drop(open(dir, path).await);
        })
        .await;
    }
    time("stat_missing", times, async || {
        dir.stat_at(NONE, "g".to_owned())
            .await
            .expect_err("is not there");
    })
    .await;
    let file = open(dir, "f").await;
    time("fstat", times, async || {
        file.stat().await.expect("stat");
    })
    .await;
}

fn main() {
    block_on(async {
        let (dir, _) = get_directories().into_iter().next().expect("a directory");
        time_all(&dir, number(1, 2000)).await;
    });
}

guest_examples::command!(main);
