//! What a bundle's `config.json` asks for, as far as a guest can be given it.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::limits::{MAX_GROUPS, MAX_MOUNTS, MAX_SPEC_BYTES, MAX_SYSCTLS};
use crate::status::Status;
use crate::sysctls::NetworkSettings;

/// The annotation that tells a pod's own container from those in it.
const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";

/// The annotation that names the pod.
const SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";

/// The capability without which ports are left to the privileged.
const BIND_LOW_PORTS: &str = "CAP_NET_BIND_SERVICE";

/// What is not allowed on files that are made, as programs of systems have it.
const USUAL_MASK: u32 = 0o022;

/// Pages of memory are of this size, and a limit below one is none.
const PAGE_BYTES: u64 = 64 * 1024;

/// A period of processors if none is said, in microseconds: what a kernel takes.
const USUAL_PERIOD: u64 = 100_000;

/// Periods that may be asked for, in microseconds, and the least quota: a kernel's.
const PERIODS: std::ops::RangeInclusive<u64> = 1000..=1_000_000;

/// Shorter periods are held as one of this length with the same share: a guest is not looked at more
/// often than a hundred times a second.
const LEAST_PERIOD: u64 = 10_000;

/// A share of one processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuLimit {
    /// Time that may be taken in a period.
    pub quota: Duration,
    /// The period.
    pub period: Duration,
}

/// The network that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NetworkWish {
    /// The host's: there is no entry for one among `linux.namespaces`.
    #[default]
    Host,
    /// A new one, which has a loopback alone.
    New,
    /// The one of a path.
    At(PathBuf),
}

/// As whom files are reached that are shown to a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecUser {
    /// The number of the user, which says where its home is as well.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
    /// The numbers of its other groups.
    pub groups: Vec<u32>,
    /// The names of its capabilities: all, if it is not said.
    pub capabilities: Option<Vec<String>>,
}

/// What is asked for, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    /// The arguments, the program's name first.
    pub args: Vec<String>,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// The working directory.
    pub cwd: String,
    /// Its user.
    pub user: SpecUser,
    /// Whether the ports may be bound that are for the privileged.
    pub binds_low_ports: bool,
    /// Its network.
    pub network: NetworkWish,
    /// What the kernel has set for that.
    pub sysctls: NetworkSettings,
    /// The root file system's directory, if the caller names no mounts.
    pub root: String,
    /// Whether nothing of the root may be changed.
    pub read_only: bool,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// The share of a processor, where that is less than one.
    pub cpu: Option<CpuLimit>,
    /// Descriptors.
    pub max_open: Option<u64>,
    /// What else the guest is shown.
    pub mounts: Vec<SpecMount>,
    /// Whether it is a pod's own container, in which nothing runs.
    pub is_sandbox: bool,
    /// The pod that it belongs to, if Kubernetes made it.
    pub pod: Option<String>,
}

/// A mount of the spec.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct SpecMount {
    /// Where the guest sees it.
    pub destination: String,
    /// What kind it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// How.
    #[serde(deserialize_with = "or_none")]
    pub options: Vec<String>,
}

