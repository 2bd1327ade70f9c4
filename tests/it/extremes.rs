//! How far it goes: the deepest trees, the highest stacks, guests that destroy
//! all they see, and churn on shared content until nothing may be left.

use std::collections::BTreeMap;
use std::thread::scope;

use stratafs::chunk::{ChunkPool, ContentBuilder};
use stratafs::errno::Errno;
use stratafs::image::Image;
use stratafs::layer::{EntryBody, Layer};
use stratafs::meta::{Kind, Meta, Time};
use stratafs::name::LayerPath;
use stratafs::vfs::{Access, Descriptor, Follow, Fs, OpenFlags, Rights, SetTime};

use crate::support::rng::Rng;
use crate::support::tree::{
    edit, image, is_gone, layer_of, names, parse, remove_tree, stat, text_of, tree, view, walk,
};

const NONE: OpenFlags = OpenFlags::empty();

const BASE: &str = "
    etc/hosts = localhost
    etc/same == etc/hosts
    lib/a * 100000
    lib/b * 70000
    lib/deep/er/c = c
    empty/
    sparse ~ 1000000
    link -> etc/hosts
    abs -> /lib";

/// What a hostile guest does: everything it is let to, to everything it sees.
fn ravage(fs: &Fs) {
    let root = fs.root().unwrap();
    for object in walk(fs)
        .iter()
        .rev()
        .filter(|object| !object.path.is_empty())
    {
        let now = SetTime::To(Time::new(1, 1));
        root.set_times_at(Follow::No, &object.path, now, now)
            .unwrap();
        match object.stat.kind {
            Kind::File => {
                let all = Access::all();
                let file = root.open_at(Follow::No, &object.path, NONE, all).unwrap();
                assert_eq!(file.write_at(&[0xff; 5000], 0), Ok(5000));
                file.set_size(3).unwrap();
                file.set_size(1 << 40).unwrap();
                let cut = OpenFlags::TRUNCATE;
                let again = root.open_at(Follow::No, &object.path, cut, all).unwrap();
                again.append(b"mine").unwrap();
                root.unlink_at(&object.path).unwrap();
            }
            Kind::Symlink => root.unlink_at(&object.path).unwrap(),
            Kind::Dir => {
                root.rename_at(&object.path, &root, b"gone").unwrap();
                root.remove_dir_at(b"gone").unwrap();
            }
        }
    }
    assert_eq!(names(&root), [""; 0]);
}

#[test]
fn case_c2_79_a_guest_that_destroys_all_it_sees_leaves_the_base() {
    let base = image(&[BASE, "lib/a = upper\n - empty\n new/x * 4096"]);
    let (digest, shape) = (base.verify().unwrap(), tree(&Fs::new(&base)));
    assert_eq!(digest, base.digest());
    for _ in 0..3 {
        ravage(&Fs::new(&base));
    }
    scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| ravage(&Fs::new(&base)));
        }
    });
    assert_eq!(base.verify(), Ok(digest));
    assert_eq!(tree(&Fs::new(&base)), shape);
}

#[test]
fn case_p29_a_tree_of_4096_levels_made_by_steps() {
    const DEPTH: usize = 4096;
    let run = || {
        let fs = Fs::new(&Image::empty());
        let root = fs.root().unwrap();
        let mut dir = fs.root().unwrap().into_descriptor();
        for _ in 0..DEPTH {
            dir.create_dir_at(b"d").unwrap();
            dir = dir.open_at(Follow::No, b"d", NONE, Access::READ).unwrap();
        }
        // By long paths.
        let hop = "d/".repeat(DEPTH / 4);
        let mut at = fs.root().unwrap().into_descriptor();
        for _ in 0..4 {
            at = at
                .open_at(Follow::No, hop.as_bytes(), NONE, Access::READ)
                .unwrap();
        }
        assert!(at.is_same_object(&dir));
        drop(at);
        let into = root.rename_at(b"d", &root, format!("{hop}x").as_bytes());
        assert_eq!(into, Err(Errno::Invalid));
        // As a layer, as an image, and listed again.
        let diff = fs.diff(&ChunkPool::new()).unwrap();
        assert_eq!(diff.node_count(), DEPTH + 1);
        let again = Image::new(&[diff]).unwrap();
        assert_eq!(again.stats().dirs, DEPTH as u64 + 1);
        let mut climb = Fs::new(&again).root().unwrap().into_descriptor();
        for _ in 0..DEPTH {
            climb = climb.open_at(Follow::No, b"d", NONE, Access::READ).unwrap();
        }
        assert_eq!(names(&climb), [""; 0]);
        // Down again from the bottom; the handles on the way stay good.
        root.rename_at(b"d", &root, b"old").unwrap();
        assert_eq!(dir.stat().map(|stat| stat.nlink), Ok(2));
        root.rename_at(b"old", &root, b"d").unwrap();
        let mut way = vec![root.into_descriptor()];
        for _ in 0..DEPTH {
            let next = way[way.len() - 1].open_at(Follow::No, b"d", NONE, Access::READ);
            way.push(next.unwrap());
        }
        while way.pop().is_some() {
            if let Some(above) = way.last() {
                above.remove_dir_at(b"d").unwrap();
            }
        }
        drop(dir);
        assert_eq!((fs.usage().inodes, fs.usage().open), (0, 0));
        assert_eq!(fs.check(), Ok(()));
    };
    // Nothing on the way recurses.
    let small = std::thread::Builder::new().stack_size(256 * 1024);
    small.spawn(run).unwrap().join().unwrap();
}

