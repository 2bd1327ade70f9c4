//! From logical lines to instructions.

use super::flags::{self, Flag};
use super::heredoc::{self, HeredocWord};
use super::instruction::{CommandLine, Instruction, InstructionBody, Piece, RunLine};
use super::lexer::{self, LogicalLine};
use super::mounts;
use super::problem::{Problem, shortened};
use super::remark::Remark;
use super::stages::{self, Recipe};
use super::transfer;
use super::words::{json, plain_words, raw_words};

/// The instructions that there are, for those who wrote another word.
const INSTRUCTIONS: [&str; 16] = [
    "FROM",
    "ARG",
    "ENV",
    "LABEL",
    "COPY",
    "ADD",
    "RUN",
    "WORKDIR",
    "USER",
    "EXPOSE",
    "VOLUME",
    "ENTRYPOINT",
    "CMD",
    "SHELL",
    "STOPSIGNAL",
    "HEALTHCHECK",
];

/// Reads a recipe. Nothing is expanded; every line is read, those of stages that nobody
/// needs as well.
pub(crate) fn parse(text: &str) -> Result<Recipe, Problem> {
    let lexed = lexer::lex(text)?;
    let mut warnings = lexed.warnings;
    let mut instructions = Vec::with_capacity(lexed.lines.len());
    let mut remarks = Vec::new();
    for line in &lexed.lines {
        let parser = LineParser::new(line, lexed.escape);
        let body = parser.body()?;
        let warning = match &body {
            InstructionBody::Healthcheck => {
                Some("HEALTHCHECK: OCI's images have no place for one: it is left out")
            }
            InstructionBody::Maintainer(_) => {
                Some("MAINTAINER is out of use: write LABEL org.opencontainers.image.authors=NAME")
            }
            _ => None,
        };
        warnings.extend(warning.map(|what| Problem::new(parser.at(), what)));
        remarks.extend(line.remarks.iter().cloned().map(|remark| Remark {
            about: parser.at().line,
            ..remark
        }));
        instructions.push(Instruction {
            at: parser.at(),
            text: line.text.trim().to_owned(),
            body,
        });
    }
    let mut recipe = stages::split(instructions, lexed.escape)?;
    recipe.warnings = warnings;
    recipe.remarks = remarks;
    Ok(recipe)
}

/// One line on its way.
struct LineParser<'a> {
    line: &'a LogicalLine,
    escape: char,
    name: String,
    /// Where what follows the name begins.
    start: usize,
}

impl<'a> LineParser<'a> {
    fn new(line: &'a LogicalLine, escape: char) -> Self {
        let text = &line.text;
        let indent = text.len() - text.trim_start().len();
        let rest = text.get(indent..).unwrap_or_default();
        let len = rest.find(char::is_whitespace).unwrap_or(rest.len());
        Self {
            line,
            escape,
            name: rest.get(..len).unwrap_or_default().to_ascii_uppercase(),
            start: indent + len,
        }
    }

    fn at(&self) -> super::Position {
        let text = &self.line.text;
        self.line.position(text.len() - text.trim_start().len())
    }

    fn body(&self) -> Result<InstructionBody, Problem> {
        Ok(match self.name.as_str() {
            "FROM" => self.from()?,
            "ARG" => InstructionBody::Arg(self.arg()?),
            "ENV" => InstructionBody::Env(self.pairs()?),
            "LABEL" => InstructionBody::Label(self.pairs()?),
            "COPY" => {
                InstructionBody::Copy(transfer::read(self.line, self.start, self.escape, "COPY")?)
            }
            "ADD" => {
                InstructionBody::Add(transfer::read(self.line, self.start, self.escape, "ADD")?)
            }
            "RUN" => InstructionBody::Run(self.run()?),
            "WORKDIR" => InstructionBody::Workdir(self.rest("a directory: write WORKDIR /DIR")?),
            "USER" => InstructionBody::User(self.rest("a user: write USER NAME[:GROUP]")?),
            "STOPSIGNAL" => {
                InstructionBody::StopSignal(self.rest("a signal: write STOPSIGNAL SIGTERM")?)
            }
            "MAINTAINER" => InstructionBody::Maintainer(self.rest("a name")?),
            "EXPOSE" => InstructionBody::Expose(self.list("a port: write EXPOSE 80/tcp")?),
            "VOLUME" => InstructionBody::Volume(self.list("a directory: write VOLUME /DIR")?),
            "ENTRYPOINT" => InstructionBody::Entrypoint(self.command()?),
            "CMD" => InstructionBody::Cmd(self.command()?),
            "SHELL" => InstructionBody::Shell(self.shell()?),
            "HEALTHCHECK" => {
                self.healthcheck()?;
                InstructionBody::Healthcheck
            }
            "ONBUILD" => {
                return Err(self.refuse(
                    "ONBUILD: OCI's images have no place for it: write what it holds into the recipe that builds on this image",
                ));
            }
            other => {
                return Err(self.refuse(format_args!(
                    "{:?} is not an instruction: write one of {}",
                    shortened(other),
                    INSTRUCTIONS.join(", ")
                )));
            }
        })
    }

