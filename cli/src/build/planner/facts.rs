//! Instructions that change the configuration alone.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::StagePlanner;
use crate::recipe::{CommandLine, InstructionBody, Piece, Position, Problem};

/// Bytes that a port takes beside those of its name.
const PORT_BYTES: usize = 64;

impl StagePlanner<'_, '_> {
    /// Takes an instruction over into the configuration, and says what the history says.
    pub(super) fn fact(&mut self, body: &InstructionBody, at: Position) -> Result<String, Problem> {
        Ok(match body {
            InstructionBody::Arg(args) => self.args(args)?,
            InstructionBody::Env(pairs) => {
                let pairs = self.pairs(pairs)?;
                for (name, value) in &pairs {
                    if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                        let what = format_args!("{name:?} cannot be a variable's name");
                        return Err(Problem::new(at, what));
                    }
                    self.own.set(name.clone(), value.clone(), at)?;
                }
                self.config.env = self.own.env();
                format!("ENV {}", joined(&pairs))
            }
            InstructionBody::Label(pairs) => {
                let pairs = self.pairs(pairs)?;
                if pairs.iter().any(|(name, _)| name.is_empty()) {
                    let what =
                        "a label's name is empty with its variables replaced: write NAME=VALUE";
                    return Err(Problem::new(at, what));
                }
                self.config.labels.extend(pairs.iter().cloned());
                format!("LABEL {}", joined(&pairs))
            }
            InstructionBody::User(user) => {
                let user = self.word(user)?;
                self.config.user = Some(user.clone());
                format!("USER {user}")
            }
            InstructionBody::Expose(ports) => self.expose(ports)?,
            InstructionBody::Volume(dirs) => {
                let mut all = Vec::new();
                for dir in dirs {
                    let dir = super::absolute(&self.workdir(), &self.word(dir)?, dir.at)?;
                    add(&mut self.config.volumes, &dir);
                    all.push(dir);
                }
                format!("VOLUME {}", all.join(" "))
            }
            InstructionBody::StopSignal(signal) => self.stop_signal(signal)?,
            InstructionBody::Maintainer(name) => {
                self.config.author = Some(name.text.clone());
                format!("MAINTAINER {}", name.text)
            }
            InstructionBody::Entrypoint(command) => {
                let words = self.words("ENTRYPOINT", command)?;
                let text = format!("ENTRYPOINT {}", json(&words));
                self.config.entrypoint = Some(words);
                if !self.has_cmd {
                    self.config.cmd = None;
                }
                text
            }
            InstructionBody::Cmd(command) => {
                let words = self.words("CMD", command)?;
                let text = format!("CMD {}", json(&words));
                self.config.cmd = Some(words);
                self.has_cmd = true;
                text
            }
            InstructionBody::Shell(words) => {
                self.shell = Some(words.clone());
                format!("SHELL {}", json(words))
            }
            // The others are steps of their own, or were refused.
            _ => String::from("HEALTHCHECK"),
        })
    }

    fn stop_signal(&mut self, piece: &Piece) -> Result<String, Problem> {
        let signal = self.word(piece)?;
        if !is_signal(&signal) {
            let what =
                format_args!("{signal:?} is not a signal: write STOPSIGNAL SIGTERM, TERM or 15");
            return Err(Problem::new(piece.at, what));
        }
        self.config.stop_signal = Some(signal.clone());
        Ok(format!("STOPSIGNAL {signal}"))
    }

    fn args(&mut self, args: &[(String, Option<Piece>)]) -> Result<String, Problem> {
        for (name, value) in args {
            self.head.declare_in(&mut self.own, name, value.as_ref())?;
        }
        let names: Vec<&str> = args.iter().map(|(name, _)| name.as_str()).collect();
        Ok(format!("ARG {}", names.join(" ")))
    }

    /// Expands pairs: all of a line see what stood before it.
    fn pairs(&self, pairs: &[(Piece, Piece)]) -> Result<Vec<(String, String)>, Problem> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| Ok((self.word(name)?, self.word(value)?)))
            .collect()
    }

    fn expose(&mut self, ports: &[Piece]) -> Result<String, Problem> {
        let ports_now = self.config.exposed_ports.iter().cloned();
        let mut known: BTreeSet<String> = ports_now.collect();
        let mut all = Vec::new();
        for piece in ports {
            for port in self.word(piece)?.split_whitespace() {
                let (ends, protocol) = ports_of(port).ok_or_else(|| {
                    Problem::new(
                        piece.at,
                        format_args!(
                            "{port:?} is not a port: write EXPOSE 80, 80/udp or 8000-8010"
                        ),
                    )
                })?;
                // A range is each of its ports: nobody who reads the image knows ranges.
                for number in ends {
                    let port = format!("{number}/{protocol}");
                    self.head.count(port.len() + PORT_BYTES, piece.at)?;
                    if known.insert(port.clone()) {
                        self.config.exposed_ports.push(port);
                    }
                }
                all.push(port.to_ascii_lowercase());
            }
        }
        Ok(format!("EXPOSE {}", all.join(" ")))
    }

    /// The words of a command: text is for the stage's shell.
    pub(super) fn words(&self, name: &str, command: &CommandLine) -> Result<Vec<String>, Problem> {
        let text = match command {
            CommandLine::Exec(words) => return Ok(words.clone()),
            CommandLine::Shell(text) => text,
        };
        let Some(shell) = &self.shell else {
            let hint = match text.text.starts_with('[') {
                true => "what stands there is not a JSON array of strings in double quotes",
                false => "text is for a shell, and this stage has none",
            };
            return Err(Problem::new(
                text.at,
                format_args!(
                    "{hint}: write {name} [\"/PROGRAM.wasm\", \"ARGUMENT\"], or name a shell that is WebAssembly before it: SHELL [\"/bin/sh.wasm\", \"-c\"]"
                ),
            ));
        };
        Ok([shell.as_slice(), std::slice::from_ref(&text.text)].concat())
    }
}

/// Reads `80`, `80/udp` or `8000-8010`.
fn ports_of(text: &str) -> Option<(RangeInclusive<u16>, String)> {
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    let protocol = protocol.to_ascii_lowercase();
    let known = ["tcp", "udp", "sctp"].contains(&protocol.as_str());
    (known && first > 0 && first <= last).then_some((first..=last, protocol))
}

/// Returns whether text names a signal of Linux: a number, or a name with `SIG` or without.
fn is_signal(text: &str) -> bool {
    const NAMES: &str = "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMAX";
    let is_number = |text: &str| {
        text.parse::<u8>()
            .is_ok_and(|number| (1..=64).contains(&number))
    };
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = name
        .strip_prefix("RTMIN+")
        .or_else(|| name.strip_prefix("RTMAX-"));
    is_number(text)
        || NAMES.split(' ').any(|known| known == name)
        || real_time.is_some_and(is_number)
}

fn add(all: &mut Vec<String>, one: &str) {
    if !all.iter().any(|known| known == one) {
        all.push(one.to_owned());
    }
}

fn joined(pairs: &[(String, String)]) -> String {
    let pairs = pairs.iter();
    let pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join(" ")
}

pub(super) fn json(words: &[String]) -> String {
    serde_json::to_string(words).unwrap_or_default()
}