#[test]
fn case_p29_600_layers_behave_as_one() {
    let layers: Vec<String> = (0..600)
        .map(|at| match at % 3 {
            0 => format!("d/f{at} = {at}\n d/shared = {at}"),
            1 => format!("- d/f{}\n e{at}/x = x", at - 1),
            _ => format!("d/f{at} = {at}\n l{at} == d/f{at}"),
        })
        .collect();
    let texts: Vec<&str> = layers.iter().map(String::as_str).collect();
    let fs = Fs::new(&image(&texts));
    let root = fs.root().unwrap();
    assert_eq!(text_of(&root, "d/shared"), "597");
    assert!(is_gone(&root, "d/f0"));
    assert_eq!(text_of(&root, "l599"), "599");
    assert_eq!(stat(&root, "d/f599").nlink, 2);
    assert_eq!(names(&view(&root, "d")).len(), 201);
    edit(&root, "l2").append(b"!").unwrap();
    assert_eq!(text_of(&root, "d/f2"), "2!");
    root.rename_at(b"d", &root, b"moved").unwrap();
    assert_eq!(text_of(&root, "moved/f596"), "596");
    remove_tree(&root, "moved");
    assert_eq!(names(&root).len(), 200 + 200, "e* and l*");
    assert_eq!(fs.check(), Ok(()));
}

#[test]
fn case_c4_97_an_instance_over_500_layers_and_towers_of_128() {
    let deep = |levels: usize| vec!["d"; levels].join("/");
    let mut layers = Vec::new();
    for at in 0..500 {
        let here = deep(1 + at * 37 % 128);
        layers.push(match at % 4 {
            0 => format!("! {here}\n {here}/f{at} = {at}"),
            1 => format!("- {here}/f{}\n {here}/f{at} = {at}", at - 1),
            _ => format!("{here}/f{at} = {at}"),
        });
    }
    layers.push(format!("{}/end = end", deep(128)));
    let texts: Vec<&str> = layers.iter().map(String::as_str).collect();
    let base = image(&texts);
    let fs = Fs::new(&base);
    let root = fs.root().unwrap();
    assert_eq!(text_of(&root, &format!("{}/end", deep(128))), "end");
    assert!(is_gone(&root, &format!("{}/f0", deep(1))));
    // Moved, changed and told, it is the same over the whole stack.
    root.rename_at(b"d", &root, b"moved").unwrap();
    let end = edit(&root, &format!("moved/{}/end", deep(127)));
    end.append(b"+").unwrap();
    let gone = format!("moved/{}/f499", deep(499 * 37 % 128));
    root.unlink_at(gone.as_bytes()).unwrap();
    let want = tree(&fs);
    let diff = fs.diff(&ChunkPool::new()).unwrap();
    let again = Image::new(&[base.layers(), &[diff]].concat()).unwrap();
    assert_eq!(tree(&Fs::new(&again)), want);
}

/// What this process holds in memory, in bytes.
#[cfg(target_os = "linux")]
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[cfg(target_os = "linux")]
#[test]
fn case_c4_98_memory_returns_to_the_base_line() {
    let base = image(&[BASE]);
    let round = || {
        let all: Vec<_> = (0..1000).map(|_| Fs::new(&base)).collect();
        for fs in &all {
            let root = fs.root().unwrap();
            let file = root
                .open_at(Follow::No, b"lib/a", NONE, Access::WRITE)
                .unwrap();
            assert_eq!(file.write_at(&[1; 50_000], 0), Ok(50_000));
        }
        resident_bytes()
    };
    // The allocator keeps what the first round took.
    round();
    let peaks: Vec<u64> = (0..6).map(|_| round()).collect();
    let (least, most) = (peaks.iter().min().unwrap(), peaks.iter().max().unwrap());
    assert!(most - least < 20 << 20, "{peaks:?}: each round holds 50 MB");
}

