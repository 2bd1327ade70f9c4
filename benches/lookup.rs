//! What a name costs: in small and huge directories, under one layer and
//! under 128, with tables in the cache and out of it; and what it costs to
//! merge the layers in the first place.
//!
//! First the two heights in turns of one run, which gives the ratio; then
//! criterion's figures.
//!
//! `cargo bench --no-default-features --bench lookup`
#![allow(clippy::unwrap_used, reason = "a bench ends at the first error")]

#[allow(dead_code, unreachable_pub, reason = "other benches use the rest")]
mod support;

use std::hint::black_box;
use std::time::Instant;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use stratafs::chunk::Content;
use stratafs::image::Image;
use stratafs::layer::Layer;
use stratafs::meta::Meta;
use stratafs::name::{LayerPath, Name};
use support::{Spread, print_load};

/// Files, all in one directory.
const SIZES: [u64; 3] = [10, 10_000, 1_000_000];

const HEIGHTS: [u64; 2] = [1, 128];

/// Look-ups that are timed together.
const BATCH: u64 = 64;

fn path(number: u64) -> LayerPath {
    let name = format!("file-{number:08}.txt");
    vec![Name::new(name.as_bytes()).unwrap()].into()
}

/// Files from 0 up to `files`, dealt out to the layers in turn.
fn layers(files: u64, height: u64) -> Vec<Layer> {
    let layer = |at| {
        let mut builder = Layer::builder();
        for number in (at..files).step_by(usize::try_from(height).unwrap()) {
            let meta = Meta::with_mode(0o644);
            builder.file(&path(number), meta, Content::empty()).unwrap();
        }
        builder.finish().unwrap()
    };
    (0..height).map(layer).collect()
}

/// The paths of one batch, spread over all files by a step that is coprime
/// to their count.
fn batch(first: u64, files: u64) -> Vec<LayerPath> {
    let step = 7_368_787;
    (first..first + BATCH)
        .map(|at| path(at.wrapping_mul(step) % files))
        .collect()
}

fn count(image: &Image, paths: &[LayerPath]) -> usize {
    let found = |path: &&LayerPath| image.locate(black_box(path)).is_some();
    paths.iter().filter(found).count()
}

/// Turns of the heights that count, after as many as a tenth that do not.
const TURNS: usize = 101;

/// Batches of each height in one turn.
const BATCHES: u64 = 200;

/// Prints what a look-up takes under each height, measured in turns so that a
/// busy machine disturbs all of them.
fn in_turns(_: &mut Criterion) {
    print_load("before");
    println!("| ns a look-up: median [least..most] | 1 layer | 128 layers | median to median |");
    println!("|---|---|---|---|");
    for files in SIZES {
        let images = HEIGHTS.map(|height| Image::new(&layers(files, height)).unwrap());
        let here = batch(0, files);
        let absent: Vec<_> = (files..files + BATCH).map(path).collect();
        let spread: Vec<_> = (0..BATCHES).map(|at| batch(at * BATCH, files)).collect();
        turn("hot", files, &images, |image, _| count(image, &here));
        turn("missing", files, &images, |image, _| count(image, &absent));
        turn("spread", files, &images, |image, at| {
            spread.get(at).map_or(0, |paths| count(image, paths))
        });
    }
    print_load("after");
}

fn turn(name: &str, files: u64, images: &[Image; 2], look: impl Fn(&Image, usize) -> usize) {
    let mut figures = [Vec::new(), Vec::new()];
    for turn in 0..TURNS + TURNS / 10 {
        for (image, figures) in images.iter().zip(&mut figures) {
            let start = Instant::now();
            for at in 0..usize::try_from(BATCHES).unwrap() {
                black_box(look(image, at));
            }
            let nanos = start.elapsed().as_nanos() as f64;
            if turn >= TURNS / 10 {
                figures.push(nanos / (BATCHES * BATCH) as f64);
            }
        }
    }
    let [one, many] = figures.map(Spread::of);
    let ratio = many.median / one.median * 100.0;
    let [one, many] =
        [one, many].map(|s| format!("{:.1} [{:.1}..{:.1}]", s.median, s.least, s.most));
    println!("| {name}, {files} files | {one} | {many} | {ratio:.1} % |");
}

fn look_up(c: &mut Criterion) {
    for files in SIZES {
        let images = HEIGHTS.map(|height| (height, Image::new(&layers(files, height)).unwrap()));
        let mut group = c.benchmark_group(format!("look-up/{files}-files"));
        group.throughput(Throughput::Elements(BATCH));
        let here = batch(0, files);
        let absent: Vec<_> = (files..files + BATCH).map(path).collect();
        for (height, image) in &images {
            group.bench_function(BenchmarkId::new("hot", height), |b| {
                b.iter(|| count(image, &here));
            });
            group.bench_function(BenchmarkId::new("missing", height), |b| {
                b.iter(|| count(image, &absent));
            });
            let mut first = 0;
            group.bench_function(BenchmarkId::new("spread", height), |b| {
                let next = || {
                    first += BATCH;
                    batch(first, files)
                };
                b.iter_batched(next, |paths| count(image, &paths), BatchSize::SmallInput);
            });
        }
    }
}

fn merge(c: &mut Criterion) {
    let mut group = c.benchmark_group("merge");
    group.sample_size(10);
    for files in SIZES {
        group.throughput(Throughput::Elements(files));
        for height in HEIGHTS {
            let layers = layers(files, height);
            group.bench_function(BenchmarkId::new(format!("{files}-files"), height), |b| {
                b.iter_with_large_drop(|| Image::new(black_box(&layers)).unwrap());
            });
        }
    }
}

criterion_group!(benches, in_turns, look_up, merge);
criterion_main!(benches);
