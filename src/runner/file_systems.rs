//! The file systems of a run: one for each instance, and the volumes that all share.

use std::num::NonZeroU64;
use std::sync::Arc;

use bytes::Bytes;

use super::{RunPlan, RunnerError};
use crate::image::Image;
use crate::limits::MAX_VOLUMES;
use crate::vfs::{Clock, Fs, Rights, Share, Trace, VirtualClock, VirtualFile};

/// Makes the volumes of a run, one for each name, in the order of first use.
/// Their device numbers count on from 2: 1 is each instance's own tree.
pub(super) fn make_volumes(plan: &RunPlan) -> Vec<(String, Fs)> {
    let mut made: Vec<(String, Fs)> = Vec::new();
    for volume in &plan.volumes {
        if made.iter().any(|(name, _)| *name == volume.name) {
            continue;
        }
        let base = plan
            .volume_bases
            .iter()
            .find(|(name, _)| *name == volume.name);
        let base = base.map_or_else(Image::empty, |(_, base)| base.clone());
        let mut quotas = plan.volume_quotas.iter();
        let own = quotas.find(|(name, _)| *name == volume.name);
        let mut builder = Fs::builder(&base)
            .quota(own.map_or(plan.volume_quota, |(_, quota)| *quota))
            .device(NonZeroU64::MIN.saturating_add(made.len() as u64 + 1));
        if matches!(plan.share, Share::None) {
            builder = builder.share(Share::None);
        }
        if let Some(budget) = &plan.budget {
            builder = builder.budget(budget, &format!("volume {}", volume.name));
        }
        if let Some(clock) = clock_of(plan) {
            builder = builder.clock(clock);
        }
        if plan.read_only_volumes.contains(&volume.name) {
            builder = builder.read_only();
        }
        made.push((volume.name.clone(), builder.build()));
    }
    made
}

/// Makes the clock of one file system; `None` for the system's.
fn clock_of(plan: &RunPlan) -> Option<Arc<dyn Clock>> {
    if plan.deterministic {
        return Some(Arc::new(VirtualClock::starting_at(plan.clock_start)));
    }
    #[cfg(feature = "freeze")]
    if let Some(from) = plan.wall_from {
        return Some(Arc::new(super::freeze::WallFrom::new(from)));
    }
    None
}

/// Refuses volumes that no run could have.
pub(super) fn check_volumes(plan: &RunPlan) -> Result<(), RunnerError> {
    if plan.volumes.iter().any(|volume| volume.name.is_empty()) {
        return Err(RunnerError::Argument {
            what: "volume".to_owned(),
            reason: "its name is empty",
        });
    }
    if plan.volumes.len() > MAX_VOLUMES {
        return Err(RunnerError::Argument {
            what: format!("{} volumes", plan.volumes.len()),
            reason: "more than one run can have",
        });
    }
    Ok(())
}

/// Makes the file system of the instance of this number from what all of them
/// share.
pub(super) fn make_fs(
    image: &Image,
    plan: &RunPlan,
    volumes: &[(String, Fs)],
    instance: u32,
) -> Result<Fs, RunnerError> {
    let mut builder = Fs::builder(image)
        .quota(plan.quota)
        .share(plan.share.clone());
    if let Some(budget) = &plan.budget {
        builder = builder.budget(budget, &format!("instance {instance}"));
    }
    if plan.rights == Rights::ReadOnly {
        builder = builder.read_only();
    }
    if let Some(clock) = clock_of(plan) {
        builder = builder.clock(clock);
    }
    if plan.trace {
        builder = builder.trace(Trace::new());
    }
    let fs = builder.build();
    for file in &plan.files {
        let bytes = Bytes::copy_from_slice(&file.bytes);
        let given: Arc<dyn VirtualFile> = Arc::new(move || bytes.to_vec());
        let shown = fs.mount_file(&file.path, given);
        shown.map_err(|error| RunnerError::Preopen {
            path: file.path.clone().into_bytes(),
            errno: error.errno(),
        })?;
    }
    for (path, volume) in mount_points(plan) {
        let made = volumes.iter().find(|(name, _)| Some(name) == volume);
        let shown = match made {
            Some((_, volume)) => fs.mount(&path, volume, "/", Rights::ReadWrite),
            None => fs.keep_dir(&path),
        };
        shown.map_err(|error| RunnerError::Preopen {
            path: path.into_bytes(),
            errno: error.errno(),
        })?;
    }
    for (path, rule) in &plan.rules {
        let made = fs.set_rule(path, *rule);
        made.map_err(|error| RunnerError::Rule {
            path: path.clone(),
            errno: error.errno(),
        })?;
    }
    Ok(fs)
}