#[test]
fn case_c5_101_no_name_or_content_is_taken_for_another() {
    const COUNT: u32 = 50_000;
    let pool = ChunkPool::new();
    let mut builder = Layer::builder();
    for number in 0..COUNT {
        let name = LayerPath::parse(format!("d/{number:x}").as_bytes()).unwrap();
        let content = ContentBuilder::of(&pool, &number.to_le_bytes());
        builder
            .file(&name, Meta::with_mode(0o644), content)
            .unwrap();
    }
    let fs = Fs::new(&Image::new(&[builder.finish().unwrap()]).unwrap());
    let dir = fs.preopen(b"/d", Rights::ReadOnly).unwrap();
    for number in 0..COUNT {
        let name = format!("{number:x}");
        let file = dir
            .open_at(Follow::No, name.as_bytes(), NONE, Access::READ)
            .unwrap();
        let mut buf = [0; 4];
        assert_eq!(
            (file.read_at(&mut buf, 0), buf),
            (Ok(4), number.to_le_bytes())
        );
    }
    for number in COUNT..10 * COUNT {
        let none = dir.stat_at(Follow::No, format!("{number:x}").as_bytes());
        assert_eq!(none, Err(Errno::NoEntry));
    }
}

#[test]
fn case_c5_102_stacks_and_diffs_that_come_and_go_hold_what_they_show() {
    let pool = ChunkPool::new();
    let mut rng = Rng::new(102);
    let mut alive: Vec<(Image, Fs)> = Vec::new();
    for round in 0..600 {
        let base = match alive.len() {
            0 => Image::new(&[layer_of(&pool, &parse(BASE)).unwrap()]).unwrap(),
            len => alive[rng.below(len)].0.clone(),
        };
        let fs = Fs::new(&base);
        let root = fs.root().unwrap();
        let flags = OpenFlags::CREATE;
        let file = root
            .open_at(Follow::Yes, b"lib/a", flags, Access::WRITE)
            .unwrap();
        let at = rng.below(100) as u64 * 1000;
        assert_eq!(file.write_at(&[round as u8; 900], at), Ok(900));
        let diff = fs.diff(&pool).unwrap();
        let stacked = [&base.layers()[..base.layers().len().min(8)], &[diff]].concat();
        alive.push((Image::new(&stacked).unwrap(), fs));
        if alive.len() > 20 {
            drop(alive.swap_remove(rng.below(20)));
        }
    }
    let mut live = BTreeMap::new();
    for layer in alive
        .iter()
        .flat_map(|(image, fs)| image.layers().iter().chain(fs.image().layers()))
    {
        for entry in layer.entries() {
            if let EntryBody::File { content, .. } = entry.body {
                live.extend(
                    content
                        .chunks()
                        .map(|(_, chunk)| (chunk.digest(), chunk.bytes().len() as u64)),
                );
            }
        }
    }
    assert_eq!(pool.count_held_bytes(), live.values().sum::<u64>());
    drop(alive);
    assert!(pool.is_empty());
}

/// One random operation among many threads: whatever it gives, it ends.
fn disturb(rng: &mut Rng, fs: &Fs, root: &Descriptor, pool: &ChunkPool) {
    let names = [
        "a",
        "b",
        "c",
        "d/a",
        "d/b",
        "lib/a",
        "lib",
        "etc/hosts",
        "link",
        "d",
    ];
    let (one, two) = (rng.pick(&names).as_bytes(), rng.pick(&names).as_bytes());
    let open = |path, flags| root.open_at(Follow::Yes, path, flags, Access::all());
    let _ = match rng.below(16) {
        0 => root.create_dir_at(one),
        1 => root.remove_dir_at(one),
        2 => root.unlink_at(one),
        3 => root.rename_at(one, root, two),
        4 => root.link_at(one, root, two),
        5 => root.symlink_at(two, one),
        6 | 7 => open(one, OpenFlags::CREATE).and_then(|file| {
            file.write_at(&[1; 3000], rng.below(200_000) as u64)
                .map(drop)
        }),
        8 => open(one, NONE).and_then(|file| file.set_size(rng.below(300_000) as u64)),
        9 => open(one, NONE).and_then(|file| file.read_at(&mut [0; 5000], 0).map(drop)),
        10 => open(one, NONE).and_then(|file| file.append(b"tail").map(drop)),
        11 => root.stat_at(Follow::Yes, one).map(drop),
        12 => root.read_dir(0, usize::MAX).map(drop),
        13 => root.set_times_at(Follow::No, one, SetTime::Now, SetTime::Now),
        14 => {
            let content = ContentBuilder::of(pool, &[rng.below(4) as u8; 70_000]);
            assert_eq!(content.size(), 70_000);
            Ok(())
        }
        _ if rng.one_in(40) => {
            let _layer = fs.diff(pool).unwrap();
            Ok(())
        }
        _ => {
            let _usage = fs.usage();
            Ok(())
        }
    };
}