    fn refuse(&self, what: impl std::fmt::Display) -> Problem {
        Problem::new(self.at(), what)
    }

    fn piece(&self, offset: usize, text: impl Into<String>) -> Piece {
        Piece {
            text: text.into(),
            at: self.line.position(offset),
        }
    }

    /// Takes flags that have to be among those that `take` knows.
    fn flags(
        &self,
        known: &str,
        mut take: impl FnMut(&Flag) -> Result<bool, Problem>,
    ) -> Result<usize, Problem> {
        let (flags, start) = flags::take(self.line, self.start, self.escape);
        flags::check_once(&flags)?;
        for flag in &flags {
            if !take(flag)? {
                return Err(flag.unknown(&self.name, known));
            }
        }
        Ok(start)
    }

    /// The text of the line from `start` on.
    fn text(&self, start: usize) -> (usize, &'a str) {
        let rest = self.line.text.get(start..).unwrap_or_default();
        let indent = rest.len() - rest.trim_start().len();
        (start + indent, rest.trim())
    }

    /// The rest of the line as one word.
    fn rest(&self, lacks: &str) -> Result<Piece, Problem> {
        let start = self.flags("", |_| Ok(false))?;
        let (at, text) = self.text(start);
        match text.is_empty() {
            true => Err(self.refuse(format_args!("{} needs {lacks}", self.name))),
            false => Ok(self.piece(at, text)),
        }
    }

    /// Words, or a JSON array of them.
    fn list(&self, lacks: &str) -> Result<Vec<Piece>, Problem> {
        let start = self.flags("", |_| Ok(false))?;
        let (at, text) = self.text(start);
        let words = match json(self.line, start)? {
            Some(words) => words.into_iter().map(|word| (at, word)).collect(),
            None => plain_words(text, at),
        };
        if words.is_empty() {
            return Err(self.refuse(format_args!("{} needs {lacks}", self.name)));
        }
        let pieces = words.into_iter();
        Ok(pieces.map(|(at, word)| self.piece(at, word)).collect())
    }

    fn from(&self) -> Result<InstructionBody, Problem> {
        let mut platform = None;
        let start = self.flags("--platform", |flag| {
            if flag.name == "platform" {
                platform = Some(Piece {
                    text: flag.value()?,
                    at: flag.at,
                });
            }
            Ok(flag.name == "platform")
        })?;
        let (at, text) = self.text(start);
        let words = plain_words(text, at);
        let (image, name) = match words.as_slice() {
            [image] => (image, None),
            [image, word, name] if word.1.eq_ignore_ascii_case("as") => (image, Some(name)),
            _ => return Err(self.refuse("write `FROM IMAGE` or `FROM IMAGE AS NAME`")),
        };
        if let Some((at, name)) = name.filter(|(_, name)| !stages::is_name(name)) {
            return Err(Problem::new(
                self.line.position(*at),
                format_args!(
                    "{name:?} cannot be a stage's name: a letter, then letters, digits, `-`, `_` or `.`"
                ),
            ));
        }
        Ok(InstructionBody::From {
            image: self.piece(image.0, image.1.clone()),
            platform,
            name: name.map(|(_, name)| name.to_ascii_lowercase()),
        })
    }