/// Where guest directories lie below others that are shown: paths of the
/// layered file system that must be there for the guest to list, with the name
/// of the volume that is mounted there.
///
/// O(names), sorted.
fn mount_points(plan: &RunPlan) -> Vec<(String, Option<&String>)> {
    let layered = plan.preopens.iter();
    let layered = layered.map(|shown| (&shown.guest, None, Some(&shown.dir)));
    let hosts = plan.host_dirs.iter().map(|dir| (&dir.guest, None, None));
    let volumes = plan.volumes.iter();
    let volumes = volumes.map(|volume| (&volume.guest, Some(&volume.name), None));
    let all = layered.chain(hosts).chain(volumes).enumerate();
    let all = all.map(|(order, (guest, volume, dir))| (components(guest), order, volume, dir));
    let mut all: Vec<_> = all.filter(|(names, ..)| !names.contains(&"..")).collect();
    // Each comes behind those that it lies below.
    all.sort();
    let mut mount_points = Vec::new();
    let mut above: Vec<(&[&str], &String)> = Vec::new();
    for (names, order, volume, dir) in &all {
        while above.pop_if(|(top, _)| !names.starts_with(top)).is_some() {}
        // The one nearest above is the one that a guest lists it in.
        let mut nearest = above.iter().rev();
        if let Some((top, dir)) = nearest.find(|(top, _)| top.len() < names.len()) {
            let rest = names.get(top.len()..).unwrap_or_default().join("/");
            mount_points.push((*order, (format!("{dir}/{rest}"), *volume)));
        }
        above.extend(dir.map(|dir| (names.as_slice(), dir)));
    }
    mount_points.sort_unstable_by_key(|(order, _)| *order);
    mount_points.into_iter().map(|(_, point)| point).collect()
}

fn components(path: &str) -> Vec<&str> {
    let named = |part: &&str| !part.is_empty() && *part != ".";
    path.split('/').filter(named).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{GuestDir, Volume};
    use super::*;

    #[test]
    fn places_lie_in_the_nearest_directory_above() {
        let preopen = |dir: &str, guest: &str| GuestDir {
            dir: dir.into(),
            guest: guest.into(),
            rights: Rights::ReadWrite,
        };
        let volume = |guest: &str| Volume {
            name: "v".into(),
            guest: guest.into(),
        };
        let mut plan = RunPlan {
            preopens: vec![preopen("/", "/"), preopen("/srv/app", "/app")],
            volumes: vec![volume("/app/./data/"), volume("/x/../y"), volume("cache")],
            ..RunPlan::default()
        };
        let paths = |plan: &RunPlan| -> Vec<_> {
            let all = mount_points(plan).into_iter();
            all.map(|(path, volume)| (path, volume.is_some())).collect()
        };
        let volume = ("/srv/app/data".to_owned(), true);
        let want = [
            ("//app".into(), false),
            volume.clone(),
            ("//cache".into(), true),
        ];
        assert_eq!(paths(&plan), want);
        plan.preopens.remove(0);
        assert_eq!(paths(&plan), [volume]);
    }
}
