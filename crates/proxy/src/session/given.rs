//! Values that the proxy gives and takes in a server's stead: results in the types and formats that a server would give,
//! and the parameters of a Bind.

use highwater_wire::backend::{self, ColumnType};
use highwater_wire::frontend::Bind;
use highwater_wire::{Format, Offence};

/// What a statement of ours gives back.
#[derive(Debug, PartialEq)]
pub(super) enum Given {
    /// A command tag.
    Done(&'static str),
    /// One row of one column; the tag is its statement's.
    Row { column: String, value: Datum, tag: &'static str },
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Datum {
    Text(String),
    /// What a function gives back that returns nothing.
    Void,
    Bool(bool),
    Int4(i32),
}

impl Given {
    /// Writes the answer to an Execute, or to a Query if the row is to be described.
    pub(super) fn write(&self, out: &mut Vec<u8>, format: Format, described: bool) {
        match self {
            Self::Done(tag) => backend::command_complete(out, tag),
            Self::Row { column, value, tag } => {
                if described {
                    backend::column_description(out, column, value.column_type(), format);
                }
                backend::data_row(out, &[Some(value.encode(format))]);
                backend::command_complete(out, tag);
            }
        }
    }
}

impl Datum {
    pub(super) fn column_type(&self) -> ColumnType {
        match self {
            Self::Text(_) => ColumnType::TEXT,
            Self::Void => ColumnType::VOID,
            Self::Bool(_) => ColumnType::BOOL,
            Self::Int4(_) => ColumnType::INT4,
        }
    }

    fn encode(&self, format: Format) -> Vec<u8> {
        match (self, format) {
            (Self::Text(text), _) => text.clone().into_bytes(),
            (Self::Void, _) => Vec::new(),
            (Self::Bool(value), Format::Text) => vec![if *value { b't' } else { b'f' }],
            (Self::Bool(value), Format::Binary) => vec![u8::from(*value)],
            (Self::Int4(value), Format::Text) => value.to_string().into_bytes(),
            (Self::Int4(value), Format::Binary) => value.to_be_bytes().to_vec(),
        }
    }
}

/// A parameter as far as it can be read without its type.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Param {
    /// Text and binary are the same bytes for text.
    pub(super) text: Option<String>,
    pub(super) number: Option<i64>,
}

impl Param {
    fn read(value: Option<&[u8]>, format: Format) -> Self {
        let text = value.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let number = match (value, format) {
            (Some(bytes), Format::Binary) => match bytes.len() {
                2 => bytes.try_into().ok().map(|bytes| i64::from(i16::from_be_bytes(bytes))),
                4 => bytes.try_into().ok().map(|bytes| i64::from(i32::from_be_bytes(bytes))),
                8 => bytes.try_into().ok().map(i64::from_be_bytes),
                _ => None,
            },
            _ => text.as_ref().and_then(|text| text.trim().parse().ok()),
        };
        Self { text, number }
    }

    /// Those of a Bind.
    pub(super) fn all(bind: &Bind<'_>) -> Result<Vec<Self>, Offence> {
        let params = bind.params()?;
        let format = |place| params.formats.of(place).unwrap_or(Format::Text);
        Ok(params.values.iter().enumerate().map(|(place, value)| Self::read(value, format(place))).collect())
    }

    /// The parameter `$number` of these.
    pub(super) fn of(number: u32, params: &[Self]) -> Option<&Self> {
        params.get(usize::try_from(number).ok()?.checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_both_formats() {
        let read = |bytes: &[u8], format| Param::read(Some(bytes), format).number;
        assert_eq!(read(b"9000001", Format::Text), Some(9_000_001));
        assert_eq!(read(&9_000_001_i32.to_be_bytes(), Format::Binary), Some(9_000_001));
        assert_eq!(read(b"x", Format::Text), None);
        assert_eq!(Param::read(None, Format::Text), Param::default());
    }

    #[test]
    fn values_are_written_in_both_formats() {
        assert_eq!(Datum::Bool(true).encode(Format::Text), b"t");
        assert_eq!(Datum::Bool(true).encode(Format::Binary), [1]);
        assert_eq!(Datum::Int4(7).encode(Format::Text), b"7");
        assert_eq!(Datum::Int4(7).encode(Format::Binary), [0, 0, 0, 7]);
    }
}
