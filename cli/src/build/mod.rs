//! `stratafs image build`: a recipe's stages, step by step.

mod archive;
mod built;
mod cache;
mod copying;
mod finish;
mod gather;
mod guests;
mod lay;
mod mounting;
mod origins;
mod outputs;
mod planner;
mod progress;
mod settings;
mod steps;
mod tree;
mod variables;
mod work;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use stratafs::image::HistoryEntry;
use stratafs::store::Store;

use self::built::Built;
use self::copying::ignore_of;
use self::finish::StepTold;
use self::origins::{Origin, Origins};
use self::outputs::Outputs;
use self::planner::BuildPlan;
use self::progress::Progress;
use self::settings::Settings;
use self::steps::{StagePlan, StepKind, StepPlan};
use self::tree::{FileTree, HostTree, StoredTree};
use self::work::Outcome;
use super::build_args::BuildArgs;
use super::failure::{Failure, complain};
use super::place::{self, Use};
use super::recipe_file;
use crate::recipe::dockerignore::Ignore;
use crate::recipe::{self, Position};

/// Everything that a step may need.
struct Builder<'a> {
    store: &'a Store,
    settings: &'a Settings,
    context: PathBuf,
    /// Files that may say what of the context nobody sees, the first that is there.
    ignore_files: Vec<String>,
    opened: OnceCell<(Rc<FileTree>, Ignore)>,
    built: BTreeMap<usize, Built>,
}

pub(super) fn build(args: BuildArgs, store: Option<&Path>) -> Result<ExitCode, Failure> {
    let file = match &args.file {
        Some(file) => file.clone(),
        None => recipe_file::usual(&args.context)?,
    };
    let (name, text) = recipe_file::read(&file)?;
    let settings = Settings::of(&args, name)?;
    let recipe = recipe::parse(&text)
        .map_err(|problem| Failure::new(format_args!("{}: {problem}", settings.name)))?;
    let outputs = Outputs::check(&args)?;
    let store = place::open(store, Use::Fill)?;
    // While it is open nothing that the build looks at is collected.
    let keeper = store.import()?;
    let origins = Origins::new(&store, &args);
    let platform = args.set_platform.as_ref().or(args.platform.as_ref());
    let target = (args.target.as_deref(), platform);
    let plan = planner::plan(&recipe, &origins, &settings, target)?;
    if settings.progress.is_some() {
        plan.warnings
            .iter()
            .for_each(|line| complain(&format!("warning: {line}")));
    }
    let mut builder = Builder {
        store: &store,
        settings: &settings,
        context: args.context.clone(),
        ignore_files: ignore_files(&args),
        opened: OnceCell::new(),
        built: BTreeMap::new(),
    };
    let told = builder.stages(&plan)?;
    let done = finish::finish(&builder, &plan, (&args, outputs), &told);
    drop(keeper);
    done?;
    Ok(ExitCode::SUCCESS)
}

/// The ignore file that goes with a recipe stands beside it, or in the context.
fn ignore_files(args: &BuildArgs) -> Vec<String> {
    let own = args.file.as_ref().and_then(|file| {
        let inner = match args.context == Path::new(".") {
            true => file,
            false => file.strip_prefix(&args.context).ok()?,
        };
        let is_inside = inner
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        is_inside.then(|| format!("{}.dockerignore", inner.display()))
    });
    own.into_iter()
        .chain([".dockerignore".to_owned()])
        .collect()
}

impl Builder<'_> {
    fn stages(&mut self, plan: &BuildPlan) -> Result<Vec<StepTold>, Failure> {
        let steps = plan
            .stages
            .values()
            .map(|stage| stage.steps.len() + 1)
            .sum();
        let mut progress = Progress::new(self.settings.progress, steps);
        let mut told = Vec::with_capacity(steps);
        for (number, stage) in &plan.stages {
            let built = self.one_stage(stage, &mut progress, &mut told);
            let built = match built {
                Ok(built) => built,
                Err(failure) => {
                    progress.finish();
                    return Err(failure);
                }
            };
            self.built.insert(*number, built);
        }
        progress.finish();
        Ok(told)
    }

    fn one_stage(
        &self,
        plan: &StagePlan,
        progress: &mut Progress,
        told: &mut Vec<StepTold>,
    ) -> Result<Built, Failure> {
        let step = progress.begin(&plan.title, &plan.text);
        let mut built = match &plan.base {
            Origin::Stage(number) => self.stage(*number)?.clone(),
            Origin::Image(image) => Built::on(image),
            Origin::Scratch | Origin::Context | Origin::Dir(_) => Built::default(),
        };
        let took = progress.end(&step, true);
        told.push(StepTold::of_base(plan, took));
        for step in &plan.steps {
            let shown = progress.begin(&plan.title, &step.text);
            let say = |text: &str| progress.say(&shown, text);
            let done = self.step(&built, step, &say);
            let done = done.map_err(|failure| self.at(step.at, &failure))?;
            if let Some(why) = done.as_ref().and_then(|done| done.why.as_ref()) {
                progress.say(&shown, why);
            }
            let cached = done.as_ref().is_none_or(|done| done.cached);
            let took = progress.end(&shown, cached);
            told.push(StepTold::of(plan, step, done.as_ref(), took));
            let layer = done.and_then(|done| done.layer);
            let mut history = HistoryEntry::by(&step.said);
            history.created = Some(finish::rfc3339(self.settings.epoch));
            history.empty_layer = layer.is_none();
            built.history.push(history);
            if let Some(layer) = layer {
                built.push(layer);
            }
        }
        Ok(built)
    }

    /// Does one step; one that changes the configuration alone has nothing to do.
    fn step(
        &self,
        stage: &Built,
        step: &StepPlan,
        say: &dyn Fn(&str),
    ) -> Result<Option<Outcome>, Failure> {
        Ok(match &step.kind {
            StepKind::Config => None,
            StepKind::Dir(dir) => Some(self.make_dir(stage, dir, step)?),
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
        let built = self.built.get(&number);
        built.ok_or_else(|| Failure::new(format_args!("the stage {number} is not built")))
    }

    /// The context, opened once.
    fn context(&self) -> Result<(Rc<FileTree>, Ignore), Failure> {
        if let Some((tree, ignore)) = self.opened.get() {
            return Ok((Rc::clone(tree), ignore.clone()));
        }
        let opened = match self.context.is_dir() {
            true => {
                let tree = HostTree::open(&self.context)?;
                let ignore = ignore_of(&tree, &self.ignore_files)?;
                (Rc::new(FileTree::Host(tree)), ignore)
            }
            false => {
                let pool = stratafs::chunk::ChunkPool::new();
                let options = stratafs::source::SourceOptions::default();
                let layers =
                    crate::sources::open(&self.context, &options)?.layers(&pool, &options)?;
                let tree = StoredTree::of(&stratafs::image::Image::new(&layers)?)?;
                (Rc::new(FileTree::Stored(tree)), Ignore::default())
            }
        };
        let (tree, ignore) = self.opened.get_or_init(|| opened);
        Ok((Rc::clone(tree), ignore.clone()))
    }
}