#[test]
fn case_c5_110_64_threads_on_one_pool_and_its_diffs_end() {
    let pool = ChunkPool::new();
    let base = Image::new(&[layer_of(&pool, &parse(BASE)).unwrap()]).unwrap();
    let digest = base.digest();
    let shared: Vec<_> = (0..8)
        .map(|_| Fs::builder(&base).max_bytes(8 << 20).build())
        .collect();
    scope(|threads| {
        for thread in 0..64 {
            let (shared, pool, base) = (&shared, &pool, &base);
            threads.spawn(move || {
                let mut rng = Rng::new(thread);
                for round in 0..20 {
                    // Its own now and then, one that others use as a rule.
                    let own = Fs::builder(base).max_bytes(1 << 20).build();
                    let fs = if round % 4 == 0 {
                        &own
                    } else {
                        rng.pick(shared)
                    };
                    let root = fs.root().unwrap();
                    (0..250).for_each(|_| disturb(&mut rng, fs, &root, pool));
                }
            });
        }
    });
    for fs in &shared {
        assert_eq!(fs.check(), Ok(()));
        assert_eq!(fs.usage().open, 0);
    }
    drop(shared);
    assert_eq!(base.verify(), Ok(digest));
    drop(base);
    assert!(pool.is_empty());
}

/// What a guest can make of its quota of objects: the longest names, one byte
/// in each file, directories in directories, further names, renamed and
/// touched base objects. docs/SEMANTICS.md, "Quotas", states the constant.
#[cfg(target_os = "linux")]
#[test]
fn the_worst_objects_cost_their_host_a_constant() {
    const COUNT: usize = 100_000;
    let name = |kind: &str, n: usize| format!("{kind}{n:0>254}").into_bytes();
    let base: String = (0..COUNT).map(|n| format!("base/{n} = x\n")).collect();
    let image = image(&[&base]);
    let kinds: [(&str, fn(&Descriptor, &[u8])); 6] = [
        ("f", |root, name| {
            let file = root.open_at(Follow::No, name, OpenFlags::CREATE, Access::WRITE);
            file.unwrap().write_at(b"x", 0).unwrap();
        }),
        ("d", |root, name| root.create_dir_at(name).unwrap()),
        ("s", |root, name| root.symlink_at(b"x", name).unwrap()),
        ("b", |root, name| {
            let digits = std::str::from_utf8(&name[1..]).unwrap();
            let number: usize = digits.parse().unwrap();
            let path = format!("base/{number}").into_bytes();
            let time = SetTime::To(Time::new(1, 1));
            root.set_times_at(Follow::No, &path, time, time).unwrap();
            root.rename_at(&path, root, name).unwrap();
        }),
        ("l", |root, name| {
            root.link_at(&[b'o'; 255], root, name).unwrap()
        }),
        // Every other one first, so that what is noted of them is long.
        ("r", |root, name| {
            let digits = std::str::from_utf8(&name[1..]).unwrap();
            let number: usize = digits.parse().unwrap();
            let number = number * 2 % COUNT + number * 2 / COUNT;
            root.unlink_at(format!("base/{number}").as_bytes()).unwrap();
        }),
    ];
    for (kind, make) in kinds {
        let fs = Fs::new(&image);
        let root = fs.root().unwrap();
        let one = OpenFlags::CREATE;
        drop(root.open_at(Follow::No, &[b'o'; 255], one, Access::all()));
        let count = if kind == "l" { COUNT / 2 } else { COUNT };
        let (before, counted) = (resident_bytes(), fs.usage().held_bytes);
        for n in 0..count {
            make(&root, &name(kind, n));
        }
        let each = resident_bytes().saturating_sub(before) / count as u64;
        let counted = (fs.usage().held_bytes - counted) / count as u64;
        assert!(
            each <= counted,
            "{each} bytes for each of kind {kind}, counted {counted}"
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn descriptors_cost_what_is_counted() {
    const COUNT: u32 = 50_000;
    let image = image(&["f = x\n"]);
    let fs = Fs::builder(&image).max_open(COUNT + 1).build();
    let root = fs.root().unwrap();
    let (before, counted) = (resident_bytes(), fs.usage().held_bytes);
    let open = |_| root.open_at(Follow::No, b"f", OpenFlags::empty(), Access::READ);
    let held: Vec<Descriptor> = (0..COUNT).map(|n| open(n).unwrap()).collect();
    let resident = resident_bytes().saturating_sub(before);
    let counted = fs.usage().held_bytes - counted;
    assert!(resident <= counted, "{resident} bytes, counted {counted}");
    drop(held);
}
