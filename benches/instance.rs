//! What one instance's file system costs to make and drop, by size and depth
//! of its base. Twin: a `WasiCtx` with one host directory, which is shared and
//! not private, and an empty one.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use stratafs::chunk::Content;
use stratafs::image::Image;
use stratafs::layer::{Layer, LayerBuilder};
use stratafs::meta::Meta;
use stratafs::name::LayerPath;
use stratafs::vfs::Fs;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

/// A layer of `files` empty files, a thousand in a directory.
fn layer(files: u32, tag: u32) -> Layer {
    let mut builder = LayerBuilder::new();
    for number in 0..files {
        let text = format!("l{tag}/d{}/file-{number}", number / 1000);
        let path = LayerPath::parse(text.as_bytes()).expect("a legal path");
        builder
            .file(&path, Meta::with_mode(0o644), Content::empty())
            .expect("a legal entry");
    }
    builder.finish().expect("a legal layer")
}

fn image(files: u32, layers: u32) -> Image {
    let stack: Vec<Layer> = (0..layers).map(|tag| layer(files / layers, tag)).collect();
    Image::new(&stack).expect("a legal stack")
}

/// Resident bytes for each of `count` instances that live at once.
fn resident_bytes(image: &Image, count: usize) -> Option<f64> {
    let before = resident()?;
    let instances: Vec<Fs> = (0..count).map(|_| Fs::new(image)).collect();
    let after = resident()?;
    black_box(&instances);
    Some((after.saturating_sub(before)) as f64 / count as f64)
}

fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split(' ').nth(1)?.parse::<u64>().ok()? * 4096)
}

fn instance(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("instance");
    for (files, layers) in [
        (10, 1),
        (10_000, 1),
        (10_000, 128),
        (1_000_000, 1),
        (1_000_000, 128),
    ] {
        let image = image(files, layers);
        let name = format!("{files} files, {layers} layers");
        group.bench_function(BenchmarkId::new("stratafs", name), |bencher| {
            bencher.iter(|| black_box(Fs::new(&image)));
        });
        if let Some(bytes) = resident_bytes(&image, 100_000) {
            println!("    resident bytes of one idle instance: {bytes:.0}");
        }
    }
    let host = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a directory");
    group.bench_function("WasiCtx with one host directory (shared)", |bencher| {
        bencher.iter(|| {
            let mut ctx = WasiCtxBuilder::new();
            ctx.preopened_dir(host.path(), "/", FsPerms::ReadWrite)
                .expect("it is there");
            black_box(ctx.build_p1())
        });
    });
    group.bench_function("WasiCtx with none", |bencher| {
        bencher.iter(|| black_box(WasiCtxBuilder::new().build_p1()));
    });
    group.finish();
}

criterion_group!(benches, instance);
criterion_main!(benches);
