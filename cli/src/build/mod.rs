//! `stratafs image build`: a recipe's stages, step by step.

mod archive;
mod built;
mod cache;
mod context;
mod copying;
mod finish;
mod gather;
mod guests;
mod lay;
mod mounting;
mod origins;
mod outputs;
mod planner;
mod prepared;
mod progress;
mod schedule;
mod secrets;
mod settings;
mod sharing;
mod stages;
mod steps;
mod tree;
mod variables;
mod work;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use stratafs::store::Store;

use self::built::Built;
use self::copying::ignore_of;
use self::origins::Origins;
use self::outputs::Outputs;
use self::settings::Settings;
use self::steps::{StepKind, StepPlan};
use self::tree::{FileTree, HostTree};
use self::work::Outcome;
use super::build_args::BuildArgs;
use super::failure::{Failure, complain};
use super::store_dir::{self, Use};
use crate::recipe::dockerignore::Ignore;
use crate::recipe::{self, Position};

/// Everything that a step may need.
struct Builder<'a> {
    store: &'a Store,
    settings: &'a Settings,
    context: PathBuf,
    /// What goes with the recipe and says what of the context nobody sees, in place of the
    /// context's own `.dockerignore`: its name and text.
    own_ignore: Option<(String, String)>,
    /// The context, once somebody has opened it. Locked while it is opened.
    opened: Mutex<Option<(Arc<FileTree>, Ignore)>>,
    /// The stages of the plan, each once it is built.
    built: BTreeMap<usize, OnceLock<Built>>,
    /// Where the store is, and where files lie that lock what is kept in it.
    store_place: PathBuf,
    lock_dir: PathBuf,
    /// The first failure of a stage.
    failure: Mutex<Option<Failure>>,
}

pub(super) fn build(args: BuildArgs, store: Option<&Path>) -> Result<ExitCode, Failure> {
    let found = context::find(&args)?;
    let settings = Settings::of(&args, found.name)?;
    let recipe = recipe::parse(&found.text)
        .map_err(|problem| Failure::new(format_args!("{}: {problem}", settings.name)))?;
    let outputs = Outputs::check(&args)?;
    sharing::check(&args.cache_to)?;
    let store_place = store_dir::of(store)?;
    let store = store_dir::open(store, Use::Fill)?;
    // While it is open nothing that the build looks at is collected.
    let keeper = store.import()?;
    if !args.no_cache {
        sharing::take(&store, &args.cache_from, &args.reach);
    }
    let origins = Origins::new(&store, &args);
    let platform = args.set_platform.as_ref().or(args.platform.as_ref());
    let target = (args.target.as_deref(), platform);
    let plan = planner::plan(&recipe, &origins, &settings, target)?;
    if settings.progress.is_some() {
        plan.warnings
            .iter()
            .for_each(|line| complain(&format!("warning: {line}")));
    }
    let builder = Builder {
        store: &store,
        settings: &settings,
        context: args.context.clone(),
        own_ignore: found.own_ignore,
        opened: Mutex::new(found.opened.map(|tree| (tree, Ignore::default()))),
        built: plan
            .stages
            .keys()
            .map(|number| (*number, OnceLock::new()))
            .collect(),
        // Two ways to the store are one store.
        store_place: store_place.canonicalize().unwrap_or(store_place),
        lock_dir: settings
            .config
            .cache_dir
            .clone()
            .unwrap_or_else(std::env::temp_dir)
            .join("locks"),
        failure: Mutex::new(None),
    };
    let reports = builder.stages(&plan)?;
    let done = finish::finish(&builder, &plan, (&args, outputs), &reports);
    drop(keeper);
    done?;
    Ok(ExitCode::SUCCESS)
}

impl Builder<'_> {
    /// Does one step; one that changes the configuration alone has nothing to do.
    fn step(
        &self,
        stage: &Built,
        step: &StepPlan,
        say: &dyn Fn(&str),
    ) -> Result<Option<Outcome>, Failure> {
        Ok(match &step.kind {
            StepKind::Config => None,
            StepKind::Dir(dir, user) => Some(self.make_dir(stage, (dir, user.as_deref()), step)?),
            StepKind::Copy(copy) => Some(self.copy(stage, copy, step)?),
            StepKind::Run(guest) => Some(self.run(stage, guest, (step, say))?),
        })
    }

    /// A failure of a line.
    fn at(&self, at: Position, failure: &Failure) -> Failure {
        Failure::new(format_args!(
            "{}: {at}: {}",
            self.settings.name,
            failure.message()
        ))
    }

    /// A stage that has been built.
    fn stage(&self, number: usize) -> Result<&Built, Failure> {
        let built = self.built.get(&number).and_then(OnceLock::get);
        built.ok_or_else(|| Failure::new(format_args!("the stage {number} is not built")))
    }

    /// The context, opened once.
    fn context(&self) -> Result<(Arc<FileTree>, Ignore), Failure> {
        let mut held = self.opened.lock();
        if let Some((tree, ignore)) = held.as_ref() {
            return Ok((Arc::clone(tree), ignore.clone()));
        }
        let opened = match self.context.is_dir() {
            true => {
                let tree = HostTree::open(&self.context)?;
                let ignore = ignore_of(&tree, self.own_ignore.as_ref())?;
                (Arc::new(FileTree::Host(tree)), ignore)
            }
            false => {
                let options = stratafs::source::SourceOptions::default();
                let source = crate::sources::open(&self.context, &options)?;
                (context::tree_of(source)?, Ignore::default())
            }
        };
        let (tree, ignore) = held.insert(opened);
        Ok((Arc::clone(tree), ignore.clone()))
    }
}