/// The parts of `config.json` that matter here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    process: Option<Process>,
    root: Option<Root>,
    #[serde(deserialize_with = "or_none")]
    mounts: Vec<SpecMount>,
    hooks: Option<HashMap<String, Option<Vec<serde_json::Value>>>>,
    linux: Option<Linux>,
    annotations: Option<HashMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Process {
    terminal: bool,
    #[serde(deserialize_with = "or_none")]
    args: Vec<String>,
    #[serde(deserialize_with = "or_none")]
    env: Vec<String>,
    cwd: String,
    user: User,
    capabilities: Option<Capabilities>,
    #[serde(deserialize_with = "or_none")]
    rlimits: Vec<Rlimit>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    uid: u32,
    gid: u32,
    umask: Option<u32>,
    #[serde(rename = "additionalGids", deserialize_with = "or_none")]
    groups: Vec<u32>,
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Capabilities {
    #[serde(deserialize_with = "or_none")]
    effective: Vec<String>,
    #[serde(deserialize_with = "or_none")]
    ambient: Vec<String>,
}

/// Reads a list; what Go writes for one without elements is `null`.
fn or_none<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<Vec<T>>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[derive(Deserialize)]
struct Rlimit {
    #[serde(rename = "type")]
    kind: String,
    hard: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Root {
    path: String,
    readonly: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Linux {
    resources: Option<Resources>,
    #[serde(deserialize_with = "or_none")]
    namespaces: Vec<Namespace>,
    #[serde(rename = "uidMappings", deserialize_with = "or_none")]
    uid_mappings: Vec<serde_json::Value>,
    sysctl: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resources {
    memory: Option<Memory>,
    cpu: Option<Cpu>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cpu {
    quota: Option<i64>,
    period: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Memory {
    limit: Option<i64>,
}

impl ContainerSpec {
    /// Reads a bundle's `config.json`.
    ///
    /// # Errors
    /// What is wrong with it, by the name of the field.
    pub fn read(bundle: &Path) -> Result<Self, Status> {
        let path = bundle.join("config.json");
        let said = |what: String| Status::invalid(format_args!("{}: {what}", path.display()));
        let file = File::open(&path).map_err(|error| said(error.to_string()))?;
        let mut bytes = Vec::new();
        let read = file.take(MAX_SPEC_BYTES + 1).read_to_end(&mut bytes);
        if read.map_err(|error| said(error.to_string()))? as u64 > MAX_SPEC_BYTES {
            return Err(said(format!("more than {MAX_SPEC_BYTES} bytes")));
        }
        Self::parse(&bytes).map_err(said)
    }

    /// Reads the document.
    ///
    /// # Errors
    /// What is wrong with it, by the name of the field.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let annotations = document.annotations.unwrap_or_default();
        let is_sandbox = annotations
            .get(CONTAINER_TYPE)
            .is_some_and(|kind| kind == "sandbox");
        let hooks = document.hooks.unwrap_or_default();
        if let Some((name, _)) = hooks
            .iter()
            .find(|(_, list)| list.iter().flatten().next().is_some())
        {
            return Err(format!(
                "hooks.{name}: programs of the host are not run for a guest"
            ));
        }
        if document.mounts.len() > MAX_MOUNTS {
            let count = document.mounts.len();
            return Err(format!(
                "mounts: {count} of them, the limit is {MAX_MOUNTS}"
            ));
        }
        let process = document.process.unwrap_or_default();
        if process.terminal {
            return Err("process.terminal: a guest has no terminal".to_owned());
        }
        if !is_sandbox && process.args.first().is_none_or(String::is_empty) {
            return Err("process.args: no program is named".to_owned());
        }
        if !process.user.username.is_empty() {
            let name = &process.user.username;
            return Err(format!(
                "process.user.username: {name:?}: expected numbers alone: whoever makes a spec looks names up"
            ));
        }
        let root = document.root.unwrap_or_default();
        let linux = document.linux.unwrap_or_default();
        if !linux.uid_mappings.is_empty() {
            return Err("linux.uidMappings: a guest has no namespace of users".to_owned());
        }
        let resources = linux.resources.unwrap_or_default();
        let limit = resources.memory.and_then(|memory| memory.limit);
        Ok(Self {
            env: variables(process.env)?,
            cwd: directory(process.cwd)?,
            max_open: descriptors(process.rlimits)?,
            args: process.args,
            binds_low_ports: binds_low_ports(process.user.uid, process.capabilities.as_ref()),
            user: user(process.user, process.capabilities)?,
            network: network(linux.namespaces)?,
            sysctls: sysctls(linux.sysctl.unwrap_or_default())?,
            root: root.path,
            read_only: root.readonly,
            memory: limit.map(memory_limit).transpose()?.flatten(),
            cpu: cpu_limit(&resources.cpu.unwrap_or_default())?,
            mounts: document.mounts,
            is_sandbox,
            pod: annotations.get(SANDBOX_ID).cloned(),
        })
    }
}

/// Returns whether a kernel would let a process of this kind bind any port. One that is not root's
/// has no capabilities but those that are called ambient.
fn binds_low_ports(uid: u32, capabilities: Option<&Capabilities>) -> bool {
    let has = |list: &Vec<String>| list.iter().any(|name| name == BIND_LOW_PORTS);
    match capabilities {
        None => uid == 0,
        Some(all) => has(&all.ambient) || (uid == 0 && has(&all.effective)),
    }
}

fn user(user: User, capabilities: Option<Capabilities>) -> Result<SpecUser, String> {
    // No number is, for the kernel: it means that nothing changes.
    let numbers = [user.uid, user.gid];
    if numbers.iter().chain(&user.groups).any(|&id| id == u32::MAX) {
        return Err(format!(
            "process.user: {} is not the number of a user",
            u32::MAX
        ));
    }
    if user.groups.len() > MAX_GROUPS {
        let count = user.groups.len();
        return Err(format!(
            "process.user.additionalGids: {count} of them, the limit is {MAX_GROUPS}"
        ));
    }
    if let Some(mask) = user.umask.filter(|mask| *mask != USUAL_MASK) {
        return Err(format!(
            "process.user.umask: {mask:#o}: files that are made on the host have {USUAL_MASK:#o}"
        ));
    }
    Ok(SpecUser {
        uid: user.uid,
        gid: user.gid,
        groups: user.groups,
        capabilities: capabilities.map(|all| all.effective),
    })
}

fn network(namespaces: Vec<Namespace>) -> Result<NetworkWish, String> {
    let mut all = namespaces.into_iter().filter(|one| one.kind == "network");
    let first = all.next();
    if all.next().is_some() {
        return Err("linux.namespaces: two of them are networks".to_owned());
    }
    match first.map(|namespace| namespace.path) {
        None => Ok(NetworkWish::Host),
        Some(path) if path.is_empty() => Ok(NetworkWish::New),
        Some(path) if path.starts_with('/') && !climbs(&path) && !path.contains('\0') => {
            Ok(NetworkWish::At(path.into()))
        }
        Some(path) => Err(format!(
            "linux.namespaces: network: {path:?} is no absolute path without `..`"
        )),
    }
}

fn sysctls(all: BTreeMap<String, String>) -> Result<NetworkSettings, String> {
    if all.len() > MAX_SYSCTLS {
        let count = all.len();
        return Err(format!(
            "linux.sysctl: {count} of them, the limit is {MAX_SYSCTLS}"
        ));
    }
    NetworkSettings::of(all)
}

/// Reads `NAME=VALUE`s; of one that is there twice the last holds.
fn variables(texts: Vec<String>) -> Result<Vec<(String, String)>, String> {
    let mut all: Vec<(String, String)> = Vec::with_capacity(texts.len());
    let mut places: HashMap<String, usize> = HashMap::new();
    for text in texts {
        let Some((name, value)) = text.split_once('=') else {
            return Err(format!("process.env: {text:?} has no `=`"));
        };
        let pair = (name.to_owned(), value.to_owned());
        match places.get(name).and_then(|place| all.get_mut(*place)) {
            Some(known) => *known = pair,
            None => {
                places.insert(name.to_owned(), all.len());
                all.push(pair);
            }
        }
    }
    Ok(all)
}

fn directory(cwd: String) -> Result<String, String> {
    if cwd.is_empty() {
        return Ok("/".to_owned());
    }
    if !cwd.starts_with('/') || climbs(&cwd) {
        return Err(format!(
            "process.cwd: {cwd:?} is no absolute path without `..`"
        ));
    }
    Ok(cwd)
}

/// Returns whether a path has `..` as a part.
#[must_use]
pub fn climbs(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

fn descriptors(limits: Vec<Rlimit>) -> Result<Option<u64>, String> {
    let limit = limits
        .into_iter()
        .find(|limit| limit.kind == "RLIMIT_NOFILE");
    match limit {
        Some(Rlimit { hard: 0, .. }) => {
            Err("process.rlimits: RLIMIT_NOFILE is 0: a guest needs a descriptor".to_owned())
        }
        limit => Ok(limit.map(|limit| limit.hard)),
    }
}

/// Reads a limit of memory: -1 and 0 mean that there is none.
fn memory_limit(limit: i64) -> Result<Option<u64>, String> {
    match u64::try_from(limit) {
        Ok(0) => Ok(None),
        Ok(limit) if limit >= PAGE_BYTES => Ok(Some(limit)),
        Err(_) if limit == -1 => Ok(None),
        _ => Err(format!(
            "linux.resources.memory.limit: {limit}: expected -1, 0, or {PAGE_BYTES} and more"
        )),
    }
}

/// A share of a processor; -1 and 0 are none, and one guest takes one processor at most.
fn cpu_limit(cpu: &Cpu) -> Result<Option<CpuLimit>, String> {
    let period = cpu.period.filter(|period| *period > 0);
    let period = period.unwrap_or(USUAL_PERIOD);
    if !PERIODS.contains(&period) {
        return Err(format!(
            "linux.resources.cpu.period: {period}: expected {} to {} microseconds",
            PERIODS.start(),
            PERIODS.end()
        ));
    }
    let quota = match cpu.quota.unwrap_or(-1) {
        -1 | 0 => return Ok(None),
        quota => u64::try_from(quota).unwrap_or(0),
    };
    if quota < *PERIODS.start() {
        return Err(format!(
            "linux.resources.cpu.quota: {}: expected -1, 0, or {} microseconds and more",
            cpu.quota.unwrap_or(-1),
            PERIODS.start()
        ));
    }
    if quota >= period {
        return Ok(None);
    }
    let times = LEAST_PERIOD.div_ceil(period);
    Ok(Some(CpuLimit {
        quota: Duration::from_micros(quota.saturating_mul(times)),
        period: Duration::from_micros(period.saturating_mul(times)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        ContainerSpec::parse(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_spec_is_read_as_far_as_it_matters() {
        let text = r#"{
            "ociVersion": "1.1.0", "hostname": "h", "hooks": {"prestart": null, "poststop": []},
            "process": {
                "user": {"uid": 7, "gid": 8, "additionalGids": [9]}, "args": ["/app.wasm", "-v"],
                "env": ["A=1", "B=x=y", "A=2"], "cwd": "/srv",
                "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 512}]
            },
            "root": {"path": "rootfs", "readonly": true},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc", "options": null}],
            "annotations": {"io.kubernetes.cri.sandbox-id": "p"},
            "linux": {"resources": {"memory": {"limit": 67108864}, "cpu": {"shares": 2}}}
        }"#;
        let spec = ContainerSpec::parse(text.as_bytes()).unwrap();
        let env = [("A", "2"), ("B", "x=y")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(spec.args, ["/app.wasm", "-v"]);
        assert_eq!((spec.env, spec.cwd.as_str()), (env.to_vec(), "/srv"));
        let user = SpecUser {
            uid: 7,
            gid: 8,
            groups: vec![9],
            capabilities: None,
        };
        assert_eq!((spec.user, spec.network), (user, NetworkWish::Host));
        assert_eq!((spec.memory, spec.max_open), (Some(64 << 20), Some(1024)));
        assert!(spec.read_only && !spec.is_sandbox && spec.mounts.len() == 1);
        assert_eq!(spec.pod.as_deref(), Some("p"));
    }

    #[test]
    fn networks_are_the_hosts_new_ones_or_those_of_a_path() {
        let of = |namespaces: &str| {
            let text = format!(
                r#"{{"process": {{"args": ["a"]}}, "linux": {{"namespaces": {namespaces}}}}}"#
            );
            ContainerSpec::parse(text.as_bytes()).map(|spec| spec.network)
        };
        for none in ["null", "[]", r#"[{"type": "pid", "path": "/p"}]"#] {
            assert_eq!(of(none), Ok(NetworkWish::Host), "{none}");
        }
        assert_eq!(of(r#"[{"type": "network"}]"#), Ok(NetworkWish::New));
        let path = Ok(NetworkWish::At("/run/netns/a".into()));
        assert_eq!(of(r#"[{"type": "network", "path": "/run/netns/a"}]"#), path);
    }

    #[test]
    fn ports_of_the_privileged_are_for_root_that_has_the_capability() {
        let of = |uid, effective: &[&str], ambient: &[&str]| {
            let text = |all: &[&str]| all.iter().map(|&name| name.to_owned()).collect();
            let all = Capabilities {
                effective: text(effective),
                ambient: text(ambient),
            };
            binds_low_ports(uid, Some(&all))
        };
        assert!(binds_low_ports(0, None) && !binds_low_ports(7, None));
        assert!(of(0, &[BIND_LOW_PORTS], &[]) && !of(0, &["CAP_KILL"], &[]));
        assert!(!of(7, &[BIND_LOW_PORTS], &[]) && of(7, &[], &[BIND_LOW_PORTS]));
    }

    #[test]
    fn a_pod_itself_needs_no_program() {
        let text = r#"{"annotations": {"io.kubernetes.cri.container-type": "sandbox"}}"#;
        assert!(ContainerSpec::parse(text.as_bytes()).unwrap().is_sandbox);
    }

    #[test]
    fn a_hostile_spec_is_refused_by_the_name_of_the_field() {
        let process =
            |inner: &str| refused(&format!(r#"{{"process": {{"args": ["a"], {inner}}}}}"#));
        assert_eq!(refused("{}"), "process.args: no program is named");
        assert_eq!(
            process(r#""terminal": true"#),
            "process.terminal: a guest has no terminal"
        );
        assert_eq!(
            process(r#""user": {"username": "app"}"#),
            "process.user.username: \"app\": expected numbers alone: whoever makes a spec looks names up"
        );
        for uid in ["-1", "4294967296", "\"app\""] {
            let text = process(&format!(r#""user": {{"uid": {uid}}}"#));
            assert!(text.contains("invalid"), "{text}");
        }
        assert_eq!(process(r#""env": ["A"]"#), "process.env: \"A\" has no `=`");
        for cwd in ["srv", "/a/../b"] {
            let text = process(&format!(r#""cwd": "{cwd}""#));
            assert_eq!(
                text,
                format!("process.cwd: {cwd:?} is no absolute path without `..`")
            );
        }
        assert!(
            process(r#""rlimits": [{"type": "RLIMIT_NOFILE", "hard": 0}]"#)
                .contains("RLIMIT_NOFILE")
        );
        assert!(
            process(r#""rlimits": [{"type": "RLIMIT_NOFILE", "hard": -1}]"#)
                .contains("invalid value")
        );
        let limit = |limit: &str| {
            let text = format!(
                r#"{{"process": {{"args": ["a"]}}, "linux": {{"resources": {{"memory": {{"limit": {limit}}}}}}}}}"#
            );
            ContainerSpec::parse(text.as_bytes()).map(|spec| spec.memory)
        };
        assert_eq!((limit("-1"), limit("0")), (Ok(None), Ok(None)));
        assert_eq!(limit("65536"), Ok(Some(65536)));
        for wrong in ["-2", "1", "65535", "99999999999999999999", "\"1\""] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
        let cpu = |cpu: &str| {
            let text = format!(
                r#"{{"process": {{"args": ["a"]}}, "linux": {{"resources": {{"cpu": {{{cpu}}}}}}}}}"#
            );
            ContainerSpec::parse(text.as_bytes()).map(|spec| spec.cpu)
        };
        let limit = |quota, period| {
            Ok(Some(CpuLimit {
                quota: Duration::from_micros(quota),
                period: Duration::from_micros(period),
            }))
        };
        for none in [
            "",
            r#""shares": 2"#,
            r#""quota": -1"#,
            r#""quota": 0, "period": 0"#,
            r#""quota": 100000"#,
        ] {
            assert_eq!(cpu(none), Ok(None), "{none}");
        }
        assert_eq!(cpu(r#""quota": 20000"#), limit(20_000, 100_000));
        assert_eq!(cpu(r#""quota": 1000, "period": 3000"#), limit(4000, 12_000));
        assert!(
            cpu(r#""quota": 999"#)
                .unwrap_err()
                .contains("cpu.quota: 999")
        );
        assert!(cpu(r#""quota": -2"#).unwrap_err().contains("cpu.quota: -2"));
        for period in [999, 1_000_001, u64::MAX] {
            let text = cpu(&format!(r#""quota": 1000, "period": {period}"#)).unwrap_err();
            assert!(text.contains("cpu.period"), "{text}");
        }
        let sysctl = |sysctl: &str| {
            let text =
                format!(r#"{{"process": {{"args": ["a"]}}, "linux": {{"sysctl": {{{sysctl}}}}}}}"#);
            ContainerSpec::parse(text.as_bytes()).map(|spec| spec.sysctls)
        };
        assert_eq!(sysctl(""), Ok(NetworkSettings::default()));
        let first = sysctl(r#""net.ipv4.ip_forward": "1""#).unwrap();
        assert_eq!(first.first(), Some("net.ipv4.ip_forward"));
        let text = sysctl(r#""kernel.shmmax": "1""#).unwrap_err();
        assert!(text.contains("linux.sysctl: \"kernel.shmmax\""), "{text}");
        assert!(sysctl(r#""net.ipv4.ip_forward": 1"#).is_err());
        let many: Vec<String> = (0..=MAX_SYSCTLS)
            .map(|number| format!(r#""net.{number}": """#))
            .collect();
        let text = sysctl(&many.join(",")).unwrap_err();
        assert_eq!(text, "linux.sysctl: 257 of them, the limit is 256");
        let hooks = r#"{"process": {"args": ["a"]}, "hooks": {"poststop": [{"path": "/bin/sh"}]}}"#;
        assert_eq!(
            refused(hooks),
            "hooks.poststop: programs of the host are not run for a guest"
        );
        let mounts = vec!["{}"; MAX_MOUNTS + 1].join(",");
        let many = format!(r#"{{"process": {{"args": ["a"]}}, "mounts": [{mounts}]}}"#);
        assert_eq!(refused(&many), "mounts: 257 of them, the limit is 256");
        let deep = "[".repeat(1_000_000);
        assert!(refused(&format!(r#"{{"x": {deep}"#)).contains("EOF"));
    }

    #[test]
    fn a_large_file_is_not_read_to_its_end() {
        let bundle = tempfile::tempdir().unwrap();
        let file = File::create(bundle.path().join("config.json")).unwrap();
        file.set_len(1 << 40).unwrap();
        let error = ContainerSpec::read(bundle.path()).unwrap_err();
        assert!(
            error.message.ends_with("more than 4194304 bytes"),
            "{error}"
        );
    }
}