    fn arg(&self) -> Result<Vec<(String, Option<Piece>)>, Problem> {
        let start = self.flags("", |_| Ok(false))?;
        let (at, text) = self.text(start);
        let words = raw_words(text, at, self.escape);
        if words.is_empty() {
            return Err(self.refuse("ARG needs a name: write ARG NAME or ARG NAME=VALUE"));
        }
        let mut args = Vec::with_capacity(words.len());
        for (at, word) in words {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => {
                    let value = self.piece(at + name.len() + 1, value);
                    (name.to_owned(), Some(value))
                }
                None => (word, None),
            };
            if name.is_empty() {
                let at = self.line.position(at);
                return Err(Problem::new(at, "an ARG without a name: write NAME=VALUE"));
            }
            args.push((name, value));
        }
        Ok(args)
    }

    /// `NAME=VALUE` words, or one `NAME VALUE`.
    fn pairs(&self) -> Result<Vec<(Piece, Piece)>, Problem> {
        let name = &self.name;
        let start = self.flags("", |_| Ok(false))?;
        let (at, text) = self.text(start);
        let words = raw_words(text, at, self.escape);
        let Some((_, first)) = words.first() else {
            return Err(self.refuse(format_args!(
                "{name} needs a name and a value: write {name} NAME=VALUE"
            )));
        };
        if !first.contains('=') {
            let end = text.find(char::is_whitespace).unwrap_or(text.len());
            let (key, rest) = text.split_at(end);
            let value = rest.trim_start();
            if value.is_empty() {
                return Err(Problem::new(
                    self.line.position(at),
                    format_args!("{key:?} has no value: write {name} {key}=VALUE"),
                ));
            }
            let value_at = at + text.len() - value.len();
            return Ok(vec![(self.piece(at, key), self.piece(value_at, value))]);
        }
        let pairs = words.into_iter().map(|(at, word)| {
            let place = self.line.position(at);
            match word.split_once('=') {
                None => Err(Problem::new(
                    place,
                    format_args!("{word:?} has no `=`: write NAME=VALUE, with a value that has blanks in double quotes"),
                )),
                Some(("", _)) => Err(Problem::new(place, "a value without a name: write NAME=VALUE")),
                Some((key, value)) => Ok((
                    self.piece(at, key),
                    self.piece(at + key.len() + 1, value),
                )),
            }
        });
        pairs.collect()
    }

    fn run(&self) -> Result<RunLine, Problem> {
        let mut mounts = Vec::new();
        let mut no_network = false;
        let start = self.flags("--mount and --network", |flag| {
            match flag.name.as_str() {
                "mount" => mounts.push(mounts::read(flag)?),
                "network" => no_network = network(flag)?,
                // What every guest is in.
                "security" if flag.value.as_deref() == Some("sandbox") => {}
                "security" | "device" => {
                    return Err(Problem::new(
                        flag.at,
                        format_args!(
                            "--{}: a guest of WebAssembly has no such thing: leave it out",
                            flag.name
                        ),
                    ));
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let command = self.command_at(start)?;
        Ok(RunLine {
            command,
            mounts,
            no_network,
            is_script: self.is_script(start)?,
            heredocs: self.line.heredocs.clone(),
        })
    }

    /// Returns whether all that `RUN` says is one here-document, and refuses one that names another
    /// interpreter than the shell that would read it.
    fn is_script(&self, start: usize) -> Result<bool, Problem> {
        let (at, text) = self.text(start);
        let words = heredoc::words(text, at, self.escape);
        let is_script = matches!(words.as_slice(), [(_, HeredocWord::Begins(_))]);
        let mut texts = self.line.heredocs.iter().map(|doc| &doc.content);
        match is_script && texts.any(|text| text.starts_with("#!")) {
            true => Err(Problem::new(
                self.line.position(at),
                "the here-document begins with #! and is for the stage's SHELL: write COPY <<script /script, and RUN [\"/INTERPRETER.wasm\", \"/script\"]",
            )),
            false => Ok(is_script),
        }
    }

    /// Checks `HEALTHCHECK`, of which nothing is kept.
    fn healthcheck(&self) -> Result<(), Problem> {
        let known = "--interval, --timeout, --start-period, --start-interval and --retries";
        let start = self.flags(known, |flag| match flag.name.as_str() {
            "interval" | "timeout" | "start-period" | "start-interval" | "retries" => {
                flag.value().map(|_| true)
            }
            _ => Ok(false),
        })?;
        let (_, text) = self.text(start);
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        match (word.to_ascii_uppercase().as_str(), rest.trim().is_empty()) {
            ("NONE", true) | ("CMD", false) => Ok(()),
            _ => Err(self.refuse("write `HEALTHCHECK CMD PROGRAM` or `HEALTHCHECK NONE`")),
        }
    }

    fn command(&self) -> Result<CommandLine, Problem> {
        let start = self.flags("", |_| Ok(false))?;
        self.command_at(start)
    }

    /// The exec form, or text for a shell.
    fn command_at(&self, start: usize) -> Result<CommandLine, Problem> {
        let (at, text) = self.text(start);
        let name = &self.name;
        if text.is_empty() {
            return Err(self.refuse(format_args!(
                "{name} needs a program: write {name} [\"/PROGRAM.wasm\"]"
            )));
        }
        match json(self.line, start)? {
            Some(words) if words.is_empty() && name == "RUN" => {
                Err(self.refuse("RUN needs a program: write RUN [\"/PROGRAM.wasm\"]"))
            }
            Some(words) => Ok(CommandLine::Exec(words)),
            None => Ok(CommandLine::Shell(self.piece(at, text))),
        }
    }

    fn shell(&self) -> Result<Vec<String>, Problem> {
        let start = self.flags("", |_| Ok(false))?;
        match json(self.line, start)? {
            Some(words) if !words.is_empty() => Ok(words),
            _ => {
                Err(self.refuse("SHELL needs a JSON array: write SHELL [\"/bin/sh.wasm\", \"-c\"]"))
            }
        }
    }
}

/// Reads `--network`: whether it says that there is none.
fn network(flag: &Flag) -> Result<bool, Problem> {
    match flag.value()?.as_str() {
        "none" => Ok(true),
        "default" => Ok(false),
        other => Err(Problem::new(
            flag.at,
            format_args!(
                "--network={other}: a guest has no network but the hosts of --allow-net: write --network=none or --network=default"
            ),
        )),
    }
}

#[cfg(test)]
mod tests;
