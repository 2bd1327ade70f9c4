//! The guest `soak` of 0.3 under both hosts.

use stratafs::image::Image;

use super::rules::{P2, Rule};
use super::{Episode, Twins, calls, soak, tree};
use crate::support::guest::World;
use crate::support::wasi_host::{Compiled, Files, Mode};

struct Filesystem {
    image: Image,
    guest: Compiled,
}

impl Filesystem {
    fn log(&self, files: Files<'_>, episode: &Episode) -> Vec<String> {
        let args = episode.args();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mode = [Mode::Sync, Mode::Async][usize::from(episode.seed.is_multiple_of(2))];
        let outcome = self.guest.run(files, mode, &args);
        let lines = outcome.out.lines().map(str::to_owned);
        let end = format!("- end = {} {}", outcome.code, outcome.err);
        lines.chain([end]).collect()
    }
}

impl Twins for Filesystem {
    /// Those of 0.2: its calls mean the same.
    fn rules(&self) -> &'static [Rule] {
        P2
    }

    fn logs(&self, episode: &Episode) -> [Vec<String>; 2] {
        let fs = tree::instance(&self.image);
        let ours = self.log(Files::Strata(&fs), episode);
        fs.check().unwrap();
        assert_eq!(fs.usage().open, 0, "{episode:?}");
        let dir = tree::fresh();
        tree::fill(dir.path());
        [ours, self.log(Files::HostDir(dir.path()), episode)]
    }
}

#[test]
fn a_soak_of_0_3_calls_agrees_with_wasmtime_wasi() {
    let twins = Filesystem {
        image: tree::image(),
        guest: Compiled::new("soak", World::P3),
    };
    soak(&twins, calls(3_000));
}
