//! The program that goes on from a point: in memory, or in an image until it is needed.

use std::borrow::Cow;

use super::CheckpointError;
use super::saved::{PROGRAM, read_program};
use crate::chunk::digest_of_bytes;
use crate::digest::Digest;
use crate::errno::Errno;
use crate::error::Error;
use crate::image::Image;
use crate::limits::MAX_CHECKPOINT_PROGRAM;
use crate::name::LayerPath;
use crate::runner::guest::GuestSource;
use crate::runner::{Guest, GuestKind, RunnerError};
use crate::vfs::Fs;

/// A core module, which may not have been read yet.
pub(super) enum FrozenProgram {
    /// It was frozen here.
    Held(Vec<u8>),
    /// It lies in an image.
    AtRest(ProgramAtRest),
}

/// A program of an image, and what is said of its bytes.
pub(super) struct ProgramAtRest {
    image: Image,
    /// What the index of the image says.
    content: Digest,
    /// What the state of the checkpoint says.
    module_digest: String,
}

impl FrozenProgram {
    /// Finds the program in an image, without reading it.
    pub(super) fn in_image(image: &Image, module_digest: String) -> Result<Self, CheckpointError> {
        let failed = |errno| Error::new("read", PROGRAM.as_bytes(), errno);
        let path = LayerPath::parse(PROGRAM.trim_start_matches('/').as_bytes());
        let content = path.ok().and_then(|path| image.content_at(&path));
        let content = content.ok_or_else(|| failed(Errno::NoEntry))?;
        if content.size() > MAX_CHECKPOINT_PROGRAM {
            return Err(failed(Errno::FileTooLarge).into());
        }
        Ok(Self::AtRest(ProgramAtRest {
            image: image.clone(),
            content: content.digest(),
            module_digest,
        }))
    }

    /// Returns the bytes; those of an image are read each time, and compared with both digests.
    pub(super) fn bytes(&self) -> Result<Cow<'_, [u8]>, CheckpointError> {
        match self {
            Self::Held(bytes) => Ok(Cow::Borrowed(bytes)),
            Self::AtRest(program) => program.read().map(Cow::Owned),
        }
    }

    /// Returns the digest of the bytes as a file's content. O(bytes) if they are held.
    fn content(&self) -> Digest {
        match self {
            Self::Held(bytes) => digest_of_bytes(bytes),
            Self::AtRest(program) => program.content,
        }
    }

    /// Returns what the state of the checkpoint says of the bytes. O(bytes) if they are held.
    pub(super) fn module_digest(&self) -> String {
        match self {
            Self::Held(bytes) => Digest::of(bytes).to_string(),
            Self::AtRest(program) => program.module_digest.clone(),
        }
    }
}

impl ProgramAtRest {
    fn read(&self) -> Result<Vec<u8>, CheckpointError> {
        let module = read_program(&Fs::new(&self.image))?;
        let digest = Digest::of(&module).to_string();
        let (found, said) = match digest == self.module_digest {
            false => (digest, &self.module_digest),
            // The index may be somebody else's as well: code is kept under what it says.
            true => match digest_of_bytes(&module) {
                found if found == self.content => return Ok(module),
                found => (found.to_string(), &self.content.to_string()),
            },
        };
        Err(CheckpointError::Damaged {
            reason: format!("{PROGRAM}: expected the digest {said}, found {found}"),
        })
    }
}

/// A program with the name of the guest that was frozen.
pub(super) struct NamedProgram<'p> {
    pub(super) name: &'p str,
    pub(super) program: &'p FrozenProgram,
}

impl GuestSource for NamedProgram<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn kind(&self) -> GuestKind {
        GuestKind::Core
    }

    /// Code is kept once the bytes have both digests, so both stand for them.
    fn identity(&self) -> Cow<'_, [u8]> {
        let (content, module) = (self.program.content(), self.program.module_digest());
        Cow::Owned(format!("{content} {module}").into_bytes())
    }

    fn guest(&self) -> Result<Cow<'_, Guest>, RunnerError> {
        let unreadable = |error: CheckpointError| RunnerError::Unreadable {
            name: self.name.to_owned(),
            reason: error.to_string(),
        };
        let bytes = self.program.bytes().map_err(unreadable)?;
        Ok(Cow::Owned(Guest::from_bytes(self.name, bytes)?))
    }
}
