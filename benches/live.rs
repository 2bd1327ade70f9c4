//! What forks, snapshots and comparing states cost, by how much has changed.
//!
//! `cargo bench --bench live`
#![allow(clippy::unwrap_used, reason = "a bench ends at the first error")]

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use stratafs::chunk::{ChunkPool, Content};
use stratafs::image::Image;
use stratafs::layer::Layer;
use stratafs::meta::Meta;
use stratafs::name::LayerPath;
use stratafs::vfs::Fs;

/// An image of `files` empty files, a thousand in a directory.
fn image(files: u32) -> Image {
    let mut builder = Layer::builder();
    for number in 0..files {
        let text = format!("d{}/file-{number}", number / 1000);
        let path = LayerPath::parse(text.as_bytes()).unwrap();
        builder
            .file(&path, Meta::with_mode(0o644), Content::empty())
            .unwrap();
    }
    Image::new(&[builder.finish().unwrap()]).unwrap()
}

/// Changes the first `count` files of `image`.
fn change(fs: &Fs, count: u32) {
    for number in 0..count {
        fs.write(format!("/d{}/file-{number}", number / 1000), b"changed")
            .unwrap();
    }
}

fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split(' ').nth(1)?.parse::<u64>().ok()? * 4096)
}

/// Resident bytes for each of `count` forks that live at once.
fn bytes_of_a_fork(fs: &Fs, count: usize) -> Option<f64> {
    let before = resident()?;
    let forks: Vec<Fs> = (0..count).map(|_| fs.fork()).collect();
    let after = resident()?;
    black_box(&forks);
    Some(after.saturating_sub(before) as f64 / count as f64)
}

/// What forks of an instance with 100 MiB of its own hold. Asked first: pages
/// that others have freed would hide it.
fn forks_of_a_large_one() {
    let large = Fs::new(&Image::empty());
    let blocks = (0..25_600_u64).flat_map(|number| [number.to_le_bytes(); 512]);
    large
        .write("/data", blocks.flatten().collect::<Vec<u8>>())
        .unwrap();
    for count in [1000, 100_000] {
        if let Some(bytes) = bytes_of_a_fork(&large, count) {
            println!("    resident bytes of each of {count} forks of 100 MiB: {bytes:.0}");
        }
    }
}

fn live(criterion: &mut Criterion) {
    forks_of_a_large_one();
    let mut group = criterion.benchmark_group("live");
    let hundred_thousand = image(100_000);
    for changed in [10, 100_000] {
        let fs = Fs::new(&hundred_thousand);
        change(&fs, changed);
        let name = format!("{changed} changed files");
        group.bench_function(BenchmarkId::new("fork and drop", &name), |bencher| {
            bencher.iter(|| black_box(fs.fork()));
        });
        group.bench_function(BenchmarkId::new("fork", &name), |bencher| {
            bencher.iter_batched(|| (), |()| fs.fork(), BatchSize::SmallInput);
        });
    }
    let million = image(1_000_000);
    for changed in [10, 1000] {
        let fs = Fs::new(&million);
        let before = fs.snapshot();
        change(&fs, changed);
        let after = fs.snapshot();
        let name = format!("{changed} changes in 1,000,000 files");
        group.bench_function(BenchmarkId::new("changes", &name), |bencher| {
            bencher.iter(|| black_box(before.changes_to(&after).unwrap()));
        });
        group.bench_function(BenchmarkId::new("diff to a layer", &name), |bencher| {
            let pool = ChunkPool::new();
            bencher.iter(|| black_box(fs.diff(&pool).unwrap()));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = live
}
criterion_main!(benches);
