//! Messages in the encoding of protocol buffers: what the task service needs of it.
//!
//! Fields that are not known are skipped, as the encoding asks. Nothing is allocated for a
//! length that the bytes do not have.

use std::fmt;

/// The bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireError(&'static str);

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a message of protocol buffers: {}", self.0)
    }
}

impl std::error::Error for WireError {}

/// The value of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireValue<'b> {
    /// A number or a truth value.
    Varint(u64),
    /// A text, bytes, or a message.
    Bytes(&'b [u8]),
    /// A number of fixed length, which no message here has.
    Fixed,
}

/// Reads fields one after another.
pub struct WireReader<'b>(&'b [u8]);

impl<'b> WireReader<'b> {
    /// Begins at the beginning.
    #[must_use]
    pub fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    /// Returns the number and value of the next field.
    ///
    /// # Errors
    /// The bytes end in the middle, or are none of the encoding.
    pub fn field(&mut self) -> Result<Option<(u32, WireValue<'b>)>, WireError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number =
            u32::try_from(key >> 3).map_err(|_| WireError("a field number is too large"))?;
        let value = match key & 7 {
            0 => WireValue::Varint(self.varint()?),
            1 => self.take(8).map(|_| WireValue::Fixed)?,
            2 => {
                let len = self.varint()?;
                let len = usize::try_from(len).map_err(|_| WireError("a length is too large"))?;
                WireValue::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| WireValue::Fixed)?,
            _ => return Err(WireError("a field has no known type")),
        };
        Ok(Some((number, value)))
    }

    fn take(&mut self, len: usize) -> Result<&'b [u8], WireError> {
        let (taken, rest) = self
            .0
            .split_at_checked(len)
            .ok_or(WireError("it ends in the middle of a field"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take(1)? else { break };
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError("a number has more than ten bytes"))
    }
}

/// Writes fields one after another.
#[derive(Default)]
pub struct WireWriter(Vec<u8>);

impl WireWriter {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    /// Writes a number; zero is left out.
    pub fn number(&mut self, number: u32, value: u64) {
        if value != 0 {
            self.varint(u64::from(number) << 3);
            self.varint(value);
        }
    }

    /// Writes bytes, also if there are none.
    pub fn bytes(&mut self, number: u32, value: &[u8]) {
        self.varint(u64::from(number) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }
}

/// What can be the value of a field.
pub trait WireField {
    /// Writes it, unless it is what a missing field means.
    fn write(&self, number: u32, out: &mut WireWriter);

    /// Takes what was read.
    ///
    /// # Errors
    /// It is of another type.
    fn read(&mut self, value: WireValue<'_>) -> Result<(), WireError>;
}

/// A message: the macro `message` makes one of its fields.
pub trait Message: Default {
    /// Writes all fields.
    fn write_fields(&self, out: &mut WireWriter);

    /// Takes a field, or leaves it if it is not known.
    ///
    /// # Errors
    /// It is of another type than it should be.
    fn read_field(&mut self, number: u32, value: WireValue<'_>) -> Result<(), WireError>;

    /// Returns the message as bytes.
    fn encode(&self) -> Vec<u8> {
        let mut out = WireWriter::default();
        self.write_fields(&mut out);
        out.0
    }

    /// Reads a message.
    ///
    /// # Errors
    /// The bytes are none.
    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut message = Self::default();
        let mut reader = WireReader::new(bytes);
        while let Some((number, value)) = reader.field()? {
            message.read_field(number, value)?;
        }
        Ok(message)
    }
}

fn bytes_of(value: WireValue<'_>) -> Result<&[u8], WireError> {
    match value {
        WireValue::Bytes(bytes) => Ok(bytes),
        _ => Err(WireError("a number where bytes should be")),
    }
}

fn number_of(value: WireValue<'_>) -> Result<u64, WireError> {
    match value {
        WireValue::Varint(number) => Ok(number),
        _ => Err(WireError("bytes where a number should be")),
    }
}

impl WireField for String {
    fn write(&self, number: u32, out: &mut WireWriter) {
        if !self.is_empty() {
            out.bytes(number, self.as_bytes());
        }
    }

    fn read(&mut self, value: WireValue<'_>) -> Result<(), WireError> {
        let text = std::str::from_utf8(bytes_of(value)?);
        *self = text
            .map_err(|_| WireError("a text is not UTF-8"))?
            .to_owned();
        Ok(())
    }
}

impl WireField for Vec<u8> {
    fn write(&self, number: u32, out: &mut WireWriter) {
        if !self.is_empty() {
            out.bytes(number, self);
        }
    }

    fn read(&mut self, value: WireValue<'_>) -> Result<(), WireError> {
        *self = bytes_of(value)?.to_vec();
        Ok(())
    }
}

impl WireField for bool {
    fn write(&self, number: u32, out: &mut WireWriter) {
        out.number(number, u64::from(*self));
    }

    fn read(&mut self, value: WireValue<'_>) -> Result<(), WireError> {
        *self = number_of(value)? != 0;
        Ok(())
    }
}

impl WireField for u64 {
    fn write(&self, number: u32, out: &mut WireWriter) {
        out.number(number, *self);
    }

    fn read(&mut self, value: WireValue<'_>) -> Result<(), WireError> {
        *self = number_of(value)?;
        Ok(())
    }
}

impl WireField for u32 {
    fn write(&self, number: u32, out: &mut WireWriter) {
        out.number(number, u64::from(*self));
    }

    fn read(&mut self, value: WireValue<'_>) -> Result<(), WireError> {
        let number = u32::try_from(number_of(value)?);
        *self = number.map_err(|_| WireError("a number has more than 32 bits"))?;
        Ok(())
    }
}

impl WireField for Vec<String> {
    fn write(&self, number: u32, out: &mut WireWriter) {
        for text in self {
            out.bytes(number, text.as_bytes());
        }
    }

    fn read(&mut self, value: WireValue<'_>) -> Result<(), WireError> {
        let mut text = String::new();
        text.read(value)?;
        self.push(text);
        Ok(())
    }
}

impl<M: Message> WireField for Option<M> {
    fn write(&self, number: u32, out: &mut WireWriter) {
        if let Some(message) = self {
            out.bytes(number, &message.encode());
        }
    }

    fn read(&mut self, value: WireValue<'_>) -> Result<(), WireError> {
        *self = Some(M::decode(bytes_of(value)?)?);
        Ok(())
    }
}

impl<M: Message> WireField for Vec<M> {
    fn write(&self, number: u32, out: &mut WireWriter) {
        for message in self {
            out.bytes(number, &message.encode());
        }
    }

    fn read(&mut self, value: WireValue<'_>) -> Result<(), WireError> {
        self.push(M::decode(bytes_of(value)?)?);
        Ok(())
    }
}

/// Makes messages of their fields and numbers.
macro_rules! message {
    ($($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $field:ident: $kind:ty = $number:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name {
            $($(#[$of])* pub $field: $kind,)*
        }

        impl $crate::wire::Message for $name {
            fn write_fields(&self, out: &mut $crate::wire::WireWriter) {
                $($crate::wire::WireField::write(&self.$field, $number, out);)*
            }

            fn read_field(
                &mut self,
                number: u32,
                value: $crate::wire::WireValue<'_>,
            ) -> Result<(), $crate::wire::WireError> {
                match number {
                    $($number => $crate::wire::WireField::read(&mut self.$field, value),)*
                    _ => Ok(()),
                }
            }
        }
    )*};
}

pub(crate) use message;
