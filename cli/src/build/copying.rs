//! Steps that copy files, and those that make a directory.

use std::sync::Arc;

use stratafs::errno::Errno;
use stratafs::image::Image;
use stratafs::layer::Layer;
use stratafs::meta::Meta;
use stratafs::vfs::Fs;

use super::Builder;
use super::built::Built;
use super::cache::StepKey;
use super::gather::{self, Gathered, Gatherer, NEW_DIR};
use super::lay::{self, Destination};
use super::origins::Origin;
use super::steps::{CopyPlan, StepPlan};
use super::tree::{FileTree, HostTree, StoredTree};
use super::work::{Outcome, StepWork};
use crate::failure::Failure;
use crate::limits::MAX_PROGRAM_BYTES;
use crate::recipe::dockerignore::Ignore;

impl Builder<'_> {
    /// `WORKDIR`: a directory is made if the stage lacks it, for the user that was named before.
    pub(super) fn make_dir(
        &self,
        stage: &Built,
        (dir, user): (&str, Option<&str>),
        step: &StepPlan,
    ) -> Result<Outcome, Failure> {
        // One that the stage does not know is whoever runs it: nobody here.
        let owner = user.map(|user| self.numbers(stage, user, "USER "));
        let owner = owner.and_then(Result::ok).unwrap_or((0, 0));
        let key = StepKey {
            line: step.text.clone(),
            parts: vec![
                ("what lies below", stage.digest().to_string()),
                ("the directory", format!("{dir} {owner:?}")),
                ("the time", self.settings.epoch.secs().to_string()),
            ],
        };
        let mut meta = Meta::with_mode(0o755).at(self.settings.epoch);
        (meta.uid, meta.gid) = owner;
        let make = |_: &StepWork<'_>| lay::workdir(&stage.image(self.store)?, dir, meta.clone());
        self.kept_or_made(stage, &key, None, &make)
    }

    /// `COPY` and `ADD`.
    pub(super) fn copy(
        &self,
        stage: &Built,
        plan: &CopyPlan,
        step: &StepPlan,
    ) -> Result<Outcome, Failure> {
        let (tree, ignore) = self.tree(&plan.from)?;
        let excludes = Ignore::of(&plan.excludes).map_err(Failure::new)?;
        let owner = self.owner(stage, plan)?;
        let import = self.store.import()?;
        let epoch = self.settings.epoch;
        let gatherer = Gatherer {
            tree: &tree,
            ignore: &ignore,
            excludes: &excludes,
            pool: import.pool(),
            epoch,
            owner,
            mode: plan.mode.as_ref(),
            parents: plan.parents,
            unpack: plan.unpack,
            is_add: plan.is_add,
        };
        let mut all = Vec::new();
        for source in &plan.sources {
            all.extend(gatherer.gather(source)?);
        }
        let (uid, gid) = owner.unwrap_or((0, 0));
        if let (true, Some(source)) = (
            all.is_empty() && plan.texts.is_empty(),
            plan.sources.first(),
        ) {
            return Err(gatherer.nothing(source));
        }
        let mode = plan
            .mode
            .as_ref()
            .map_or(0o644, |mode| mode.of(0o644, false));
        let mut meta = Meta::with_mode(mode).at(epoch);
        (meta.uid, meta.gid) = (uid, gid);
        for (name, text) in &plan.texts {
            all.push(gather::of_text(name, text, meta.clone(), import.pool()));
        }
        let mut dir_meta = Meta::with_mode(NEW_DIR).at(epoch);
        (dir_meta.uid, dir_meta.gid) = (uid, gid);
        let key = self.copy_key(stage, (plan, step), owner, &all);
        let all = std::cell::RefCell::new(Some(all));
        let make = |_: &StepWork<'_>| {
            let to = Destination {
                path: &plan.to,
                is_dir: plan.is_dir,
                dir_meta: dir_meta.clone(),
                link: plan.link,
            };
            let all = all.take().unwrap_or_default();
            let layer = lay::lay(&stage.image(self.store)?, all, &to)?;
            Ok(not_empty(layer))
        };
        self.kept_or_made(stage, &key, Some(import), &make)
    }

    /// What goes into a copy.
    fn copy_key(
        &self,
        stage: &Built,
        (plan, step): (&CopyPlan, &StepPlan),
        owner: Option<(u32, u32)>,
        all: &[Gathered],
    ) -> StepKey {
        let mode = plan.mode.as_ref().map(ToString::to_string);
        let instruction = format!(
            "{} {} {} {} {owner:?} {mode:?}",
            plan.to, plan.is_dir, plan.link, plan.parents
        );
        StepKey {
            line: step.text.clone(),
            parts: vec![
                ("what lies below", stage.digest().to_string()),
                ("the instruction", instruction),
                ("the files", gather::digest(all).to_string()),
                ("the time", self.settings.epoch.secs().to_string()),
            ],
        }
    }

    /// Opens what files are copied from, with what of it nobody sees.
    pub(super) fn tree(&self, from: &Origin) -> Result<(Arc<FileTree>, Ignore), Failure> {
        let none = Ignore::default();
        Ok(match from {
            Origin::Context => {
                let (tree, ignore) = self.context()?;
                (tree, ignore)
            }
            Origin::Dir(path) => {
                let tree = HostTree::open(path)?;
                let ignore = ignore_of(&tree, None)?;
                (Arc::new(FileTree::Host(tree)), ignore)
            }
            Origin::Stage(number) => (self.stage(*number)?.tree(self.store)?, none),
            Origin::Image(image) => {
                let image = self.store.image(image.id.as_str())?;
                (Arc::new(FileTree::Stored(StoredTree::of(&image)?)), none)
            }
            Origin::Scratch => {
                let tree = StoredTree::of(&Image::empty())?;
                (Arc::new(FileTree::Stored(tree)), none)
            }
        })
    }

    /// Finds the numbers of `--chown`: names are those of the stage.
    fn owner(&self, stage: &Built, plan: &CopyPlan) -> Result<Option<(u32, u32)>, Failure> {
        let Some(text) = &plan.owner else {
            return Ok(match plan.from {
                Origin::Context | Origin::Dir(_) => Some((0, 0)),
                _ => None,
            });
        };
        self.numbers(stage, text, "--chown=").map(Some)
    }

    /// Finds the numbers of a user and a group, which `by` asks for.
    fn numbers(&self, stage: &Built, text: &str, by: &str) -> Result<(u32, u32), Failure> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let names = |file: &str, name: &str| -> Result<Vec<String>, Failure> {
            let fs = Fs::new(&stage.image(self.store)?);
            let bytes = match fs.read_up_to(format!("/etc/{file}"), MAX_PROGRAM_BYTES) {
                Ok(bytes) => bytes,
                Err(error) if error.errno() == Errno::NoEntry => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            let text = String::from_utf8_lossy(&bytes);
            let fields = text
                .lines()
                .map(|line| line.split(':').map(str::to_owned).collect());
            let found = fields
                .into_iter()
                .find(|fields: &Vec<String>| fields.first().is_some_and(|known| known == name));
            found.ok_or_else(|| {
                Failure::new(format_args!(
                    "{by}{text}: /etc/{file} of the stage has no {name:?}: write numbers, as in {by}1000:1000"
                ))
            })
        };
        let number =
            |fields: &[String], at: usize| fields.get(at).and_then(|field| field.parse().ok());
        let (uid, own_gid) = match user.parse() {
            Ok(uid) => (uid, None),
            Err(_) => {
                let fields = names("passwd", user)?;
                (number(&fields, 2).unwrap_or(0), number(&fields, 3))
            }
        };
        let gid = match group {
            None => own_gid.unwrap_or(uid),
            Some(group) => match group.parse() {
                Ok(gid) => gid,
                Err(_) => number(&names("group", group)?, 2).unwrap_or(0),
            },
        };
        Ok((uid, gid))
    }
}

/// Reads what goes with the recipe, else the context's `.dockerignore`.
pub(super) fn ignore_of(
    tree: &HostTree,
    own: Option<&(String, String)>,
) -> Result<Ignore, Failure> {
    let usual = ".dockerignore";
    let (file, text) = match own {
        Some((file, text)) => (file.as_str(), text.clone()),
        None => match tree.small_text(usual)? {
            Some(text) => (usual, text),
            None => return Ok(Ignore::default()),
        },
    };
    Ignore::parse(&text).map_err(|why| Failure::new(format_args!("{file}: {why}")))
}

pub(super) fn not_empty(layer: Layer) -> Option<Layer> {
    (layer.node_count() > 1).then_some(layer)
}
